"""Receiving files: within bounds, from known callers, and nothing left behind."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.test import Client

from tests.support.api import ApiClient
from tests.webapp.datasets import files
from webapp.accounts.access import Actor
from webapp.accounts.models import User
from webapp.accounts.services import token_create
from webapp.bodies import BoundedASGIHandler
from webapp.datasets import uploads
from webapp.datasets.models import Dataset

BOUNDARY = b"----boundary"
FORM_TYPE = b"multipart/form-data; boundary=" + BOUNDARY


def left() -> list[Path]:
    return list(Path(settings.UPLOADS_DIR).iterdir())


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert left() == []


def form(content: bytes, name: bytes = b"sums") -> bytes:
    return (
        b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + name + b"\r\n"
        b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n--" + BOUNDARY + b"--\r\n"
    )


# --- through Django ---------------------------------------------------------------------------------------------------


def test_one_byte_too_many_is_refused(api: ApiClient, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 1000
    send = lambda content: api.post(  # noqa: E731
        "/datasets", files={"file": SimpleUploadedFile("a.jsonl", content)}, form={"name": "a"}
    )
    refused = send(b"x" * 1001)
    assert refused.status_code == 413
    assert "larger than the 1000 bytes" in refused.json()["error"]["message"]
    assert send(b"x" * 1000).status_code == 201


def test_a_full_disk_is_said(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "DISK_RESERVE", 2**62)
    answer = api.post("/datasets", files={"file": SimpleUploadedFile("a.jsonl", b"{}")}, form={"name": "a"})
    assert answer.status_code == 503
    assert "disk is nearly full" in answer.json()["error"]["message"]


def test_a_form_that_breaks_off_leaves_nothing(api: ApiClient) -> None:
    whole = form(files.conversations())
    for length in (len(whole) - 60, len(whole) // 2, 130, 20):
        answer = api._client.generic("POST", "/api/v1/datasets", whole[:length], content_type=FORM_TYPE.decode())
        assert 400 <= answer.status_code < 500, answer.content
    assert not Dataset.objects.exists()


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=é"]
)
def test_a_form_without_a_boundary_is_malformed(api: ApiClient, content_type: str) -> None:
    answer = api._client.generic("POST", "/api/v1/datasets", form(b"{}"), content_type=content_type)
    assert 400 <= answer.status_code < 500, answer.content


def test_files_of_strangers_are_not_written(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(
        uploads.BoundedUploadHandler, "receive_data_chunk", lambda self, raw, start: written.append(raw)
    )
    for path in ("/api/v1/datasets", "/sign-in", "/datasets/"):
        Client().generic("POST", path, form(b"x" * 10_000), content_type=FORM_TYPE.decode())
    assert written == []


def test_what_a_killed_process_left_is_removed_in_time(api: ApiClient) -> None:
    old, fresh = (Path(settings.UPLOADS_DIR) / f"{name}.upload.jsonl" for name in ("old", "fresh"))
    for path, age in ((old, uploads.ABANDONED_SECONDS + 60), (fresh, 60)):
        path.write_bytes(b"{}")
        os.utime(path, (time.time() - age, time.time() - age))
    files_ = {"file": SimpleUploadedFile("a.jsonl", files.conversations())}
    assert api.post("/datasets", files=files_, form={"name": "a"}).status_code == 201
    assert left() == [fresh]
    fresh.unlink()


# --- before Django ----------------------------------------------------------------------------------------------------


def call(
    body: bytes,
    *,
    token: str = "",
    content_type: bytes = FORM_TYPE,
    declared: int | None = None,
    chunked: bool = False,
    breaks_off: bool = False,
) -> tuple[int, int]:
    """The status that the ASGI handler answers (0 for none), and how many bytes of the body it took."""
    headers = [(b"host", b"localhost"), (b"content-type", content_type)]
    if not chunked:
        headers.append((b"content-length", str(len(body) if declared is None else declared).encode()))
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/datasets",
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }
    taken = 0
    status = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        if taken >= len(body):
            if breaks_off:
                return {"type": "http.disconnect"}
            await asyncio.sleep(60)
        piece = body[taken : taken + 65536]
        taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": breaks_off or taken < len(body)}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    asyncio.run(BoundedASGIHandler()(scope, receive, send))
    return status, taken


@pytest.fixture
def token(member: User, monkeypatch: pytest.MonkeyPatch) -> str:
    # Every call answers in a thread of its own: a connection kept for the next one would never be closed.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    return token_create(actor=Actor(member), name="test")[1]


@pytest.mark.django_db(transaction=True)
def test_a_whole_upload(token: str) -> None:
    body = form(files.conversations(60_000))
    assert len(body) > settings.FILE_UPLOAD_MAX_MEMORY_SIZE
    assert call(body, token=token) == (201, len(body))
    assert call(form(files.conversations(), b"second"), token=token, chunked=True)[0] == 201
    assert Dataset.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_declared_length_over_the_limit_is_refused_unread(token: str) -> None:
    too_many = settings.MAX_UPLOAD_BYTES + uploads.FORM_ALLOWANCE + 1
    assert call(form(b"{}"), token=token, declared=too_many) == (413, 0)
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    assert call(b"{}", token=token, content_type=b"application/json", declared=limit + 1) == (413, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lie", [{"chunked": True}, {"declared": 100}])
def test_a_body_that_grows_over_the_limit_is_cut_off(token: str, settings: Any, lie: dict[str, Any]) -> None:
    settings.MAX_UPLOAD_BYTES = 1000
    limit = settings.MAX_UPLOAD_BYTES + uploads.FORM_ALLOWANCE
    status, taken = call(form(b"x" * 3 * limit), token=token, **lie)
    assert status == 413
    assert taken <= limit + 65536


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("who", ["", "polm_wrong"])
def test_large_files_of_strangers_are_refused_unread(who: str) -> None:
    assert call(form(b"x" * 10 * 1024**2), token=who) == (401, 0)
    assert call(form(b"{}"), token=who, chunked=True) == (401, 0)


@pytest.mark.django_db(transaction=True)
def test_a_full_disk_is_said_before_reading(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "DISK_RESERVE", 2**62)
    assert call(form(b"x" * 10 * 1024**2), token=token) == (503, 0)


@pytest.mark.django_db(transaction=True)
def test_a_client_that_goes_away_leaves_nothing(token: str) -> None:
    body = form(files.conversations(60_000))[:-1000]
    assert call(body, token=token, declared=len(body) + 1000, breaks_off=True)[0] == 0
    assert not Dataset.objects.exists()
