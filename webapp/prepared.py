"""Statements that Postgres parses and plans once for a connection, and not each time they are sent."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper


def prepared(statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> CursorWrapper:
    """Run a statement that is sent again and again, within a transaction; the answer is for the caller to fetch.

    Django's own cursors put values into the text, so that no two statements are alike. Where Postgres cannot tell the
    type of a parameter from its place, the statement has to say it (`%s::uuid`). JSON comes as text.
    """
    raw = connection.connection
    raw.prepare_threshold = 0
    cursor: Any = psycopg.Cursor(raw)
    wrapped = connection.make_debug_cursor(cursor) if connection.queries_logged else connection.make_cursor(cursor)
    wrapped.execute(statement, parameters)
    return wrapped
