"""Answering prompts: one long-lived child per worker process holds the models and streams what they say."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.conf import settings

from polm_core.errors import PolmError
from webapp.playground.models import Generation
from webapp.playground.selectors import generations_wait
from webapp.playground.services import (
    generation_claim,
    generation_fail,
    generation_finish,
    generation_release,
    generation_write,
)
from workers import presence
from workers.jobs import child_environment
from workers.models import checkpoint_path, local_path

WRITE_SECONDS = 0.2
# Importing torch and loading a big model come before the first piece.
SILENCE_SECONDS = 300.0
ANSWER_SECONDS = 900.0
IDLE_SECONDS = 600.0

_answering = threading.Lock()


class ChildSilent(Exception):
    """The child has died, or has said nothing for too long."""


class GenerationChild:
    """`python -m polm_core.generate`, started when it is first needed and again after it died.

    It ends by itself when this process does, because its standard input closes.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

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
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                with suppress(OSError):  # what was still to be sent
                    process.stdin.close()

    def _start(self) -> None:
        self.end()
        log = settings.VAR_DIR / "logs" / "playground.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "polm_core.generate"],
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


_child = GenerationChild()
_idle = threading.Timer(0, _child.end)


def generate(_generation_id: str = "") -> None:
    """Answer what waits, until nothing does. One thread of a process does so; the others have nothing to add."""
    while not presence.shutting_down.is_set() and generations_wait() and _answering.acquire(blocking=False):
        try:
            _idle.cancel()
            while not presence.shutting_down.is_set() and (generation := generation_claim()) is not None:
                _answer(generation)
            _rest()
        finally:
            _answering.release()


def _rest() -> None:
    """Give the models' memory back to training once nobody has asked for a while."""
    global _idle
    _idle = threading.Timer(IDLE_SECONDS, _end_unless_busy)
    _idle.daemon = True
    _idle.start()


def _end_unless_busy() -> None:
    if _answering.acquire(blocking=False):
        try:
            _child.end()
        finally:
            _answering.release()


def _answer(generation: Generation) -> None:
    try:
        _stream(generation)
    except PolmError as error:
        generation_fail(generation=generation, error=error)
    except ChildSilent:
        _child.end()
        generation_fail(generation=generation, error=_died())


def _stream(generation: Generation) -> None:
    """Write down what the child says; when nobody wants it any more, the child is ended."""
    _child.ask(_request(generation))
    for message in _messages(str(generation.pk)):
        if presence.shutting_down.is_set():
            _child.end()
            generation_release(generation=generation)
        elif not generation_write(generation=generation, text=message["text"]):
            _child.end()
        elif "error" in message:
            told = message["error"]
            raise PolmError(told["message"], code=told["code"], advice=told["advice"])
        elif "done" in message:
            generation_finish(generation=generation, tokens=message["tokens"], seconds=message["seconds"])
        else:
            continue
        return


def _messages(identity: str) -> Iterator[dict[str, Any]]:
    """What the child says to this request, its pieces of text joined over a fifth of a second.

    An empty message every fifth of a second lets the reader see to its claim. Ends with `done` or `error`.
    """
    began = heard = time.monotonic()
    while True:
        text, last = "", None
        due = time.monotonic() + WRITE_SECONDS
        while last is None and (left := due - time.monotonic()) > 0:
            message = _child.hear(left)
            if message is None or message["id"] != identity:
                continue
            heard = time.monotonic()
            text += message.get("text", "")
            last = None if "text" in message else message
        yield {"text": text, **(last or {})}
        if last is not None:
            return
        if time.monotonic() - heard > SILENCE_SECONDS or time.monotonic() - began > ANSWER_SECONDS:
            _child.end()
            raise PolmError("The answer took too long.", code="generation.time", advice="Ask for fewer tokens.")


def _request(generation: Generation) -> dict[str, Any]:
    if generation.checkpoint is not None:
        model_path, adapter_path = checkpoint_path(generation.checkpoint)
    else:
        assert generation.model is not None  # noqa: S101 (a constraint of the table)
        model_path, adapter_path = local_path(generation.model)
    system = [{"role": "system", "content": generation.system}] if generation.system else []
    return {
        "id": str(generation.pk),
        "model_path": str(model_path),
        "adapter_path": str(adapter_path) if adapter_path else None,
        "messages": [*system, {"role": "user", "content": generation.prompt}],
        **generation.settings,
    }


def _died() -> PolmError:
    return PolmError(
        "The process that answers has died.",
        code="generation.crashed",
        advice="Most often the worker ran out of memory; its log is var/logs/playground.log.",
    )
