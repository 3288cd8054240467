"""The live streams: server-sent events, answered beside Django so that a stream costs neither thread nor connection."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from django.db import Error

from polm_core.errors import PolmError
from webapp.errors import Unavailable, status_of
from webapp.live.callers import Unauthenticated
from webapp.live.desk import Desk
from webapp.live.hub import RESYNC, Hub, Subscription
from webapp.live.streams import PageStream, RunStream, Scope, Stream

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HEARTBEAT = 15.0
# With the heartbeat between two looks, a token that was revoked is cut off within a minute.
RECHECK = 40.0
LISTEN_TIMEOUT = 2.0
MAX_STREAMS = 2_000
RETRY_MS = 2_000

_RUN_EVENTS = re.compile(r"/api/v1/runs/([^/]+)/events")
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


def with_streams(application: Application) -> Application:
    """`application` with `/events` and `/api/v1/runs/{id}/events` answered as streams."""
    return _Streams(application)


class _Streams:
    """The streams of one process, around the application that answers everything else."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._hub = Hub()
        self._desk = Desk()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif (stream := _stream_for(scope)) is None:
            await self._application(scope, receive, send)
        elif (refusal := await self._refusal(stream)) is not None:
            await _refuse(refusal, send)
        else:
            await self._serve(stream, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        ended = False
        while not ended:
            message = await receive()
            ended = message["type"] == "lifespan.shutdown"
            if ended:
                await self._hub.stop()
            await send({"type": f"{message['type']}.complete"})

    async def _refusal(self, stream: Stream) -> PolmError | None:
        if self._hub.subscribers >= MAX_STREAMS:
            return Unavailable("Too many live streams are open.", advice="Close some, or try again later.")
        try:
            await self._desk.ask(stream.check)
        except PolmError as error:
            return error
        except Error:
            return Unavailable("The database does not answer.", advice="Try again in a moment.")
        return None

    async def _serve(self, stream: Stream, receive: Receive, send: Send) -> None:
        with self._hub.subscribe(stream.topics) as events:
            await self._hub.listening(LISTEN_TIMEOUT)
            pump = asyncio.create_task(self._pump(stream, events, send))
            gone = asyncio.create_task(_disconnected(receive))
            try:
                await asyncio.wait([pump, gone], return_when=asyncio.FIRST_COMPLETED)
            finally:
                pump.cancel()
                gone.cancel()
                await asyncio.gather(pump, gone, return_exceptions=True)
        if not pump.cancelled():
            pump.result()

    async def _pump(self, stream: Stream, events: Subscription, send: Send) -> None:
        """Send what happens until the caller may no longer see it, or the database cannot say what was missed."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _write(b"retry: %d\n\n" % RETRY_MS, send)
        try:
            await _write(await self._desk.ask(stream.start), send)
            checked = time.monotonic()
            while True:
                frame = await self._next_frame(stream, events)
                if time.monotonic() - checked >= RECHECK:
                    await self._desk.ask(stream.check)
                    checked = time.monotonic()
                await _write(frame, send)
        except (PolmError, Error):
            await send({"type": "http.response.body", "body": b""})

    async def _next_frame(self, stream: Stream, events: Subscription) -> bytes:
        try:
            event = await asyncio.wait_for(events.get(), HEARTBEAT)
        except TimeoutError:
            return b": still here\n\n"
        frame = None if event is RESYNC else stream.frame(event)
        return await self._desk.ask(stream.catch_up) if frame is None else frame


def _stream_for(scope: Scope) -> Stream | None:
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    if scope["path"] == "/events":
        return PageStream(scope)
    if match := _RUN_EVENTS.fullmatch(scope["path"]):
        return RunStream(scope, match[1])
    return None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _write(frame: bytes, send: Send) -> None:
    if frame:
        await send({"type": "http.response.body", "body": frame, "more_body": True})


async def _refuse(error: PolmError, send: Send) -> None:
    status = 401 if isinstance(error, Unauthenticated) else status_of(error)
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps({"error": error.as_dict()})})
