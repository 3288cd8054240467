"""The log files of what the studio runs."""

import os
import shutil
from pathlib import Path

MAX_LOG_BYTES = 20 * 1024**2


def tail(path: Path, size: int = 2000) -> str:
    """The last `size` bytes of a text file; empty when it is not there."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read().decode(errors="replace")


def trim(path: Path) -> bool:
    """Set a log aside as `<name>.1` once it has grown too long, in place of an earlier one; True when it had.

    The file itself stays and is emptied, so that a process that has it open for appending goes on with it.
    """
    if not path.exists() or path.stat().st_size <= MAX_LOG_BYTES:
        return False
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True
