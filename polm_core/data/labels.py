"""Labels of answers: true or false out of booleans, thumbs and numbers."""

import math
from typing import Any

from polm_core.data.mapping import MappingOptions
from polm_core.data.problems import RowProblem
from polm_core.data.values import kind_name

_OPPOSITES = (
    ("true", "false"),
    ("yes", "no"),
    ("y", "n"),
    ("good", "bad"),
    ("up", "down"),
    ("upvote", "downvote"),
    ("thumbs_up", "thumbs_down"),
    ("thumbsup", "thumbsdown"),
    ("like", "dislike"),
    ("liked", "disliked"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("desirable", "undesirable"),
    ("correct", "incorrect"),
    ("right", "wrong"),
    ("helpful", "unhelpful"),
    ("chosen", "rejected"),
    ("accept", "reject"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
    ("win", "lose"),
    ("+", "-"),
    ("👍", "👎"),
    ("✅", "❌"),
)
_WORDS = {good: True for good, _ in _OPPOSITES} | {bad: False for _, bad in _OPPOSITES}


def known_label(value: Any) -> bool | None:
    """The label if it is clear by itself: a boolean, a usual word, or 1 against 0 or -1."""
    if isinstance(value, bool):
        return value
    number = as_number(value)
    if number is not None:
        return {1.0: True, 0.0: False, -1.0: False}.get(number)
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower().replace(" ", "_").replace("thumbs-", "thumbs_"))
    return None


def as_number(value: Any) -> float | None:
    """A finite number, or a string that is one; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_label(value: Any, column: str, options: MappingOptions) -> bool:
    """Whether `value` marks an answer as good. Raises `RowProblem` when it does not say."""
    if options.labels:
        table = {key.lower(): good for key, good in options.labels.items()}
        if str(value).strip().lower() in table:
            return table[str(value).strip().lower()]
    number = as_number(value)
    if options.label_threshold is not None and number is not None:
        return number >= options.label_threshold
    label = known_label(value)
    if label is not None:
        return label
    said = f"'{str(value)[:40]}'" if isinstance(value, str | int | float) else kind_name(value)
    raise RowProblem(
        "label.unclear",
        f"'{column}' says {said}, which is neither good nor bad by itself.",
        "Set a label threshold for numbers, or say which label values are good."
        if number is not None
        else "Say in the mapping's labels which values are good and which are bad.",
        column=column,
    )
