"""Solutions in steps, as they are published: tries at each step (PRM800K), marks in a text (Math-Shepherd).

Each gives the steps with the label of each as the file writes it; `labels` reads those.
"""

from typing import Any

from polm_core.data.problems import RowProblem
from polm_core.data.values import decoded, kind_name, scalar_text

STEP_MARK = "ки"
"""What Math-Shepherd writes at the end of each step; its other column has + or - there."""

_MARKS = {"+": True, "-": False}


def chosen_steps(value: Any, column: str) -> tuple[list[str], list[Any]]:
    """The one path through a list of tries that its maker took, with the rating of each step.

    A step that a person wrote is right. The path ends with the first step for which nothing was chosen: the try that
    is rated worst shows what ended it. Tries that were not chosen before are left out. Raises `RowProblem`.
    """
    steps: list[str] = []
    labels: list[Any] = []
    entries = decoded(value)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _shape(column, kind_name(entries))
    for entry in entries:
        tries, chosen, written = (entry.get(key) for key in ("completions", "chosen_completion", "human_completion"))
        tries = tries or []
        ended = chosen is None and not written
        if written and chosen is None:
            text, label = written.get("text") if isinstance(written, dict) else written, True
        elif ended and tries:
            worst = min(tries, key=_rating)
            text, label = worst.get("text"), worst.get("rating")
        elif isinstance(chosen, int) and 0 <= chosen < len(tries):
            text, label = tries[chosen].get("text"), tries[chosen].get("rating")
        elif ended:
            break
        else:
            raise _shape(column, f"step {len(steps) + 1} whose chosen try is not there")
        steps.append(scalar_text(text, column))
        labels.append(label)
        if ended:
            break
    if not steps:
        raise _shape(column, "no step")
    return steps, labels


def is_tries(value: Any) -> bool:
    """Whether `value` is a list of steps with several tries each."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(entry, dict) and {"completions", "chosen_completion"} <= set(entry) for entry in value)
    )


def _rating(entry: dict[str, Any]) -> float:
    rating = entry.get("rating")
    return float(rating) if isinstance(rating, int | float) else 0.0


def _shape(column: str, found: str) -> RowProblem:
    return RowProblem(
        "tries.shape",
        f"'{column}' holds {found} where steps with tries are needed.",
        'Write each step as {"completions": [{"text", "rating"}, ...], "chosen_completion": 0}.',
        column=column,
    )


def marked_steps(text: str, marks: str, columns: tuple[str, str]) -> tuple[str, list[str], list[bool]]:
    """Prompt, steps and labels out of a text with marks and the same text with + or - in their place.

    The prompt is what stands before "Step 1:". Raises `RowProblem`.
    """
    parts = text.split(STEP_MARK)
    labels, place = [], 0
    for part in parts[:-1]:
        place += len(part)
        said = marks[place : place + 1]
        if said not in _MARKS or marks[place - len(part) : place] != part:
            raise RowProblem(
                "marks.differ",
                f"'{columns[1]}' is not the text of '{columns[0]}' with + or - in place of each {STEP_MARK}.",
                f"Write both texts alike up to the marks, and end each step with {STEP_MARK}.",
                column=columns[1],
            )
        labels.append(_MARKS[said])
        place += 1
    prompt, begin, first = parts[0].partition("Step 1:")
    if not labels or not begin or not prompt.strip():
        raise RowProblem(
            "marks.none",
            f"'{columns[0]}' has no question followed by steps that end with {STEP_MARK}.",
            f'Write it as "question Step 1: ... {STEP_MARK}".',
            column=columns[0],
        )
    return prompt.strip(), [f"{begin}{first}".strip(), *(part.strip() for part in parts[1:-1])], labels
