"""Failures a person can act on.

Everything the library expects to go wrong (bad data, an impossible setting, too little memory) is a `PolmError`:
it ends a run as *failed*, with advice. Any other exception is a bug and ends it as *crashed*.
"""

import errno
from typing import Any

_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class PolmError(Exception):
    """An expected failure.

    `code` is stable and machine-readable (`data.empty`), `message` says what is wrong, `advice` what would be right.
    `fields` names the inputs at fault, `{"config.learning_rate": ["must be above 0"]}`.
    """

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        advice: str = "",
        fields: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.fields = fields or {}
        if code is not None:
            self.code = code

    def as_dict(self) -> dict[str, Any]:
        """The error as it is written to `result.json` and answered by the API."""
        return {"code": self.code, "message": self.message, "advice": self.advice, "fields": self.fields}


class ConfigError(PolmError):
    """A setting out of bounds, or settings that do not go together."""

    code = "config.invalid"


class DataError(PolmError):
    """Data that cannot be read, or that the method cannot train on."""

    code = "data.invalid"


class ModelError(PolmError):
    """A model that cannot be found, loaded or used for this method."""

    code = "model.invalid"


class ResourceError(PolmError):
    """Too little memory, disk or the wrong device."""

    code = "resource.insufficient"


def is_disk_full(error: BaseException) -> bool:
    """Whether the operating system refused to write because there is no room."""
    return isinstance(error, OSError) and error.errno in _DISK_ERRNOS
