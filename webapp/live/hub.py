"""One LISTEN connection per process, fanned out to every stream that this process serves."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from django.db import connections

from webapp.live.notify import CHANNEL

logger = logging.getLogger(__name__)

QUEUE_SIZE = 256
FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0


@dataclass(frozen=True, slots=True)
class Event:
    """One notification; `payload` is its JSON as it came."""

    topic: str
    kind: str
    data: dict[str, Any]
    payload: bytes


# Events may have been missed: whoever receives this reads the present state.
RESYNC = Event("", "resync", {}, b"{}")


class Subscription:
    """The events of some topics, in order. One who does not keep up loses them all and is told to read afresh."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE_SIZE)

    async def get(self) -> Event:
        return await self._queue.get()

    def put(self, event: Event) -> None:
        if self._queue.full():
            event = RESYNC
        if event is RESYNC:
            while not self._queue.empty():
                self._queue.get_nowait()
        self._queue.put_nowait(event)


class Hub:
    """Listens while there are subscribers; reconnects with growing patience and then has everyone read afresh."""

    def __init__(self) -> None:
        self._topics: dict[str, set[Subscription]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self.subscribers = 0

    @contextmanager
    def subscribe(self, topics: Iterable[str]) -> Iterator[Subscription]:
        """The events of `topics` for as long as the context lasts."""
        subscription = Subscription()
        topics = set(topics)
        for topic in topics:
            self._topics[topic].add(subscription)
        self.subscribers += 1
        self._start()
        try:
            yield subscription
        finally:
            self.subscribers -= 1
            for topic in topics:
                self._topics[topic].discard(subscription)
                if not self._topics[topic]:
                    del self._topics[topic]

    async def listening(self, timeout: float) -> bool:
        """Wait until notifications arrive; False when they still do not after `timeout` seconds."""
        try:
            await asyncio.wait_for(self._listening.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Close the connection."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._listener is None or self._listener.done() or self._listener.get_loop() is not loop:
            self._listening = asyncio.Event()
            self._listener = loop.create_task(self._listen())

    async def _listen(self) -> None:
        delay = FIRST_DELAY
        missed = False
        while True:
            try:
                async with await _connect() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    delay = FIRST_DELAY
                    self._listening.set()
                    if missed:
                        self._resync()
                    async for notification in connection.notifies():
                        self._deliver(notification.payload.encode())
            except (psycopg.Error, OSError) as error:
                logger.warning("Live updates: the database does not answer (%s); trying again.", error)
            missed = True
            self._listening.clear()
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _resync(self) -> None:
        for subscription in {one for subscribers in self._topics.values() for one in subscribers}:
            subscription.put(RESYNC)

    def _deliver(self, payload: bytes) -> None:
        try:
            content = orjson.loads(payload)
            event = Event(content["topic"], content["kind"], content["data"], payload)
        except (ValueError, KeyError, TypeError):
            logger.warning("Live updates: a notification on channel %s is not one of ours.", CHANNEL)
            return
        for subscription in self._topics.get(event.topic, ()):
            subscription.put(event)


async def _connect() -> psycopg.AsyncConnection[Any]:
    """A connection to the database that Django uses, that notices when the other side is gone."""
    parameters = connections["default"].get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    keepalive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    settings = {"connect_timeout": 5, **keepalive, **parameters, "application_name": "studio live"}
    return await psycopg.AsyncConnection.connect(**settings, autocommit=True)
