"""What people type, made fit for use."""

from django.http import QueryDict


def storable(values: QueryDict) -> QueryDict:
    """A copy without NUL characters, which Postgres cannot hold and nobody types."""
    cleaned = values.copy()
    for name, texts in values.lists():
        cleaned.setlist(name, [text.replace("\0", "") for text in texts])
    return cleaned


def whole_number(text: str) -> int | None:
    """A whole number as typed, 0 when nothing was; None for anything else."""
    text = text.strip()
    if not text:
        return 0
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 10 else None
