"""Failures a person can act on.

Everything the library expects to go wrong (bad data, an impossible setting, too little memory) is a `PolmError`:
it ends a run as *failed*, with advice. Any other exception is a bug and ends it as *crashed*.
"""

import errno
from typing import Any

# The code of a failure that nothing is wrong with a run for: it can go on once there is space.
DISK_FULL = "resource.disk"

_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# torch and safetensors wrap the operating system's error in one of their own and keep only its text.
_DISK_TEXTS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "PytorchStreamWriter failed",
    "unexpected pos",  # torch.save, when the first bytes of a file fail already
)


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
    """Whether the error is for want of space, whichever library raised it."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRNOS:
        return True
    return any(text in str(error) for text in _DISK_TEXTS)


def disk_full(message: str) -> ResourceError:
    """A disk without space, wherever that is."""
    return ResourceError(
        message,
        code=DISK_FULL,
        advice="Free space, then resume the run: it goes on from its last checkpoint. To need less of it, save less "
        "often (save_steps), or train an adapter, whose checkpoints are small.",
    )
