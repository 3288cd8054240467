"""Long-lived children that speak JSON lines (see `polm_core.serving`)."""

import json
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from django.conf import settings

from workers.jobs import child_environment

IDLE_SECONDS = 600.0


class ChildSilent(Exception):
    """The child has died, or has said nothing for too long."""


class SpeakingChild:
    """`python -m <module>`, started when it is first needed and again after it died. What it prints goes to `log`.

    It ends by itself when this process does, because its standard input closes. Whoever speaks with it holds `busy`.
    """

    def __init__(self, module: str, log: str) -> None:
        self._module = module
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._idle = threading.Timer(0, self.end)
        self.busy = threading.Lock()

    def ask(self, request: dict[str, Any]) -> None:
        """Send one request. Raises ChildSilent when the child cannot take it."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018 (just started)
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ChildSilent from error

    def hear(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None when there was none in that time. Raises ChildSilent when the child has died."""
        try:
            message = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        if message is None:
            raise ChildSilent
        return message

    def end(self) -> None:
        """Stop the child at once; its models leave the memory."""
        self._idle.cancel()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                with suppress(OSError):  # what was still to be sent
                    process.stdin.close()

    def rest(self) -> None:
        """Give the memory of its models back to training unless somebody asks within some minutes."""
        self._idle.cancel()
        self._idle = threading.Timer(IDLE_SECONDS, self._end_unless_busy)
        self._idle.daemon = True
        self._idle.start()

    def _end_unless_busy(self) -> None:
        if self.busy.acquire(blocking=False):
            try:
                self.end()
            finally:
                self.busy.release()

    def _start(self) -> None:
        self.end()
        log = settings.VAR_DIR / "logs" / self._log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=child_environment(),
                cwd=settings.BASE_DIR,
                start_new_session=True,
            )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process, self._answers), daemon=True).start()


def _read(process: subprocess.Popen[str], answers: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    assert process.stdout is not None  # noqa: S101 (it is a pipe)
    try:
        with process.stdout:
            for line in process.stdout:
                answers.put(json.loads(line))
    finally:
        answers.put(None)
