"""Answers that are a file, sent piece by piece: nothing is held in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase


def file_response(
    request: HttpRequest, content: Iterator[bytes], *, name: str, size: int, content_type: str
) -> HttpResponseBase:
    """The answer to GET and HEAD for a file of `size` bytes, saved under `name`; HEAD reads nothing of it."""
    response: HttpResponseBase
    if request.method == "HEAD":
        response = HttpResponse()
    else:
        response = StreamingHttpResponse(_from_threads(content) if isinstance(request, ASGIRequest) else content)
    response.headers["Content-Type"] = content_type
    response.headers["Content-Length"] = str(size)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _from_threads(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, each read in a thread, so that a slow reader holds neither a thread nor the event loop."""
    while (piece := await asyncio.to_thread(next, content, None)) is not None:
        yield piece
