"""Canonical rows as pages show them: who says what, with long texts cut."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from polm_core.data.images import IMAGE_NAME
from polm_core.formats import Format

# Characters of one text; the API gives rows in full.
MAX_TEXT = 2000
MAX_TURNS = 40


@dataclass(frozen=True)
class Turn:
    """Something said, by a role or, for plain text, as a part of the row. `more` counts characters left out.

    `muted` tells that an answer is there to be read, not to be learned.
    """

    role: str
    text: str
    more: int = 0
    muted: bool = False


@dataclass(frozen=True)
class Part:
    """Turns, under a title if there is one. `tone` is good, bad or empty; `more` counts turns left out."""

    title: str
    turns: list[Turn]
    tone: str = ""
    more: int = 0


@dataclass(frozen=True)
class RowView:
    """A row: parts below each other, then those of `pair` side by side. `label` is that of a rating, `images` names
    those that the dataset keeps."""

    parts: list[Part]
    pair: list[Part] = field(default_factory=list)
    label: bool | None = None
    images: list[str] = field(default_factory=list)


def row_view(format: str, row: dict[str, Any]) -> RowView:
    """How a row of that format is shown; one that does not have the format's columns is shown as JSON."""
    build = _BUILDERS.get(format)
    try:
        return build(row) if build else _as_json(row)
    except (KeyError, TypeError, AttributeError):
        return _as_json(row)


def as_json(value: Any) -> str:
    """A value for reading, cut like any other text."""
    turn = shown_turn("", json.dumps(value, indent=1, ensure_ascii=False, default=str))
    return f"{turn.text}…" if turn.more else turn.text


def _as_json(row: dict[str, Any]) -> RowView:
    return RowView([Part("", [shown_turn("json", json.dumps(row, indent=1, ensure_ascii=False, default=str))])])


def shown_turn(role: str, text: Any) -> Turn:
    """A text as it is shown, cut where it is long."""
    text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    return Turn(role, text[:MAX_TEXT], max(0, len(text) - MAX_TEXT))


def said(row: dict[str, Any]) -> list[tuple[str, str]]:
    """All texts of a row in their order and whole, each under who says it, or under the column that it stands in."""
    found = []
    for column, value in row.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and "role" in item:
                found.append((item["role"] if column in ("messages", "prompt") else column, message_text(item)))
            else:
                found.append((column, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)))
    return found


def message_text(message: dict[str, Any]) -> str:
    """What a message says, with the tools that it calls."""
    text: str = message.get("content") or ""
    if calls := message.get("tool_calls"):
        text = f"{text}\n{json.dumps(calls, indent=1, ensure_ascii=False)}".strip()
    return text


def _message(message: dict[str, Any]) -> Turn:
    return replace(shown_turn(message["role"], message_text(message)), muted=message.get("weight") == 0)


def _part(title: str, said: Any, role: str, tone: str = "") -> Part:
    """Text, to be shown as `role`, or messages with roles of their own."""
    turns = [shown_turn(role, said)] if isinstance(said, str) else [_message(message) for message in said[:MAX_TURNS]]
    return Part(title, turns, tone, 0 if isinstance(said, str) else max(0, len(said) - MAX_TURNS))


def _conversation(row: dict[str, Any]) -> RowView:
    parts = [_part("", row["messages"], "")]
    if tools := row.get("tools"):
        parts.insert(0, Part("", [shown_turn("tools", json.dumps(tools, indent=1, ensure_ascii=False))]))
    return RowView(parts)


def _prompt_completion(row: dict[str, Any]) -> RowView:
    return RowView([_part("", row["prompt"], "prompt"), _part("", row["completion"], "completion")])


def _preference(row: dict[str, Any]) -> RowView:
    return RowView(
        [_part("", row["prompt"], "prompt")],
        pair=[_part("Chosen", row["chosen"], "", "good"), _part("Rejected", row["rejected"], "", "bad")],
    )


def _rating(row: dict[str, Any]) -> RowView:
    return RowView(_prompt_completion(row).parts, label=bool(row["label"]))


def _prompt(row: dict[str, Any]) -> RowView:
    return RowView([_part("", row["prompt"], "prompt")])


def _prompt_answer(row: dict[str, Any]) -> RowView:
    parts = [_part("", row["prompt"], "prompt")]
    if solution := row.get("solution"):
        parts.append(_part("", solution, "solution"))
    return RowView([*parts, _part("", row["answer"], "answer", "good")])


def _stepwise(row: dict[str, Any]) -> RowView:
    steps = zip(row["completions"], row["labels"], strict=True)
    parts = [
        _part("", step, f"step {number}, {'right' if right else 'wrong'}", "good" if right else "bad")
        for number, (step, right) in enumerate(list(steps)[:MAX_TURNS], 1)
    ]
    return RowView([_part("", row["prompt"], "prompt"), *parts])


def _edit(row: dict[str, Any]) -> RowView:
    parts = [_part("", row["prompt"], f"about {row['subject']}"), _part("", row["target"], "new answer", "good")]
    parts += [_part("", text, "paraphrase") for text in row.get("paraphrases", ())[:MAX_TURNS]]
    parts += [_part("", one["prompt"] + one["target"], "stays") for one in row.get("neighbours", ())[:MAX_TURNS]]
    return RowView(parts)


def _image_conversation(row: dict[str, Any]) -> RowView:
    """Before they are kept, images are shown by the names that the file gives them."""
    kept = [name for name in row["images"] if IMAGE_NAME.fullmatch(name)]
    named = [] if kept else [Part("", [shown_turn("images", "\n".join(row["images"]))])]
    return RowView([*named, *_prompt_completion(row).parts], images=kept)


def _text(row: dict[str, Any]) -> RowView:
    return RowView([_part("", row["text"], "text")])


_BUILDERS: dict[str, Callable[[dict[str, Any]], RowView]] = {
    Format.CONVERSATION: _conversation,
    Format.PROMPT_COMPLETION: _prompt_completion,
    Format.PREFERENCE: _preference,
    Format.RATING: _rating,
    Format.PROMPT: _prompt,
    Format.PROMPT_ANSWER: _prompt_answer,
    Format.STEPWISE: _stepwise,
    Format.TEXT: _text,
    Format.EDIT: _edit,
    Format.IMAGE_CONVERSATION: _image_conversation,
}
