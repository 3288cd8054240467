"""Keeping a few programs running: start, watch, restart, stop in order."""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from webapp.studio.identity import Hurry, Identity, descendants_of, never, session_of, stop_all
from webapp.studio.logs import tail, trim

QUICK_DEATH_SECONDS = 10.0
MAX_QUICK_DEATHS = 5
FIRST_DELAY_SECONDS = 0.5
# The level stands near the start of a line; further in, the word is somebody's text.
IMPORTANT = re.compile(r"^.{0,60}\b(WARNING|ERROR|CRITICAL)\b")

Say = Callable[[str], None]


class ProgramGaveUp(Exception):
    """A program died again and again; the message holds the end of its log."""


@dataclass(frozen=True)
class Program:
    """One program to keep running.

    Programs of a lower `stage` are stopped first. One that does not end within `stop_seconds` of SIGTERM is killed.
    """

    name: str
    command: Sequence[str]
    stage: int = 0
    stop_seconds: float = 10.0
    cwd: Path | None = None


class _Child:
    """A program's present process, and how often it died young. `record` tells a later supervisor who it is."""

    def __init__(self, program: Program, *, log: Path, record: Path) -> None:
        self.program = program
        self.log = log
        self.identity: Identity | None = None
        self.quick_deaths = 0
        self.start_again_at = 0.0
        self._record = record
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._shown = 0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._shown = log.tell()
            self._process = subprocess.Popen(
                self.program.command,
                cwd=self.program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is the supervisor's to pass on
            )
        self._started_at = time.monotonic()
        self.identity = Identity.of(self._process.pid)
        if self.identity is not None:
            self.identity.write(self._record)

    def started(self) -> bool:
        return self._process is not None

    def runs(self) -> bool:
        return self.identity is not None and self.identity.alive()

    def lived(self) -> float:
        return time.monotonic() - self._started_at

    def bury(self) -> str:
        """Clear away the dead process and what it left running in its session. Returns how it ended, in words."""
        if self._process is None:
            return ""
        for process in session_of(self._process.pid):
            process.kill_group()
        code = self._process.wait()
        self._process = self.identity = None
        self._record.unlink(missing_ok=True)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def new_lines(self) -> list[str]:
        """The whole lines that the log gained since the last call."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(self._shown)
            text, newline, _ = file.read().rpartition(b"\n")
        self._shown = 0 if trim(self.log) else self._shown + len(text) + len(newline)
        return text.decode(errors="replace").splitlines()


def stop_orphans(state: Path, seconds: float, hurry: Hurry = never) -> None:
    """Stop the programs that a supervisor with this `state` left running because it was killed itself."""
    records = list(state.glob("*.json"))
    orphans = [orphan for orphan in map(Identity.read, records) if orphan is not None and orphan.alive()]
    companions = [process for orphan in orphans for process in session_of(orphan.pid)]
    stop_all(orphans, seconds, hurry=hurry)
    stop_all(companions, 0)
    for record in records:
        record.unlink()


class Processes:
    """A set of programs, each logging to `logs/<name>.log`; `state` holds the records of their processes.

    `say` gets the few lines that a person at the console should see.
    """

    def __init__(self, programs: Sequence[Program], *, state: Path, logs: Path, say: Say) -> None:
        state.mkdir(parents=True, exist_ok=True)
        logs.mkdir(parents=True, exist_ok=True)
        self._say = say
        self._children = [
            _Child(program, log=logs / f"{program.name}.log", record=state / f"{program.name}.json")
            for program in programs
        ]

    def start(self) -> None:
        """Start every program."""
        for child in self._children:
            child.start()

    def pid(self, name: str) -> int | None:
        """The process id of the named program; None while it does not run."""
        for child in self._children:
            if child.program.name == name and child.identity is not None and child.runs():
                return child.identity.pid
        return None

    def descendants(self) -> list[Identity]:
        """What the programs started, in whatever session."""
        alive = [child.identity for child in self._children if child.identity is not None]
        return [process for identity in alive for process in descendants_of(identity.pid)]

    def watch(self) -> None:
        """Pass on important log lines and start again what has died; call it a few times a second.

        Raises `ProgramGaveUp` when a program has died `MAX_QUICK_DEATHS` times in a row, each within
        `QUICK_DEATH_SECONDS` of its start.
        """
        for child in self._children:
            self._report(child)
            if child.started() and not child.runs():
                self._died(child)
            elif not child.started() and time.monotonic() >= child.start_again_at:
                child.start()

    def stop(self, hurry: Hurry = never) -> None:
        """Stop every program, stage by stage. `hurry` is asked while waiting: once it says so, the rest is killed."""
        by_stage = sorted(self._children, key=lambda child: child.program.stage)
        for _, group in groupby(by_stage, key=lambda child: child.program.stage):
            stage = list(group)
            seconds = max(child.program.stop_seconds for child in stage)
            stop_all([child.identity for child in stage if child.identity is not None], seconds, hurry=hurry)
            for child in stage:
                child.bury()

    def _died(self, child: _Child) -> None:
        quick = child.lived() < QUICK_DEATH_SECONDS
        ending = child.bury()
        child.quick_deaths = child.quick_deaths + 1 if quick else 0
        if child.quick_deaths >= MAX_QUICK_DEATHS:
            raise ProgramGaveUp(
                f"{child.program.name} does not stay up ({ending}). The end of {child.log}:\n{tail(child.log)}"
            )
        child.start_again_at = time.monotonic() + FIRST_DELAY_SECONDS * 2 ** max(0, child.quick_deaths - 1)
        self._say(f"{child.program.name}: ended ({ending}); starting it again")

    def _report(self, child: _Child) -> None:
        for line in child.new_lines():
            if IMPORTANT.search(line):
                self._say(f"{child.program.name}: {line}")
