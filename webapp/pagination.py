"""Lists by the page, newest first: a page ends with an opaque cursor that the next one starts after."""

import base64
import binascii
from typing import Annotated, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from pydantic import Field

from webapp.errors import Invalid

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

# For the signatures of API handlers: `limit: Limit = DEFAULT_LIMIT, cursor: str | None = None`.
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]

M = TypeVar("M", bound=Model)


def page(queryset: QuerySet[M], limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> tuple[list[M], str | None]:
    """One page of `queryset` by descending primary key, and the cursor of the next page (None on the last).

    Keys grow with time, so rows that are added meanwhile neither repeat nor shift what follows.
    Raises Invalid for a limit outside 1..200 or a cursor that no page gave.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid("The limit is out of bounds.", fields={"limit": [f"Give a number from 1 to {MAX_LIMIT}."]})
    if cursor:
        queryset = queryset.filter(pk__lt=_decode(cursor, queryset.model))
    found = list(queryset.order_by("-pk")[: limit + 1])
    items = found[:limit]
    return items, _encode(items[-1]) if len(found) > limit else None


def _encode(last: Model) -> str:
    return base64.urlsafe_b64encode(str(last.pk).encode()).decode().rstrip("=")


def _decode(cursor: str, model: type[Model]) -> object:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        return model._meta.pk.to_python(text)
    except (binascii.Error, ValueError, ValidationError):
        raise Invalid(
            "The cursor is not one of ours.",
            fields={"cursor": ["Pass on the page before's `next_cursor`."]},
        ) from None
