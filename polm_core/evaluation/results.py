"""What an evaluation leaves behind: figures with intervals, and the score of each row, so that models can be compared
row by row."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.evaluation.intervals import Scores, mean_interval
from polm_core.method import BAND_ENDS
from polm_core.methods.reasoning.voting import counts_up_to
from polm_core.run_dir import write_atomic
from polm_core.training.rows import Row, fingerprint

_DIGITS = 15
Better = Literal["higher", "lower", ""]


class Figure(BaseModel):
    """One metric: its value, the bounds that hold it at 95 %, on so many rows.

    `better` says which way is better, empty for neither. Figures that are derived from another, as perplexity is from
    loss, carry no scores and do not stand in the leaderboard; `listed` tells. `keys` name the rows (60 bits of their
    content), `scores` and `weights` are theirs in the same order; no weights are weights that are all alike.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    metric: str = Field(max_length=100)
    value: float
    low: float
    high: float
    rows: int = Field(ge=1)
    better: Better = ""
    listed: bool = True
    keys: list[int] = []
    scores: list[float] = []
    weights: list[float] = []

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def alone(self) -> "Figure":
        """The same beside another that stands in the leaderboard."""
        return self.model_copy(update={"listed": False, "keys": [], "scores": [], "weights": []})


class Figures(BaseModel):
    """The content of `figures.json`."""

    model_config = ConfigDict(extra="forbid")
    figures: list[Figure]


def figure(metric: str, scores: Scores, better: Better) -> Figure:
    """The mean of the rows' scores with its interval."""
    mean = mean_interval(scores.scores, scores.weights)
    return Figure(
        metric=metric,
        value=mean.value,
        low=mean.low,
        high=mean.high,
        rows=len(scores.scores),
        better=better,
        keys=list(scores.keys),
        scores=list(scores.scores),
        weights=list(scores.weights),
    )


def growing(
    context: RunContext, rows: Sequence[Row], measure: Callable[[Sequence[Row]], Iterable[Figure]]
) -> dict[str, float]:
    """Log what the first of the measured rows come to, of ever more of them, and leave what all do: the end of an
    evaluation. Returns its metrics."""
    context.phase("counting")
    figures: list[Figure] = []
    for count in counts_up_to(len(rows)):
        figures = list(measure(rows[:count]))
        context.log_metrics(count, _values(figures))
    write_atomic(context.run_dir.figures, Figures(figures=figures).model_dump_json())
    context.phase("done")
    return dict(context.latest)


def _values(figures: Sequence[Figure]) -> dict[str, float]:
    """The figures as metrics, with their bounds beside them."""
    values: dict[str, float] = {}
    for one in figures:
        bounds = zip(BAND_ENDS, one.bounds, strict=True)
        values |= {one.metric: one.value} | {f"{one.metric}/{end}": bound for end, bound in bounds}
    return values


def read_figures(path: Path) -> list[Figure]:
    """What an evaluation has left; nothing for a run that was none. Raises `DataError` for a file that is broken."""
    try:
        return Figures.model_validate_json(path.read_bytes()).figures
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise DataError(
            "What the evaluation measured cannot be read.", code="evaluation.broken", advice="Run it again."
        ) from error


def row_keys(rows: Sequence[Row]) -> list[int]:
    """A number for each row by its content; equal rows are told apart by their order."""
    seen: dict[str, int] = {}
    keys = []
    for row in rows:
        mark = fingerprint(row)
        again = seen[mark] = seen.get(mark, -1) + 1
        keys.append(int((fingerprint({"row": mark, "again": again}) if again else mark)[:_DIGITS], 16))
    return keys
