"""Telling open pages and API streams that something changed.

Imports nothing of the studio, so that every service may use it.

Topics are `run:<id>`, `dataset:<id>`, `model:<id>`, `batch:<id>` and `team:<id>`; kinds are `status`, `metrics`,
`log`, `sample`, `checkpoint`, `progress` and `token`. An event says that there is something new and where; whoever
needs the thing itself reads it. On a `run:` topic `status` carries `status`, `metrics` carries `lines` (metric lines
stored so far), `log` and `sample` carry `to` (the offset up to which they are stored).
"""

from collections.abc import Mapping
from typing import Any

import orjson
from django.db import connection

CHANNEL = "studio"
# Postgres refuses a notification of 8,000 bytes.
MAX_BYTES = 7_000


def publish(topic: str, kind: str, data: Mapping[str, Any] | None = None) -> None:
    """Notify every listener of `topic` once the present transaction commits; a rollback takes it back.

    `data` that would make the notification too large is left out.
    """
    event: dict[str, Any] = {"topic": topic, "kind": kind, "data": dict(data or {})}
    payload = orjson.dumps(event, default=str)
    if len(payload) > MAX_BYTES:
        payload = orjson.dumps({**event, "data": {}})
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload.decode()])
