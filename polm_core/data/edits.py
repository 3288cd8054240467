"""Facts to change, as they are published: templates with `{}` for the subject, neighbours as texts or with answers."""

from collections.abc import Callable
from typing import Any

from polm_core.data.problems import RowProblem
from polm_core.data.values import Row, decoded, kind_name, scalar_text

GAP = "{}"
"""What CounterFact writes in a prompt where the subject goes."""


def edit_row(
    prompt: str,
    subject: str,
    target: str,
    *,
    paraphrases: Any = None,
    neighbours: Any = None,
    before: str = "",
    column: Callable[[str], str] = str,
) -> Row:
    """A canonical row: the subject is put into the prompt, and what follows a prompt begins with a blank.

    `before` is the answer until now, which is that of neighbours without one of their own. `column` names the column of
    a role in problems. Raises `RowProblem`.
    """
    subject = subject.strip()
    prompt = prompt.replace(GAP, subject).rstrip()
    if not subject or subject not in prompt:
        raise RowProblem(
            "edit.subject",
            f"'{column('subject')}' says '{subject[:40]}', which is not in '{column('prompt')}'.",
            "Write the subject as it stands in the prompt, or {} in its place.",
            column=column("subject"),
        )
    if not target.strip():
        raise RowProblem(
            "target.empty", f"'{column('target')}' is empty.", "Write what is to follow.", column=column("target")
        )
    if before.strip() == target.strip():
        raise RowProblem(
            "edit.unchanged",
            f"'{column('target')}' is the answer before as well: nothing would change.",
            "Write another target, or leave the row out.",
            column=column("target"),
        )
    row: Row = {"prompt": prompt, "subject": subject, "target": _after(target)}
    if texts := _list(paraphrases, column("paraphrases")):
        said = [scalar_text(text, column("paraphrases")).replace(GAP, subject).rstrip() for text in texts]
        row["paraphrases"] = [text for text in said if text]
    if others := _list(neighbours, column("neighbours")):
        row["neighbours"] = [_neighbour(other, before, column("neighbours")) for other in others]
    return row


def _after(target: str) -> str:
    """A target as it follows a prompt: tokens of words begin with a blank."""
    return f" {target.strip()}"


def _list(value: Any, column: str) -> list[Any]:
    value = decoded(value)
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise RowProblem("edit.not-a-list", f"'{column}' holds {kind_name(value)}.", "Write a list.", column=column)
    return value


def _neighbour(value: Any, before: str, column: str) -> Row:
    prompt = value.get("prompt") if isinstance(value, dict) else value
    target = value.get("target", before) if isinstance(value, dict) else before
    if not isinstance(prompt, str) or not prompt.strip() or not isinstance(target, str) or not target.strip():
        raise RowProblem(
            "edit.neighbour",
            f"'{column}' holds a neighbour without its prompt or its answer.",
            'Write each as {"prompt": ..., "target": ...}, or map the answer before.',
            column=column,
        )
    return {"prompt": prompt.rstrip(), "target": _after(target)}
