"""What a request may send, bounded before Django sees it.

Django's ASGI handler takes a whole body in, however large, before anything can refuse it, and keeps it in the system's
temporary folder, which may be memory.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler

from polm_core.data.limits import human_bytes
from polm_core.errors import PolmError
from webapp.datasets.uploads import FORM_ALLOWANCE, check_disk, too_large
from webapp.errors import TooLarge, status_of

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class BoundedASGIHandler(ASGIHandler):
    """Django, for bodies within bounds: `MAX_UPLOAD_BYTES` for forms with files, `DATA_UPLOAD_MAX_MEMORY_SIZE` else.

    What is larger is answered with 413 as soon as its declared length or its size so far shows it, and what the disk
    has no room for with 503.
    """

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:  # type: ignore[override]
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


async def _check_declared(scope: Mapping[str, Any]) -> None:
    declared = _header(scope, b"content-length")
    if declared.isdigit():
        _check_size(scope, int(declared))
        if int(declared) > settings.FILE_UPLOAD_MAX_MEMORY_SIZE:
            # Received once, and written a second time where the file is taken out of the form.
            await sync_to_async(check_disk)(2 * int(declared))


def _bounded(scope: Mapping[str, Any], receive: Receive) -> Receive:
    """`receive`, refusing to go on past the limit: a body may come without a declared length, or with a false one."""
    received = 0

    async def bounded() -> Event:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        _check_size(scope, received)
        return message

    return bounded


def _check_size(scope: Mapping[str, Any], size: int) -> None:
    if _header(scope, b"content-type").startswith(b"multipart/form-data"):
        if size > settings.MAX_UPLOAD_BYTES + FORM_ALLOWANCE:
            raise too_large()
    elif size > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise TooLarge(f"The request is larger than {human_bytes(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)}.")


def _header(scope: Mapping[str, Any], name: bytes) -> bytes:
    return next((value.lower() for key, value in scope["headers"] if key == name), b"")


async def _refuse(error: PolmError, send: Send) -> None:
    body = json.dumps({"error": error.as_dict()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status_of(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})
