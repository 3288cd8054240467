"""What the scorer of a row's reasoning-gym task gives a completion: getting at the answer that it says."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress

from polm_core.data.answers import boxed
from polm_core.data.problems import RowProblem
from polm_core.rewards.verifiers import final_part

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
_TAGGED = re.compile(r"<answer>([^<]*)</answer>")
_SAID = re.compile(r"\banswer(?: is)?[ \t]*[:=]?[ \t]*([^\n]+)", re.IGNORECASE)
_AROUND = " \t\n*`\"'."


def reasoning_gym(completion: str, answer: str | None, task: str | None) -> float | None:
    """The score of what the text says the answer is, from 0 to 1; None for a row without an answer or a task.

    `task` is the row's, as JSON. Of the ways to read the text that scores most counts: as it is, its last line, what
    is tagged, boxed or called the answer, and, where the right answer is a number, its last number. Raises
    `ConfigError` for a task that is not offered. Runs in the main thread only, where it can be interrupted.
    """
    if answer is None or task is None:
        return None
    from polm_core.gym.library import checked_task, task_score

    found = json.loads(task)
    checked_task(found)
    best = 0.0
    for candidate in dict.fromkeys(_candidates(final_part(completion), answer)):
        best = max(best, task_score(candidate, answer, found))
        if best == 1:
            break
    return best


def _candidates(text: str, answer: str) -> Iterator[str]:
    """The texts that may be the answer alone, the likeliest first; none in a text that says nothing."""
    if not text:
        return
    yield text
    yield text.rpartition("\n")[2].strip(_AROUND)
    for pattern in (_TAGGED, _SAID):
        if found := pattern.findall(text):
            yield found[-1].strip(_AROUND)
    with suppress(RowProblem):
        yield boxed(text, "completion")
    if _NUMBER.fullmatch(answer.strip()) and (numbers := _NUMBER.findall(text)):
        yield numbers[-1].replace(",", "")
