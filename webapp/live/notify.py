"""Telling open pages and API streams that something changed.

Imports nothing of the studio, so that every service may use it.

Topics are `run:<id>`, `dataset:<id>`, `model:<id>`, `batch:<id>`, `team:<id>` and `alerts:<id of a team>`; kinds are
`status`, `metrics`, `log`, `sample`, `checkpoint`, `progress`, `token` and `alert`. An event says that there is
something new and where; whoever needs the thing itself reads it. On a `run:` topic `status` carries `status`,
`metrics` carries `lines` (metric lines stored so far), `log` and `sample` carry `to` (the offset up to which they are
stored).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
from django.db import connection

CHANNEL = "studio"
# Postgres refuses a notification of 8,000 bytes.
MAX_BYTES = 7_000


class Event(NamedTuple):
    """What changed: `data` that would make the notification too large is left out."""

    topic: str
    kind: str
    data: Mapping[str, Any] = MappingProxyType({})

    def payload(self) -> str:
        text = orjson.dumps({"topic": self.topic, "kind": self.kind, "data": dict(self.data)}, default=str)
        return text.decode() if len(text) <= MAX_BYTES else self._replace(data={}).payload()


def publish(topic: str, kind: str, data: Mapping[str, Any] | None = None) -> None:
    """Notify every listener of `topic` once the present transaction commits; a rollback takes it back."""
    publish_all(Event(topic, kind, data or {}))


def publish_all(*events: Event) -> None:
    """As `publish`, several at once."""
    with connection.cursor() as cursor:
        payloads = [event.payload() for event in events]
        cursor.execute("SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload", [CHANNEL, payloads])
