"""What a request can be refused for. Pages and API turn these into the same words and the right status."""

from typing import Any

from pydantic import ValidationError

from polm_core.errors import PolmError, ResourceError


class NotFound(PolmError):
    """There is no such thing, or the caller may not know of it."""

    code = "not_found"


class Forbidden(PolmError):
    """The caller may see it but not do this."""

    code = "forbidden"


class Conflict(PolmError):
    """Not possible in the present state; nothing was changed."""

    code = "conflict"


class SavedMeanwhile(Conflict):
    """Somebody has saved a text since it was opened; `theirs` is what stands now, as version `number`."""

    def __init__(self, theirs: Any, number: int, who: object) -> None:
        super().__init__(
            f"{who or 'Somebody'} has saved version {number} meanwhile.",
            advice="Nothing of yours is lost: put the two together, and save again.",
        )
        self.theirs, self.number = theirs, number


class Invalid(PolmError):
    """Input that breaks a rule; `fields` says which and what would be right."""

    code = "invalid"


class Unavailable(PolmError):
    """A part that is needed (broker, worker, store) does not answer."""

    code = "unavailable"


class TooLarge(PolmError):
    """More than the studio accepts in one piece."""

    code = "too_large"


_STATUS: dict[type[PolmError], int] = {
    NotFound: 404,
    Forbidden: 403,
    Conflict: 409,
    TooLarge: 413,
    Unavailable: 503,
    ResourceError: 507,
}


def status_of(error: PolmError) -> int:
    """The HTTP status of an expected error; what is not listed is input that could not be accepted (422)."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)


def refused(error: ValidationError, message: str, field: str) -> Invalid:
    """Values that a schema does not accept, as problems of what lies below `field`."""
    fields: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        place = ".".join([field, *map(str, problem["loc"])])
        fields.setdefault(place, []).append(problem["msg"].removeprefix("Value error, "))
    return Invalid(message, fields=fields)
