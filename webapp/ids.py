"""Primary keys: UUIDs that sort by the time they were made."""

import uuid

from uuid6 import uuid7


def new_id() -> uuid.UUID:
    """A time-ordered UUID (version 7, RFC 9562)."""
    return uuid.UUID(bytes=uuid7().bytes)
