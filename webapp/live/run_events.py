"""One run's events, each with the position it leads to, so that a client that comes back hears what it missed."""

import uuid
from dataclasses import dataclass, replace
from typing import Any

import orjson

from webapp.errors import NotFound
from webapp.live.hub import Event
from webapp.runs.models import Run


@dataclass(frozen=True, slots=True)
class Position:
    """How much of a run is stored: metric lines, bytes of log and of samples, and its status.

    Written as the id of the run's events: `lines:log:samples:status`.
    """

    lines: int = 0
    log: int = 0
    samples: int = 0
    status: str = ""

    def __str__(self) -> str:
        return f"{self.lines}:{self.log}:{self.samples}:{self.status}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The position with that id; the very beginning for a text that is none."""
        try:
            lines, log, samples, status = text.split(":")
            return cls(int(lines), int(log), int(samples), status)
        except ValueError:
            return cls()

    @classmethod
    def of(cls, run_id: uuid.UUID) -> "Position":
        """How much of the run is stored now. Raises NotFound when it was deleted."""
        columns = ("metrics_lines", "log_base", "log_offset", "samples_base", "samples_offset")
        row = Run.objects.filter(pk=run_id).values_list("status", *(f"ingest__{name}" for name in columns)).first()
        if row is None:
            raise NotFound("There is no such run.")
        lines, log_base, log_offset, samples_base, samples_offset = (number or 0 for number in row[1:])
        return cls(lines, log_base + log_offset, samples_base + samples_offset, row[0])


# Which entry of an event's data is which part of the position. Status comes last: who hears that a run has ended has
# heard of everything before.
_PARTS = {
    "metrics": ("lines", "lines"),
    "log": ("to", "log"),
    "sample": ("to", "samples"),
    "status": ("status", "status"),
}


class RunEvents:
    """What a client that is at some position of a run is to be sent."""

    def __init__(self, run_id: uuid.UUID, last_event_id: str = "") -> None:
        self._run_id = run_id
        self._position = Position.parse(last_event_id)

    def catch_up(self) -> bytes:
        """One event of each kind of which something new is stored. Raises NotFound when the run was deleted."""
        now = Position.of(self._run_id)
        frames = []
        for kind, (name, part) in _PARTS.items():
            value = getattr(now, part)
            if value != getattr(self._position, part):
                frames.append(self._advance(kind, {name: value}, part, value))
        return b"".join(frames)

    def frame(self, event: Event) -> bytes | None:
        """The event as it is sent: empty when the client has heard of it, None when only `catch_up` can tell."""
        if event.kind not in _PARTS:
            return b""
        name, part = _PARTS[event.kind]
        value = event.data.get(name)
        if value is None:
            return None
        if part != "status" and value <= getattr(self._position, part):
            return b""
        return self._advance(event.kind, event.data, part, value)

    def _advance(self, kind: str, data: dict[str, Any], part: str, value: Any) -> bytes:
        self._position = replace(self._position, **{part: value})
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(self._position).encode(), kind.encode(), orjson.dumps(data))
