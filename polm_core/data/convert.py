"""From one format to another, where nothing has to be invented: one table of what is possible."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Mapping as MappingType
from dataclasses import dataclass

import orjson

from polm_core.data.messages import Message, Turns
from polm_core.data.values import Row
from polm_core.formats import SPECS, Format

RowByRow = Callable[[Row], list[Row]]
"""From one row to the rows it becomes: often one, two for a pair, none for a row with nothing to offer."""


@dataclass(frozen=True)
class Conversion:
    """From rows of one format to rows of another. `says` explains it to people.

    `most` is how many rows it gives at most, by the number of the source's rows and of its labels; `exact` tells that
    it gives just as many.
    """

    rows: Callable[[Iterable[Row]], Iterator[Row]]
    says: str
    most: Callable[[int, MappingType[str, int]], int] = lambda rows, labels: rows
    exact: bool = True


def _each(convert: RowByRow) -> Callable[[Iterable[Row]], Iterator[Row]]:
    """Every row by itself, in constant memory."""

    def rows(source: Iterable[Row]) -> Iterator[Row]:
        for row in source:
            yield from convert(row)

    return rows


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


def _ratings_to_pairs(rows: Iterable[Row]) -> Iterator[Row]:
    """A good and a bad answer to the same prompt, each used once at most; prompts with one kind alone give nothing.

    Holds all rows in memory, since the answers to a prompt may stand far apart.
    """
    prompts: dict[bytes, tuple[Turns, list[Turns], list[Turns]]] = {}
    for row in rows:
        key = orjson.dumps(row["prompt"], option=orjson.OPT_SORT_KEYS)
        _, bad, good = prompts.setdefault(key, (row["prompt"], [], []))
        (good if row["label"] else bad).append(row["completion"])
    for prompt, bad, good in prompts.values():
        for chosen, rejected in zip(good, bad, strict=False):
            if chosen != rejected:
                yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _whole(row: Row) -> str:
    """The steps of a solution as one text, a line each unless they bring their own line ends."""
    steps = row["completions"]
    return "".join(step if step[-1:].isspace() else f"{step}\n" for step in steps[:-1]) + steps[-1]


def _steps_to_rating(row: Row) -> list[Row]:
    return [
        {
            "prompt": _messages(row["prompt"], "user"),
            "completion": _messages(_whole(row), "assistant"),
            "label": all(row["labels"]),
        }
    ]


def _right_steps_to_completion(row: Row) -> list[Row]:
    return [
        {name: rated[name] for name in ("prompt", "completion")} for rated in _steps_to_rating(row) if rated["label"]
    ]


def _right_steps_to_conversation(row: Row) -> list[Row]:
    return [_talk(rated["prompt"], rated["completion"]) for rated in _steps_to_rating(row) if rated["label"]]


def _steps_to_prompt(row: Row) -> list[Row]:
    return [{"prompt": _messages(row["prompt"], "user")}]


def _edit_to_completion(row: Row) -> list[Row]:
    return [{"prompt": row["prompt"], "completion": row["target"]}]


def _edit_to_text(row: Row) -> list[Row]:
    return [{"text": row["prompt"] + row["target"]}]


def _good(rows: int, labels: MappingType[str, int]) -> int:
    return labels.get("true", 0)


def _of_both(rows: int, labels: MappingType[str, int]) -> int:
    return min(labels.get("true", 0), labels.get("false", 0))


def _document_to_text(row: Row) -> list[Row]:
    return [{"text": f"{row['title']}\n\n{row['text']}" if row.get("title") else row["text"]}]


_PROMPTS = Conversion(_each(_prompt_alone), "The prompt of each row.")
_LAST_TURN = "The last answer, with all that was said before as the prompt; conversations with tools are left out."
_RIGHT = "Solutions of which every step is right."

CONVERSIONS: dict[tuple[Format, Format], Conversion] = {
    (Format.PREFERENCE, Format.RATING): Conversion(
        _each(_pair_to_ratings), "The chosen answer is good and the rejected one bad.", lambda rows, labels: 2 * rows
    ),
    (Format.PREFERENCE, Format.CONVERSATION): Conversion(_each(_pair_to_conversation), "The chosen answers."),
    (Format.PREFERENCE, Format.PROMPT_COMPLETION): Conversion(_each(_pair_to_completion), "The chosen answers."),
    (Format.PREFERENCE, Format.PROMPT): _PROMPTS,
    (Format.RATING, Format.CONVERSATION): Conversion(_each(_good_conversation), "The good answers.", _good),
    (Format.RATING, Format.PROMPT_COMPLETION): Conversion(_each(_good_completion), "The good answers.", _good),
    (Format.RATING, Format.PREFERENCE): Conversion(
        _ratings_to_pairs, "A good and a bad answer, where a prompt has both.", _of_both, exact=False
    ),
    (Format.RATING, Format.PROMPT): _PROMPTS,
    (Format.PROMPT_ANSWER, Format.CONVERSATION): Conversion(
        _each(_answer_to_conversation), "The worked solution, or the answer alone."
    ),
    (Format.PROMPT_ANSWER, Format.PROMPT_COMPLETION): Conversion(
        _each(_answer_to_completion), "The worked solution, or the answer alone."
    ),
    (Format.PROMPT_ANSWER, Format.PROMPT): _PROMPTS,
    (Format.PROMPT_COMPLETION, Format.CONVERSATION): Conversion(
        _each(_completion_to_conversation), "The prompt is the user's turn and the completion the assistant's."
    ),
    (Format.PROMPT_COMPLETION, Format.PROMPT): _PROMPTS,
    (Format.CONVERSATION, Format.PROMPT_COMPLETION): Conversion(
        _each(_conversation_to_completion), _LAST_TURN, exact=False
    ),
    (Format.CONVERSATION, Format.PROMPT): Conversion(
        _each(_conversation_to_prompt),
        "What was said before the last answer; conversations with tools are left out.",
        exact=False,
    ),
    (Format.STEPWISE, Format.RATING): Conversion(
        _each(_steps_to_rating), "The whole solution, good when every step is right."
    ),
    (Format.STEPWISE, Format.CONVERSATION): Conversion(_each(_right_steps_to_conversation), _RIGHT, exact=False),
    (Format.STEPWISE, Format.PROMPT_COMPLETION): Conversion(_each(_right_steps_to_completion), _RIGHT, exact=False),
    (Format.STEPWISE, Format.PROMPT): Conversion(_each(_steps_to_prompt), "The prompt of each row."),
    (Format.EDIT, Format.PROMPT_COMPLETION): Conversion(_each(_edit_to_completion), "Each prompt with its new target."),
    (Format.EDIT, Format.TEXT): Conversion(_each(_edit_to_text), "Each fact as a sentence, with its new target."),
    (Format.DOCUMENTS, Format.TEXT): Conversion(_each(_document_to_text), "The title and the text of each document."),
    (Format.TEXT, Format.DOCUMENTS): Conversion(_each(lambda row: [row]), "Each text is a document without a title."),
}
"""From and to, with what does it. Methods convert by this table too, when a dataset is not in a format they take."""


def conversions_of(format: Format) -> dict[Format, Conversion]:
    """What rows of this format can become."""
    return {target: conversion for (source, target), conversion in CONVERSIONS.items() if source == format}


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
    yield from CONVERSIONS[source, target].rows(rows)
