"""The decision line of a run: what it was to show, what came out, and what that says of the first."""

from polm_core.data.values import is_storable
from webapp.errors import Conflict, Invalid
from webapp.runs.models import FINISHED, MAX_LINE, Run, Verdict


def decide(run: Run, *, hypothesis: str | None, result: str | None, verdict: str | None) -> list[str]:
    """Set what is given of a run's decision line, without saving it; returns the names of what was.

    Raises Invalid with the fields at fault, and Conflict for a result or a verdict of a run that has not finished.
    """
    given = {"hypothesis": hypothesis, "result": result, "verdict": verdict}
    given = {name: text for name, text in given.items() if text is not None}
    problems: dict[str, list[str]] = {}
    for name, text in given.items():
        try:
            setattr(run, name, text if name == "verdict" else clean_line(name, str(text)))
        except Invalid as error:
            problems |= error.fields
    if verdict and verdict not in Verdict.values:
        problems["verdict"] = [f"must be one of {', '.join(Verdict.values)}, or nothing"]
    if problems:
        raise Invalid("The decision is not accepted.", fields=problems)
    if (result or verdict) and run.status not in FINISHED:
        raise Conflict(
            "The run has not finished.", advice="A hypothesis can be written now; result and verdict, once it has."
        )
    return list(given)


def clean_line(name: str, text: str) -> str:
    """One line of at most `MAX_LINE` characters; what stood on several is joined."""
    line = " ".join(text.split())
    if len(line) > MAX_LINE or not is_storable(line):
        raise Invalid(f"The {name} is not accepted.", fields={name: [f"must have at most {MAX_LINE} characters"]})
    return line
