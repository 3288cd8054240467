"""The sentence encoder of a worker process: one child for questions and for documents that are indexed."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from polm_core.errors import PolmError
from workers.speaking import ChildSilent, SpeakingChild

# Importing torch on a busy machine comes before the first answer.
SILENCE_SECONDS = 300.0
_TICK = 1.0

_child = SpeakingChild("polm_core.encode", "encoder.log")


class NotWanted(Exception):
    """Nobody waits for the vectors here any more."""


def encode(request: dict[str, Any], go_on: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """The messages that answer a request of `polm_core.encode`, the last one included.

    `go_on` is asked every second, also while others are being answered. Raises NotWanted when it says no, and
    `PolmError` when the child refuses or dies.
    """
    while not _child.busy.acquire(timeout=_TICK):
        _check(go_on)
    try:
        yield from _exchange({"id": str(uuid.uuid4()), **request}, go_on)
    except ChildSilent:
        _child.end()
        raise PolmError(
            "The process that encodes has died.",
            code="encoder.crashed",
            advice="Most often the worker ran out of memory; its log is var/logs/encoder.log.",
        ) from None
    finally:
        _child.rest()
        _child.busy.release()


def question_vector(question: str, go_on: Callable[[], bool]) -> list[float]:
    """The vector of one question, 384 numbers. Raises as `encode` does."""
    (answer,) = encode({"questions": [question]}, go_on)
    vector: list[float] = answer["vectors"][0]
    return vector


def _exchange(request: dict[str, Any], go_on: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    _child.ask(request)
    heard = time.monotonic()
    while True:
        # What it still says to a request that nobody waits for any more is passed over.
        message = _child.hear(_TICK)
        _check(go_on)
        if message is None or message["id"] != request["id"]:
            if time.monotonic() - heard > SILENCE_SECONDS:
                raise ChildSilent
            continue
        heard = time.monotonic()
        if "error" in message:
            told = message["error"]
            raise PolmError(told["message"], code=told["code"], advice=told["advice"])
        yield message
        if "done" in message:
            return


def _check(go_on: Callable[[], bool]) -> None:
    if not go_on():
        raise NotWanted
