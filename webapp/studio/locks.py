"""Locks that a process holds for as long as it lives, whatever ends it."""

import fcntl
from pathlib import Path


class LockHeld(Exception):
    """Another process holds the lock; `note` is what it wrote there."""

    def __init__(self, note: str) -> None:
        super().__init__(note)
        self.note = note


class Lock:
    """An exclusive lock on a file. The kernel drops it with its holder, so that none is ever stale."""

    def __init__(self, path: Path) -> None:
        """Take the lock, or raise `LockHeld`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            note = self._file.read()
            self._file.close()
            raise LockHeld(note) from None
        self._file.truncate(0)

    def note(self, text: str) -> None:
        """Leave a word for those who find the lock taken, in place of an earlier one."""
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    def release(self) -> None:
        """Give the lock up."""
        self._file.close()
