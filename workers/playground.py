"""Answering prompts: one long-lived child per worker process holds the models and streams what they say."""

import time
from collections.abc import Iterator
from typing import Any

from polm_core.errors import PolmError
from polm_core.retrieval.config import WORDING, FindConfig
from polm_core.retrieval.passages import NOT_FOUND, ask_with
from webapp.playground.models import Generation
from webapp.playground.selectors import generations_wait
from webapp.playground.services import (
    generation_claim,
    generation_fail,
    generation_finish,
    generation_found,
    generation_hold,
    generation_release,
    generation_write,
)
from webapp.retrieval.services import passages_nearest
from workers import presence
from workers.encoding import NotWanted, question_vector
from workers.models import checkpoint_path, local_path
from workers.speaking import ChildSilent, SpeakingChild
from workers.turns import take_turns

WRITE_SECONDS = 0.2
# Importing torch and loading a big model come before the first piece.
SILENCE_SECONDS = 300.0
ANSWER_SECONDS = 900.0

_child = SpeakingChild("polm_core.generate", "playground.log")


def generate(_generation_id: str = "") -> None:
    """Answer what waits, until nothing does."""
    take_turns(_child.busy, generations_wait, generation_claim, _answer)


def _answer(generation: Generation) -> None:
    try:
        _stream(generation)
    except PolmError as error:
        generation_fail(generation=generation, error=error)
    except ChildSilent:
        _child.end()
        generation_fail(generation=generation, error=_died())
    finally:
        _child.rest()


def _stream(generation: Generation) -> None:
    """Write down what the child says; when nobody wants it any more, the child is ended."""
    if generation.find and not _find(generation):
        return
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


def _find(generation: Generation) -> bool:
    """Have the passages that the answer is written from; False when it needs no model, or nobody wants it any more."""

    def go_on() -> bool:
        return not presence.shutting_down.is_set() and generation_hold(generation=generation)

    if generation.index is None:
        raise PolmError("The index of documents was deleted.", code="index.deleted", advice="Ask another one.")
    try:
        vector = question_vector(generation.prompt, go_on)
    except NotWanted:
        generation_release(generation=generation)  # does nothing for one that was stopped
        return False
    passages = passages_nearest(generation.index, vector, FindConfig.model_validate(generation.find))
    if not generation_found(generation=generation, passages=passages):
        return False
    if not passages:
        generation_write(generation=generation, text=NOT_FOUND)
        generation_finish(generation=generation, tokens=0, seconds=0.0)
    return bool(passages)


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
    prompt = generation.prompt
    if generation.passages:
        found = [(passage["title"], passage["text"]) for passage in generation.passages]
        prompt = ask_with(WORDING, found, prompt)
    system = [{"role": "system", "content": generation.system}] if generation.system else []
    return {
        "id": str(generation.pk),
        "model_path": str(model_path),
        "adapter_path": str(adapter_path) if adapter_path else None,
        "messages": [*system, {"role": "user", "content": prompt}],
        **generation.settings,
    }


def _died() -> PolmError:
    return PolmError(
        "The process that answers has died.",
        code="generation.crashed",
        advice="Most often the worker ran out of memory; its log is var/logs/playground.log.",
    )
