"""What a request may send, bounded before Django sees it.

Django's ASGI handler takes a whole body in, however large, before anything can refuse it, and keeps it in the system's
temporary folder, which may be memory.
"""

import json
from collections.abc import Awaitable, Callable
from io import SEEK_END
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.db import connection
from django.http.response import HttpResponseBase

from polm_core.data.limits import human_bytes
from polm_core.errors import PolmError
from webapp.datasets.uploads import FORM_ALLOWANCE, check_disk, too_large
from webapp.errors import TooLarge, status_of
from webapp.live.callers import Unauthenticated, caller

Scope = dict[str, Any]
Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class BoundedASGIHandler(ASGIHandler):
    """Django, for bodies within bounds: `MAX_UPLOAD_BYTES` for forms with files, `DATA_UPLOAD_MAX_MEMORY_SIZE` else.

    What is larger is answered with 413 as soon as its declared length or its size so far shows it. A form with large
    files is received from known callers only (else 401), and while the disk has room for it (else 503).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        try:
            await _check_declared(scope)
            await super().__call__(scope, _bounded(scope, receive), send)  # type: ignore[arg-type]
        except PolmError as error:
            await _refuse(error, send)

    async def read_body(self, receive: Receive) -> IO[bytes]:  # type: ignore[override]
        """The body in a file on the disk of the uploads; a small one stays in memory."""
        body = SpooledTemporaryFile(  # noqa: SIM115 - closed with the request
            max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE, dir=str(settings.UPLOADS_DIR)
        )
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestAborted
                body.write(message.get("body", b""))
                more = message.get("more_body", False)
            body.seek(0)
        except BaseException:
            body.close()
            raise
        return body

    def create_request(  # type: ignore[override]
        self, scope: Scope, body_file: IO[bytes]
    ) -> tuple[ASGIRequest, None] | tuple[None, HttpResponseBase]:
        """Declares the length of a body that came in chunks: Django takes a form without one for empty."""
        if not _header(scope, b"content-length"):
            length = str(body_file.seek(0, SEEK_END)).encode()
            body_file.seek(0)
            scope = {**scope, "headers": [*scope["headers"], (b"content-length", length)]}
        return super().create_request(scope, body_file)


async def _check_declared(scope: Scope) -> None:
    length = _header(scope, b"content-length")
    declared = int(length) if length.isdigit() else None
    _check_size(scope, declared or 0)
    if _is_form_with_files(scope) and (declared is None or declared > settings.FILE_UPLOAD_MAX_MEMORY_SIZE):
        await sync_to_async(_check_large_form)(scope, declared or 0)


def _check_large_form(scope: Scope, size: int) -> None:
    """Only known callers may fill the disk, and only while there is room."""
    try:
        caller(scope, tokens=True)
    finally:
        connection.close()
    # Received once, and written a second time where the file is taken out of the form.
    check_disk(2 * size)


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """`receive`, refusing to go on past the limit: a body may come without a declared length, or with a false one."""
    received = 0

    async def bounded() -> Event:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        _check_size(scope, received)
        return message

    return bounded


def _check_size(scope: Scope, size: int) -> None:
    if _is_form_with_files(scope):
        if size > settings.MAX_UPLOAD_BYTES + FORM_ALLOWANCE:
            raise too_large()
    elif size > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise TooLarge(f"The request is larger than {human_bytes(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)}.")


def _is_form_with_files(scope: Scope) -> bool:
    return _header(scope, b"content-type").startswith(b"multipart/form-data")


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value.lower() for key, value in scope["headers"] if key == name), b"")


async def _refuse(error: PolmError, send: Send) -> None:
    body = json.dumps({"error": error.as_dict()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    status = 401 if isinstance(error, Unauthenticated) else status_of(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
