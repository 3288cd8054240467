"""Canonical rows out of a file's rows, by a mapping."""

import re
from collections.abc import Callable
from typing import Any

from polm_core.data.answers import boxed, hash_marks
from polm_core.data.edits import edit_row
from polm_core.data.images import MAX_IMAGES, in_parts
from polm_core.data.labels import parse_label
from polm_core.data.mapping import Mapping
from polm_core.data.messages import (
    Message,
    Turns,
    calling_message,
    common_prefix,
    system_text,
    to_messages,
    to_turns,
    tool_definitions,
    up_to_last_answer,
    with_system,
)
from polm_core.data.problems import RowProblem
from polm_core.data.steps import chosen_steps, marked_steps
from polm_core.data.values import MISSING, Row, decoded, kind_name, read_path, scalar_text
from polm_core.formats import Format

DROPPED_BY_NATURE = frozenset({"preference.tie"})
"""Rules that drop a row without speaking against the file."""


def apply_mapping(row: Row, mapping: Mapping) -> Row:
    """The canonical row (see `polm_core.formats`) that `mapping` makes of `row`.

    What is done beyond renaming: `input` is put below the prompt after a blank line; a system prompt is put first
    unless the messages have one; what follows the assistant's last turn is left off. Raises `RowProblem`.
    """
    return _BUILDERS[mapping.format](_Fields(row, mapping))


class _Fields:
    """The mapped values of one row, by role."""

    def __init__(self, row: Row, mapping: Mapping) -> None:
        self._row = row
        self._columns = mapping.columns
        self.options = mapping.options

    def has(self, role: str) -> bool:
        return role in self._columns

    def column(self, role: str) -> str:
        return self._columns.get(role, role)

    def raw(self, role: str) -> Any:
        """The value, or None when it is null, missing or not mapped."""
        path = self._columns.get(role)
        value = None if path is None else read_path(self._row, path)
        return None if value is MISSING else value

    def needed(self, role: str) -> Any:
        value = self.raw(role)
        if value is None:
            raise self.empty(role)
        return value

    def empty(self, role: str) -> RowProblem:
        column = self.column(role)
        return RowProblem(
            f"{role}.empty", f"'{column}' is empty or missing.", "Fill it in, or leave the row out.", column=column
        )

    def text(self, role: str) -> str:
        """Text that is not blank."""
        text = scalar_text(self.needed(role), self.column(role))
        if not text.strip():
            raise self.empty(role)
        return text

    def optional_text(self, role: str) -> str:
        return scalar_text(self.raw(role), self.column(role))

    def system(self) -> str:
        return system_text(self.raw("system"), self.column("system")) if self.has("system") else ""

    def turns(self, role: str) -> Turns:
        """Text that is not blank, or messages."""
        turns = to_turns(self.needed(role), self.column(role), self.options.roles)
        if not turns or (isinstance(turns, str) and not turns.strip()):
            raise self.empty(role)
        return turns

    def messages(self, role: str) -> list[Message]:
        return to_messages(self.needed(role), self.column(role), self.options.roles)

    def prompt(self) -> Turns:
        """The prompt with `input` below it and the system prompt before it."""
        more = self.optional_text("input").strip()
        if more and not str(self.raw("prompt") or "").strip():
            prompt: Turns = more
        else:
            prompt = self.turns("prompt")
            if more and isinstance(prompt, str):
                prompt = f"{prompt}\n\n{more}"
        system = self.system()
        return with_system(_said_by("user", prompt), system) if system.strip() else prompt

    def answer(self, role: str, prompt: Turns) -> Turns:
        """The answer in `role`, without the prompt at its beginning when that is to be cut off."""
        return self.cut(role, self.turns(role), prompt)

    def cut(self, role: str, answer: Turns, prompt: Turns) -> Turns:
        if self.options.strip_prompt and isinstance(answer, str) and isinstance(prompt, str):
            answer = answer.removeprefix(prompt)
            if not answer.strip():
                raise self.empty(role)
        return answer

    def in_one_shape(self, prompt: Turns, *answers: Turns) -> tuple[Turns, ...]:
        """All as messages when the options ask for it or one of them is; else all as texts."""
        if self.options.chat or not all(isinstance(turns, str) for turns in (prompt, *answers)):
            return _said_by("user", prompt), *(_said_by("assistant", answer) for answer in answers)
        return prompt, *answers


def _said_by(role: str, turns: Turns) -> list[Message]:
    return [{"role": role, "content": turns}] if isinstance(turns, str) else turns


def _conversation(fields: _Fields) -> Row:
    if fields.has("messages"):
        messages = with_system(fields.messages("messages"), fields.system())
        column = fields.column("messages")
    else:
        messages = _turns_in_columns(fields)
        column = fields.column("calls" if fields.has("calls") else "completion")
    row: Row = {"messages": up_to_last_answer(messages, column)}
    if tools := tool_definitions(fields.raw("tools"), fields.column("tools")):
        row["tools"] = tools
    return row


def _turns_in_columns(fields: _Fields) -> list[Message]:
    prompt = fields.prompt()
    if fields.has("calls"):
        answer: Turns = [calling_message(fields.needed("calls"), fields.column("calls"))]
    else:
        answer = fields.answer("completion", prompt)
    messages = _said_by("user", prompt)
    start = 1 if messages[0]["role"] == "system" else 0
    return [*messages[:start], *_history(fields), *messages[start:], *_said_by("assistant", answer)]


def _history(fields: _Fields) -> list[Message]:
    column = fields.column("history")
    pairs = decoded(fields.raw("history")) or []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise RowProblem(
            "history.shape",
            f"'{column}' is not a list of [question, answer] pairs.",
            'Write it as [["question", "answer"], ...].',
            column=column,
        )
    return [
        {"role": role, "content": scalar_text(text, column)}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _prompt_completion(fields: _Fields) -> Row:
    prompt = fields.prompt()
    prompt, completion = fields.in_one_shape(prompt, fields.answer("completion", prompt))
    return {"prompt": prompt, "completion": completion}


def _text(fields: _Fields) -> Row:
    return {"text": fields.text("text")}


def _document(fields: _Fields) -> Row:
    named = {role: fields.optional_text(role).strip() for role in ("title", "source")}
    return {"text": fields.text("text"), **{role: text for role, text in named.items() if text}}


def _preference(fields: _Fields) -> Row:
    chosen, rejected = _better_and_worse(fields)
    if _shape(chosen) != _shape(rejected):
        raise RowProblem(
            "preference.shapes-differ",
            f"'{fields.column('chosen')}' and '{fields.column('rejected')}' are not of the same shape.",
            "Write both as text or both as messages, and both with or both without the prompt.",
            column=fields.column("rejected"),
        )
    if isinstance(chosen, list) and isinstance(rejected, list) and _shape(chosen) == "conversation":
        return _whole_conversations(fields, chosen, rejected)
    if fields.raw("prompt") is None and not fields.raw("input"):
        return _without_prompt(fields, chosen, rejected)
    prompt = fields.prompt()
    if fields.options.strip_prompt:
        chosen, rejected = (
            fields.cut(role, answer, prompt) for role, answer in (("chosen", chosen), ("rejected", rejected))
        )
    return _pair(fields, prompt, chosen, rejected)


def _pair(fields: _Fields, prompt: Turns, chosen: Turns, rejected: Turns) -> Row:
    prompt, chosen, rejected = fields.in_one_shape(prompt, chosen, rejected)
    for role, answer in (("chosen", chosen), ("rejected", rejected)):
        _check_answer(answer, fields.column(role))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _check_answer(answer: Turns, column: str) -> None:
    if isinstance(answer, list) and answer[-1]["role"] != "assistant":
        raise RowProblem(
            "messages.no-assistant",
            f"'{column}' does not end with a message of the assistant.",
            "The last message has to be the answer.",
            column=column,
        )


def _shape(turns: Turns) -> str:
    if isinstance(turns, str):
        return "text"
    return "conversation" if turns[0]["role"] in ("system", "user") else "answer"


def _whole_conversations(fields: _Fields, chosen: list[Message], rejected: list[Message]) -> Row:
    """Chosen and rejected each hold the conversation from its beginning: what they share is the prompt."""
    shared = common_prefix(chosen, rejected)
    if not any(message["role"] == "user" for message in chosen[:shared]):
        raise RowProblem(
            "preference.prompts-differ",
            f"'{fields.column('chosen')}' and '{fields.column('rejected')}' begin with different questions.",
            "Both have to answer the same question.",
            column=fields.column("rejected"),
        )
    prompt = with_system(chosen[:shared], fields.system())
    return _pair(fields, prompt, chosen[shared:], rejected[shared:])


def _without_prompt(fields: _Fields, chosen: Turns, rejected: Turns) -> Row:
    """Two texts that begin alike: what they share, up to a blank, is the prompt."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        shared = _shared_text(chosen, rejected)
        if chosen[:shared].strip():
            return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}
    raise RowProblem(
        "preference.no-prompt",
        f"There is no prompt, and '{fields.column('chosen')}' and '{fields.column('rejected')}' do not begin alike.",
        "Map a prompt column, or put the prompt at the beginning of both answers.",
        column=fields.column("chosen"),
    )


def _shared_text(first: str, second: str) -> int:
    """Length of the common beginning, ending at a blank, that leaves both something over."""
    end = min(len(first.rstrip()), len(second.rstrip()))
    shared = next((place for place in range(end) if first[place] != second[place]), end - 1)
    return next((place for place in range(shared, 0, -1) if first[place - 1].isspace()), 0)


def _better_and_worse(fields: _Fields) -> tuple[Turns, Turns]:
    if not fields.has("winner"):
        return fields.turns("chosen"), fields.turns("rejected")
    first, second = fields.turns("response_a"), fields.turns("response_b")
    return (first, second) if _winner(fields) == "response_a" else (second, first)


def _winner(fields: _Fields) -> str:
    """The winning role: the value is a column's name, or ends with what tells the two names apart (`model_a`, `2`)."""
    column = fields.column("winner")
    said = scalar_text(fields.needed("winner"), column).strip().lower().removesuffix(".0")
    first, second = (fields.column(role).lower() for role in ("response_a", "response_b"))
    # A number below zero is no name: it tells by how much one is better, each file in its own direction.
    words = re.split(r"[^0-9a-z]+", said) if said[:1] != "-" else [said]
    if "tie" in words or said in ("both", "neither", "equal", "draw"):
        raise RowProblem("preference.tie", "Neither answer won.", "Ties teach nothing and are left out.", column=column)
    for role, name, other in (("response_a", first, second), ("response_b", second, first)):
        if said == name or words[-1] == _distinct_end(name, other):
            return role
    raise RowProblem(
        "preference.winner",
        f"'{column}' says '{said[:40]}', which is neither '{first}' nor '{second}'.",
        "Write the name of the column with the better answer.",
        column=column,
    )


def _distinct_end(name: str, other: str) -> str:
    """What is left of `name` after the beginning it shares with `other`."""
    shared = next((place for place in range(len(name)) if name[: place + 1] != other[: place + 1]), len(name))
    return name[shared:].strip("_- ")


def _rating(fields: _Fields) -> Row:
    label = parse_label(fields.needed("label"), fields.column("label"), fields.options)
    if fields.has("messages"):
        whole = with_system(fields.messages("messages"), fields.system())
        messages = up_to_last_answer(whole, fields.column("messages"))
        return {"prompt": messages[:-1], "completion": messages[-1:], "label": label}
    return _prompt_completion(fields) | {"label": label}


def _prompt(fields: _Fields) -> Row:
    (prompt,) = fields.in_one_shape(fields.prompt())
    while isinstance(prompt, list) and prompt and prompt[-1]["role"] == "assistant":
        prompt = prompt[:-1]
    if not prompt:
        raise fields.empty("prompt")
    return {"prompt": prompt}


def _prompt_answer(fields: _Fields) -> Row:
    (prompt,) = fields.in_one_shape(fields.prompt())
    text, column = fields.text("answer"), fields.column("answer")
    solution = fields.optional_text("solution").strip()
    if fields.options.answer_extractor == "hash-marks":
        worked, text = hash_marks(text, column)
        solution = solution or worked
    elif fields.options.answer_extractor == "boxed":
        solution = solution or text.strip()
        text = boxed(text, column)
    row: Row = {"prompt": prompt, "answer": text.strip()}
    return row | {"solution": solution} if solution else row


def _stepwise(fields: _Fields) -> Row:
    if fields.has("marked"):
        columns = (fields.column("marked"), fields.column("marks"))
        prompt, steps, labels = marked_steps(fields.text("marked"), fields.text("marks"), columns)
        return {"prompt": prompt, "completions": steps, "labels": labels}
    if fields.has("tries"):
        column = fields.column("tries")
        steps, found = chosen_steps(fields.needed("tries"), column)
        return {
            "prompt": _asked(fields),
            "completions": steps,
            "labels": [parse_label(label, column, fields.options) for label in found],
        }
    return _steps_in_lists(fields)


def _steps_in_lists(fields: _Fields) -> Row:
    steps, labels = (decoded(fields.needed(role)) for role in ("completions", "labels"))
    for role, items in (("completions", steps), ("labels", labels)):
        if not isinstance(items, list) or not items:
            column = fields.column(role)
            what = "an empty list" if isinstance(items, list) else kind_name(items)
            raise RowProblem(f"{role}.not-a-list", f"'{column}' holds {what}.", "Write a list.", column=column)
    if len(steps) != len(labels):
        raise RowProblem(
            "stepwise.lengths",
            f"There are {len(steps)} steps and {len(labels)} labels.",
            "Give each step one label.",
            column=fields.column("labels"),
        )
    return {
        "prompt": _asked(fields),
        "completions": [scalar_text(step, fields.column("completions")) for step in steps],
        "labels": [parse_label(label, fields.column("labels"), fields.options) for label in labels],
    }


def _edit(fields: _Fields) -> Row:
    return edit_row(
        fields.text("prompt"),
        fields.text("subject"),
        fields.text("target"),
        paraphrases=fields.raw("paraphrases"),
        neighbours=fields.raw("neighbours"),
        before=fields.optional_text("before"),
        column=fields.column,
    )


def _asked(fields: _Fields) -> str:
    prompt = fields.prompt()
    return prompt if isinstance(prompt, str) else "\n\n".join(message["content"] for message in prompt)


def _image_conversation(fields: _Fields) -> Row:
    """The last answer about the images, and what was said before it. The images are as the file names them."""
    images, column = _image_names(fields), fields.column("images")
    if fields.has("messages"):
        messages = with_system(fields.messages("messages"), fields.system())
        messages = up_to_last_answer(messages, fields.column("messages"))
        prompt, completion = messages[:-1], messages[-1:]
    else:
        prompt = _said_by("user", fields.prompt())
        completion = _said_by("assistant", fields.answer("completion", prompt))
    try:
        in_parts(prompt, len(images))
        in_parts(completion, 0)
    except RowProblem as problem:
        problem.column = column
        raise
    return {"images": images, "prompt": prompt, "completion": completion}


def _image_names(fields: _Fields) -> list[str]:
    value, column = decoded(fields.needed("images")), fields.column("images")
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise RowProblem(
            "images.not-names",
            f"'{column}' holds {kind_name(value)} that names no images.",
            "Write the file's name in the zip, or a list of names.",
            column=column,
        )
    if not 1 <= len(names) <= MAX_IMAGES:
        raise RowProblem(
            "images.number",
            f"The row has {len(names)} images; 1 to {MAX_IMAGES} can be used.",
            "Split the row, or leave it out.",
            column=column,
        )
    return names


_BUILDERS: dict[Format, Callable[[_Fields], Row]] = {
    Format.CONVERSATION: _conversation,
    Format.PROMPT_COMPLETION: _prompt_completion,
    Format.TEXT: _text,
    Format.PREFERENCE: _preference,
    Format.RATING: _rating,
    Format.PROMPT: _prompt,
    Format.PROMPT_ANSWER: _prompt_answer,
    Format.STEPWISE: _stepwise,
    Format.EDIT: _edit,
    Format.IMAGE_CONVERSATION: _image_conversation,
    Format.DOCUMENTS: _document,
}
