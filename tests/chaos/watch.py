"""Which processes train which run, as the kernel knows it."""

import os
import re
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LOOK_SECONDS = 0.1
_LOG = re.compile(r"/runs/([0-9a-f-]{36})/log\.txt")


def trainers(base: Path) -> dict[str, set[int]]:
    """The training processes by run: forked from a fork server below `base`, with the run's log as their output."""
    found: dict[str, set[int]] = defaultdict(set)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            command = Path(entry.path, "cmdline").read_bytes()
            if b"workers.forkserver" not in command or os.fsencode(base) not in command:
                continue
            output = str(Path(entry.path, "fd", "1").readlink())
            if output.startswith(str(base)) and (run := _LOG.search(output)):
                found[run[1]].add(int(entry.name))
    return found


class Watcher(threading.Thread):
    """Looks ten times a second, and keeps what it saw: every execution of each run, and two at once if there were."""

    def __init__(self, base: Path) -> None:
        super().__init__(name="watcher", daemon=True)
        self.base = base
        self.executions: dict[str, set[int]] = defaultdict(set)
        self.at_once: dict[str, int] = defaultdict(int)
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            for run, pids in trainers(self.base).items():
                self.executions[run] |= pids
                self.at_once[run] = max(self.at_once[run], len(pids))

    def twice(self, runs: Sequence[str]) -> list[str]:
        """The runs that two processes worked on at the same time."""
        return [run for run in runs if self.at_once[run] > 1]

    def stop(self) -> None:
        self._done.set()
        self.join()
