"""The answers that a dataset holds, one by one, with what was asked: what rewards can be tried on."""

import json
from dataclasses import dataclass

from polm_core.data.messages import Turns
from polm_core.data.values import Row
from polm_core.formats import Format

# The formats whose rows hold answers.
ANSWERED = (
    Format.PROMPT_COMPLETION,
    Format.CONVERSATION,
    Format.PREFERENCE,
    Format.RATING,
    Format.PROMPT_ANSWER,
)


@dataclass(frozen=True)
class Completion:
    """What was asked and answered; `reference` is the right answer where the row holds one apart, `task` the
    reasoning-gym task that made it, as JSON."""

    prompt: Turns
    completion: Turns
    reference: str | None = None
    task: str | None = None


def completions_of(row: Row, format_: Format) -> list[Completion]:
    """The answers of one canonical row: both of a pair, the last of a conversation, the worked one of a question."""
    if format_ is Format.PREFERENCE:
        return [Completion(row["prompt"], row[side]) for side in ("chosen", "rejected")]
    if format_ is Format.PROMPT_ANSWER:
        task = json.dumps(row["task"]) if row.get("task") is not None else None
        return [Completion(row["prompt"], row.get("solution") or row["answer"], row["answer"], task)]
    if format_ is Format.CONVERSATION:
        *before, last = row["messages"]
        return [Completion(before, [last])] if before and last["role"] == "assistant" else []
    return [Completion(row["prompt"], row["completion"])]
