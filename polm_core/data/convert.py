"""From one format to another, where nothing has to be invented."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from polm_core.data.messages import Message, Turns
from polm_core.data.values import Row
from polm_core.formats import SPECS, Format

Conversion = Callable[[Row], list[Row]]
"""From one row to the rows it becomes: often one, two for a pair, none for a row with nothing to offer."""


def _messages(turns: Turns, role: str) -> list[Message]:
    return [{"role": role, "content": turns}] if isinstance(turns, str) else turns


def _talk(prompt: Turns, answer: Turns) -> Row:
    return {"messages": [*_messages(prompt, "user"), *_messages(answer, "assistant")]}


def _prompt_alone(row: Row) -> list[Row]:
    return [{"prompt": row["prompt"]}]


def _pair_to_ratings(row: Row) -> list[Row]:
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"} for side in ("chosen", "rejected")
    ]


def _pair_to_completion(row: Row) -> list[Row]:
    return [{"prompt": row["prompt"], "completion": row["chosen"]}]


def _pair_to_conversation(row: Row) -> list[Row]:
    return [_talk(row["prompt"], row["chosen"])]


def _good_completion(row: Row) -> list[Row]:
    return [{"prompt": row["prompt"], "completion": row["completion"]}] if row["label"] else []


def _good_conversation(row: Row) -> list[Row]:
    return [_talk(row["prompt"], row["completion"])] if row["label"] else []


def _completion_to_conversation(row: Row) -> list[Row]:
    return [_talk(row["prompt"], row["completion"])]


def _worked(row: Row) -> str:
    """The solution with the answer at its end, or the answer alone."""
    solution, answer = row.get("solution", ""), row["answer"]
    if not solution:
        return str(answer)
    last_line = solution.rpartition("\n")[2].replace(",", "")
    said = re.search(rf"(?<![\w.]){re.escape(answer.replace(',', ''))}(?!\w)", last_line)
    return solution if said else f"{solution}\n{answer}"


def _answer_to_conversation(row: Row) -> list[Row]:
    return [_talk(row["prompt"], _worked(row))]


def _answer_to_completion(row: Row) -> list[Row]:
    prompt, worked = row["prompt"], _worked(row)
    completion = worked if isinstance(prompt, str) else _messages(worked, "assistant")
    return [{"prompt": prompt, "completion": completion}]


def _conversation_to_completion(row: Row) -> list[Row]:
    """The last answer and all before it; a conversation with tools has no place for their definitions here."""
    if "tools" in row:
        return []
    return [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}]


def _conversation_to_prompt(row: Row) -> list[Row]:
    return [] if "tools" in row else [{"prompt": row["messages"][:-1]}]


CONVERSIONS: dict[tuple[Format, Format], Conversion] = {
    (Format.PREFERENCE, Format.RATING): _pair_to_ratings,
    (Format.PREFERENCE, Format.CONVERSATION): _pair_to_conversation,
    (Format.PREFERENCE, Format.PROMPT_COMPLETION): _pair_to_completion,
    (Format.PREFERENCE, Format.PROMPT): _prompt_alone,
    (Format.RATING, Format.CONVERSATION): _good_conversation,
    (Format.RATING, Format.PROMPT_COMPLETION): _good_completion,
    (Format.RATING, Format.PROMPT): _prompt_alone,
    (Format.PROMPT_ANSWER, Format.CONVERSATION): _answer_to_conversation,
    (Format.PROMPT_ANSWER, Format.PROMPT_COMPLETION): _answer_to_completion,
    (Format.PROMPT_ANSWER, Format.PROMPT): _prompt_alone,
    (Format.PROMPT_COMPLETION, Format.CONVERSATION): _completion_to_conversation,
    (Format.PROMPT_COMPLETION, Format.PROMPT): _prompt_alone,
    (Format.CONVERSATION, Format.PROMPT_COMPLETION): _conversation_to_completion,
    (Format.CONVERSATION, Format.PROMPT): _conversation_to_prompt,
}
"""From and to, with what does it."""


@dataclass(frozen=True)
class Compatibility:
    """Whether a dataset serves a method: as it is (`target` is its own format), converted to `target`, or not."""

    ok: bool
    target: Format | None
    reason: str


def compatible(formats: Collection[Format], dataset_format: Format) -> Compatibility:
    """How a dataset of `dataset_format` serves a method that takes `formats`, the preferred first."""
    title = SPECS[dataset_format].title
    if dataset_format in formats:
        return Compatibility(True, dataset_format, f"{title}: used as it is.")
    for wanted in formats:
        if (dataset_format, wanted) in CONVERSIONS:
            return Compatibility(True, wanted, f"{title}: converted to {SPECS[wanted].title.lower()}.")
    titles = " or ".join(SPECS[wanted].title.lower() for wanted in formats)
    needs = {
        column: what for wanted in formats for column, what in SPECS[wanted].columns.items() if wanted != dataset_format
    }
    return Compatibility(
        False,
        None,
        f"This method needs {titles or 'no dataset'}"
        + (f" (columns {', '.join(needs)})" if needs else "")
        + f"; this dataset is {title.lower()}.",
    )


def convert_rows(rows: Iterable[Row], source: Format, target: Format) -> Iterator[Row]:
    """Rows of one format as rows of another. Raises `KeyError` for a pair that `compatible` does not offer."""
    if source == target:
        yield from rows
        return
    convert = CONVERSIONS[source, target]
    for row in rows:
        yield from convert(row)
