"""How much each setting matters for a metric, told from runs alone: those of a sweep, or any others.

The measure is epsilon squared of the Kruskal-Wallis test (Kelley 1935; Tomczak and Tomczak 2014): the share of the
variation in the ranks of the metric that the setting explains by itself, less what chance would explain. Ranks make it
indifferent to one run that diverged. Numbers of many values are cut into bins of equal count, so that a setting that is
best in its middle, as learning rates are, counts as much as one that is best at an end. What only two settings together
do is not seen.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Fewer runs tell nothing.
LEAST_ROWS = 4
MAX_BINS = 5
_ROWS_A_BIN = 4

Row = tuple[Mapping[str, Any], float]


@dataclass(frozen=True)
class Importance:
    """A setting's `share`, from 0 to 1, and for numbers the `trend`, Spearman's rank correlation with the metric."""

    path: str
    share: float
    trend: float | None


def importances(rows: Sequence[Row]) -> list[Importance]:
    """Each setting that differs between the rows, the most important first.

    A row has a run's settings by their dotted names and its metric, which is finite.
    """
    if len(rows) < LEAST_ROWS:
        return []
    ranks = _ranks(np.array([value for _, value in rows]))
    found = []
    for path in sorted({path for settings, _ in rows for path in settings}):
        values = [settings.get(path) for settings, _ in rows]
        groups = _groups(values)
        if groups.max(initial=0) > 0:
            found.append(Importance(path, _epsilon_squared(groups, ranks), _trend(values, ranks)))
    return sorted(found, key=lambda one: (-one.share, one.path))


def _groups(values: Sequence[Any]) -> npt.NDArray[np.int64]:
    """The group that each value belongs to, counted from 0."""
    numbers = _numbers(values)
    if numbers is None:
        return np.unique([json.dumps(value, sort_keys=True) for value in values], return_inverse=True)[1]
    different, groups = np.unique(numbers, return_inverse=True)
    bins = max(2, min(MAX_BINS, len(values) // _ROWS_A_BIN))
    if len(different) <= bins:
        return groups
    edges = np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, numbers, side="left"), return_inverse=True)[1]


def _epsilon_squared(groups: npt.NDArray[np.int64], ranks: npt.NDArray[np.float64]) -> float:
    rows, count = len(ranks), int(groups.max()) + 1
    total = float(((ranks - ranks.mean()) ** 2).sum())
    if total == 0 or rows <= count:
        return 0.0
    sizes = np.bincount(groups)
    means = np.bincount(groups, ranks) / sizes
    within = float(((ranks - means[groups]) ** 2).sum())
    return max(0.0, 1 - within / (rows - count) / (total / (rows - 1)))


def _trend(values: Sequence[Any], ranks: npt.NDArray[np.float64]) -> float | None:
    numbers = _numbers(values)
    if numbers is None or np.ptp(ranks) == 0:
        return None
    return float(np.corrcoef(_ranks(numbers), ranks)[0, 1])


def _numbers(values: Sequence[Any]) -> npt.NDArray[np.float64] | None:
    """The values, if all of them are numbers."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    return np.array(values, "f8")


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Places in rising order; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[place]
