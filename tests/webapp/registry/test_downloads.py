"""The zip of a checkpoint: exact, verified while it is sent, and safe to unpack."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from tests.support.api import ApiClient
from tests.support.checkpoints import make_checkpoint
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.errors import NotFound
from webapp.registry.downloads import DamagedFile, archive
from webapp.registry.links import share_token
from webapp.registry.models import Checkpoint
from webapp.registry.shares import share_create


def members(content: bytes) -> dict[str, str]:
    """Each member's digest; opening checks the archive's own sums."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        return {name: hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist()}


def overwrite(key: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "changed").write_bytes(content)
    artifacts.put(tmp_path / "changed", key)


def test_the_archive_holds_the_files_but_not_the_trainers_state(checkpoint: Checkpoint) -> None:
    zipped = archive(checkpoint)
    content = b"".join(zipped.content)
    assert len(content) == zipped.size
    assert zipped.name == "first-20.zip"
    assert members(content) == {f"first-20/{file['path']}": file["sha256"] for file in checkpoint.download_files}
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert {info.compress_type for info in opened.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "etcpasswd.zip"),
        ('a"; filename="x', "a-filenamex.zip"),
        ("läufer\r\nX: y", "laufer-x-y.zip"),
        ("x" * 200, f"{'x' * 80}.zip"),
    ],
)
def test_the_archives_name_is_safe(team: Team, name: str, expected: str) -> None:
    zipped = archive(make_checkpoint(team, name))
    assert zipped.name == expected
    folder = expected.removesuffix(".zip")
    assert all(member.startswith(f"{folder}/") for member in members(b"".join(zipped.content)))


def test_a_name_without_a_letter_still_gives_a_file_name(team: Team) -> None:
    checkpoint = make_checkpoint(team, "…")
    assert archive(checkpoint).name == f"checkpoint-{checkpoint.pk}.zip"


@pytest.mark.parametrize("damage", [b"x" * 31, b"x" * 40, b"x"])
def test_a_damaged_file_breaks_the_download_off(checkpoint: Checkpoint, tmp_path: Path, damage: bytes) -> None:
    overwrite(f"{checkpoint.key}/config.json", damage, tmp_path)
    zipped = archive(checkpoint)
    received = bytearray()
    with pytest.raises(DamagedFile):
        _drain(zipped.content, received)
    assert len(received) < zipped.size
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(bytes(received)))


def _drain(content: Iterator[bytes], into: bytearray) -> None:
    for piece in content:
        into.extend(piece)


def test_a_missing_file_is_told_before_anything_is_sent(checkpoint: Checkpoint, api: ApiClient) -> None:
    artifacts.delete(f"{checkpoint.key}/config.json")
    with pytest.raises(NotFound):
        archive(checkpoint)
    assert api.get(f"/checkpoints/{checkpoint.pk}/download").status_code == 404


def test_api_and_page_send_it_with_its_length(api: ApiClient, pages: Client, checkpoint: Checkpoint) -> None:
    for answer in (
        api.get(f"/checkpoints/{checkpoint.pk}/download"),
        pages.get(f"/models/checkpoints/{checkpoint.pk}/download"),
    ):
        content = answer.getvalue()
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/zip"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="first-20.zip"'
        assert int(answer.headers["Content-Length"]) == len(content)
        assert len(members(content)) == 3


def test_head_tells_the_length_and_reads_nothing(pages: Client, actor: Actor, checkpoint: Checkpoint) -> None:
    share = share_create(actor=actor, checkpoint=checkpoint, link=True)
    for path in (
        f"/models/checkpoints/{checkpoint.pk}/download",
        f"/models/shared/{share_token(share)}/download",
    ):
        answer = pages.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["Content-Length"]) == archive(checkpoint).size
    share.refresh_from_db()
    assert share.downloads == 0


def test_downloads_are_counted_by_share(
    actor: Actor, outsider: User, signed_in: Any, client: Client, pages: Client, checkpoint: Checkpoint
) -> None:
    link = share_create(actor=actor, checkpoint=checkpoint, link=True)
    team_share = share_create(actor=actor, checkpoint=checkpoint, team="blue")
    client.get(f"/models/shared/{share_token(link)}/download").getvalue()
    client.get(f"/models/shared/{share_token(link)}/download").getvalue()
    signed_in(outsider).get(f"/models/checkpoints/{checkpoint.pk}/download").getvalue()
    pages.get(f"/models/checkpoints/{checkpoint.pk}/download").getvalue()
    link.refresh_from_db()
    team_share.refresh_from_db()
    assert (link.downloads, team_share.downloads) == (2, 1)


def test_under_asgi_it_is_streamed_piece_by_piece(actor: Actor, checkpoint: Checkpoint) -> None:
    token = share_token(share_create(actor=actor, checkpoint=checkpoint, link=True))

    async def fetch() -> list[bytes]:
        answer: Any = await AsyncClient().get(f"/models/shared/{token}/download")
        assert answer.is_async
        return [piece async for piece in answer]

    pieces = async_to_sync(fetch)()
    assert len(pieces) > 3
    assert len(members(b"".join(pieces))) == 3
