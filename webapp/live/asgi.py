"""The live streams: server-sent events, answered beside Django so that a stream costs neither thread nor connection."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from asgiref.sync import sync_to_async
from django.db import Error, connection

from polm_core.errors import PolmError
from webapp.errors import Unavailable, status_of
from webapp.live.callers import Unauthenticated
from webapp.live.hub import RESYNC, Hub, Subscription
from webapp.live.streams import PageStream, RunStream, Scope, Stream

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
T = TypeVar("T")
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
    hub = Hub()

    async def studio(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(hub, receive, send)
        elif (stream := _stream_for(scope)) is not None:
            await _serve(stream, hub, receive, send)
        else:
            await application(scope, receive, send)

    return studio


def _stream_for(scope: Scope) -> Stream | None:
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    if scope["path"] == "/events":
        return PageStream(scope)
    if match := _RUN_EVENTS.fullmatch(scope["path"]):
        return RunStream(scope, match[1])
    return None


async def _lifespan(hub: Hub, receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await hub.stop()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _serve(stream: Stream, hub: Hub, receive: Receive, send: Send) -> None:
    try:
        if hub.subscribers >= MAX_STREAMS:
            raise Unavailable("Too many live streams are open.", advice="Close some, or try again later.")
        await _in_database(stream.check)
    except PolmError as error:
        await _refuse(error, send)
        return
    with hub.subscribe(stream.topics) as events:
        await hub.listening(LISTEN_TIMEOUT)
        tasks = [asyncio.create_task(_pump(stream, events, send)), asyncio.create_task(_disconnected(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if not tasks[0].cancelled():
        tasks[0].result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pump(stream: Stream, events: Subscription, send: Send) -> None:
    """Send what happens until the caller may no longer see it, or the database cannot say what was missed."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await _write(b"retry: %d\n\n" % RETRY_MS, send)
    try:
        await _write(await _in_database(stream.start), send)
        checked = time.monotonic()
        while True:
            frame = await _next_frame(stream, events)
            if time.monotonic() - checked >= RECHECK:
                await _in_database(stream.check)
                checked = time.monotonic()
            await _write(frame, send)
    except (PolmError, Error):
        await send({"type": "http.response.body", "body": b""})


async def _next_frame(stream: Stream, events: Subscription) -> bytes:
    try:
        event = await asyncio.wait_for(events.get(), HEARTBEAT)
    except TimeoutError:
        return b": still here\n\n"
    frame = None if event is RESYNC else stream.frame(event)
    return await _in_database(stream.catch_up) if frame is None else frame


async def _write(frame: bytes, send: Send) -> None:
    if frame:
        await send({"type": "http.response.body", "body": frame, "more_body": True})


async def _refuse(error: PolmError, send: Send) -> None:
    status = 401 if isinstance(error, Unauthenticated) else status_of(error)
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps({"error": error.as_dict()})})


async def _in_database(function: Callable[[], T]) -> T:
    """Run `function` where Django may use the database, and leave no connection behind."""

    def run() -> T:
        try:
            return function()
        finally:
            connection.close()

    return await sync_to_async(run)()
