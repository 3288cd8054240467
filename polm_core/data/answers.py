"""Final answers out of worked solutions."""

from polm_core.data.problems import RowProblem

HASH_MARKS = "####"
_BOXED = "\\boxed{"


def hash_marks(text: str, column: str) -> tuple[str, str]:
    """The solution and the final answer of GSM8K's `... #### 70,000`; commas inside a number are left out.

    Raises `RowProblem` when the marks are missing or nothing follows them.
    """
    solution, marks, answer = text.rpartition(HASH_MARKS)
    answer = answer.strip()
    if not marks or not answer:
        raise RowProblem(
            "answer.no-marks",
            f"'{column}' has no answer after '{HASH_MARKS}'.",
            f"End the solution with '{HASH_MARKS} answer', or take the whole column as the answer.",
            column=column,
        )
    plain = answer.replace(",", "")
    return solution.strip(), plain if plain.lstrip("-$").replace(".", "", 1).isdecimal() else answer


def boxed(text: str, column: str) -> str:
    """What the last `\\boxed{}` of a solution holds, braces inside it included. Raises `RowProblem` without one."""
    start = text.rfind(_BOXED)
    depth = 0
    for place in range(start + len(_BOXED) - 1, len(text)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + len(_BOXED) : place].strip()
    raise RowProblem(
        "answer.no-box",
        f"'{column}' has no complete \\boxed{{}}.",
        "Put the final answer in \\boxed{}, or take the whole column as the answer.",
        column=column,
    )
