"""Who a process is, so that one recorded yesterday is never mistaken for another that got its pid today."""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import psutil

from polm_core.run_dir import write_atomic

POLL_SECONDS = 0.02

# Asked while waiting for something to end: True when the person at the console has lost patience.
Hurry = Callable[[], bool]


def never() -> bool:
    """Nobody is in a hurry."""
    return False


@dataclass(frozen=True)
class Identity:
    """A process, told apart from every other that ever has its pid.

    `start` is when it started: on Linux in clock ticks after boot, as /proc has it, elsewhere in hundredths of a second
    of wall time. `boot_id` names the boot (empty where the system has none). `pgid` is its process group.
    """

    pid: int
    start: int
    boot_id: str
    pgid: int = field(compare=False)  # a process may found its own group after it was recorded

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None when there is none, or when only a zombie is left of it."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(pid, _start_of(process), boot_id(), os.getpgid(pid))
        except (psutil.Error, OSError):
            return None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The process recorded in a file; None when there is no such file or it holds something else."""
        try:
            recorded = json.loads(path.read_bytes())
            return cls(int(recorded["pid"]), int(recorded["start"]), str(recorded["boot_id"]), int(recorded["pgid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Record the process, replacing what the file held."""
        write_atomic(path, json.dumps(asdict(self)))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Identity.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if it still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kill the process and, when it leads its own group, the group with it."""
        if not self.alive():
            return
        with suppress(ProcessLookupError):
            if self.pgid == self.pid:
                os.killpg(self.pgid, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)


@cache
def boot_id() -> str:
    """A name for the time since the machine started; empty where the system gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def place(var: Path) -> str:
    """A name for what sees the same processes and works in the same state directory.

    Two containers of one host share its boot, and so may two studios; neither can look after the other's processes.
    """
    try:
        found = var.stat()
        namespace = str(Path("/proc/self/ns/pid").readlink()) if sys.platform == "linux" else ""
    except OSError:
        return ""
    told = f"{boot_id()} {namespace} {found.st_dev} {found.st_ino}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _start_of(process: psutil.Process) -> int:
    if sys.platform == "linux":
        # Fields are counted from behind the name, which is in brackets and may hold anything.
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[19])
    return round(process.create_time() * 100)


def session_of(leader: int) -> list[Identity]:
    """The other processes in the session that `leader` leads.

    True only while the leader is there, be it as a zombie: until then nobody else can have its pid.
    """
    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            if pid != leader and os.getsid(pid) == leader:
                found.append(Identity.of(pid))
    return [process for process in found if process is not None]


def descendants_of(ancestor: int) -> list[Identity]:
    """Everything that a process started, directly or not, as far as each one's parent still lives."""
    try:
        children = psutil.Process(ancestor).children(recursive=True)
    except psutil.Error:
        return []
    found = [Identity.of(child.pid) for child in children]
    return [process for process in found if process is not None]


def wait_until(condition: Callable[[], bool], deadline: float) -> bool:
    """Poll `condition` until it holds (True) or the monotonic clock passes `deadline` (False)."""
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def stop_all(
    processes: Sequence[Identity],
    seconds: float,
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    hurry: Hurry = never,
) -> None:
    """Ask processes to end, and kill those that have not within `seconds`, or at once when `hurry` says so."""
    for process in processes:
        process.signal(stop_signal)

    def ended() -> bool:
        return not any(process.alive() for process in processes)

    if not wait_until(lambda: ended() or hurry(), time.monotonic() + seconds) or not ended():
        for process in processes:
            process.kill_group()
        wait_until(ended, time.monotonic() + 5)
