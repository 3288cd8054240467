"""The two kinds of stream, as the ASGI layer serves them."""

from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import parse_qs

from webapp.live.callers import caller
from webapp.live.hub import Event
from webapp.live.run_events import RunEvents
from webapp.live.topics import require_topics
from webapp.runs.models import Run

Scope = dict[str, Any]


class Stream(Protocol):
    """One client's stream. `check` comes first; it, `start` and `catch_up` use the database and may raise PolmError."""

    topics: Sequence[str]

    def check(self) -> None:
        """Find out who calls and what they may hear, at the beginning and ever again."""

    def start(self) -> bytes:
        """What to send first."""

    def catch_up(self) -> bytes:
        """What to send when events may have been missed."""

    def frame(self, event: Event) -> bytes | None:
        """How an event is sent: empty when it is not, None when only `catch_up` can tell."""


class PageStream:
    """`/events?topic=...`: every event of the topics, as the one stream of an open page."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.topics: Sequence[str] = parse_qs(scope["query_string"].decode("latin-1")).get("topic", [])

    def check(self) -> None:
        self.topics = require_topics(caller(self._scope, tokens=False), self.topics)

    def start(self) -> bytes:
        return b""

    def catch_up(self) -> bytes:
        return b"event: resync\ndata: {}\n\n"

    def frame(self, event: Event) -> bytes:
        return b"data: %b\n\n" % event.payload


class RunStream:
    """`/api/v1/runs/{id}/events`: one run's events, from the position in `Last-Event-ID` on."""

    topics: Sequence[str] = ()

    def __init__(self, scope: Scope, run_id: str) -> None:
        self._scope = scope
        self._run_id = run_id
        self._events: RunEvents | None = None

    def check(self) -> None:
        run = caller(self._scope, tokens=True).get(Run.objects.only("team"), self._run_id)
        if self._events is None:
            last_event_id = dict(self._scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
            self._events = RunEvents(run.pk, last_event_id)
            self.topics = [f"run:{run.pk}"]

    @property
    def events(self) -> RunEvents:
        if self._events is None:
            raise RuntimeError("check() comes first")
        return self._events

    def start(self) -> bytes:
        return self.events.catch_up()

    def catch_up(self) -> bytes:
        return self.events.catch_up()

    def frame(self, event: Event) -> bytes | None:
        return self.events.frame(event)
