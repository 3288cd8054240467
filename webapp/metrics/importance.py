"""Which settings go with a metric over a handful of runs: one number a setting, from ranks alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polm_core.settings import as_text

Floats = npt.NDArray[np.float64]

# With fewer there is nothing left to tell once the setting's own freedom is taken off.
MIN_RUNS = 4
_MAX_BINS = 5
_RUNS_A_BIN = 4


@dataclass(frozen=True)
class Importance:
    """How much of the metric's order over `runs` runs a setting explains.

    `explained` is between 0 and 1, `share` the part of what all settings explain, taken one by one. `correlation` is
    Spearman's rank correlation, -1 to 1; None for a setting whose values are no numbers.
    """

    field: str
    explained: float
    share: float
    correlation: float | None
    runs: int


def importance(
    settings: Mapping[str, Sequence[Any]], metric: Sequence[float | None], *, min_runs: int = MIN_RUNS
) -> list[Importance]:
    """The settings by how much of the metric they explain, most first. `settings[name]` has a value for each run.

    A setting explains epsilon squared of the Kruskal-Wallis test (Kelley 1935; Tomczak and Tomczak 2014): the share of
    the variation in the metric's ranks that lies between its values, less the (k - 1) / (n - 1) that k values explain
    of n ranks by mere chance. Ranks make it indifferent to one run that diverged. Numbers of many values are cut into
    bins of equal count, so that one that is best in its middle, as learning rates are, counts as much as one that is
    best at an end. Settings are looked at one by one: what only two together do is not seen. Runs without the metric
    are left out, and settings that too few of the others have, or that are the same for all of them.
    """
    target = np.array([np.nan if value is None else value for value in metric], "f8")
    told = [(field, _explained(list(values), target, min_runs)) for field, values in settings.items()]
    found = [(field, one) for field, one in told if one is not None]
    total = sum(explained for _, (explained, _, _) in found)
    rows = [
        Importance(field, explained, explained / total if total else 0.0, correlation, runs)
        for field, (explained, correlation, runs) in found
    ]
    return sorted(rows, key=lambda row: (-row.explained, row.field))


def _explained(values: list[Any], target: Floats, min_runs: int) -> tuple[float, float | None, int] | None:
    """What is explained, the correlation if there is one, and of how many runs; None where nothing can be told."""
    numbers = all(value is None or is_number(value) for value in values)
    usable = np.isfinite(target)
    if numbers:
        usable &= np.array([value is not None for value in values], bool)
    kept = [value for value, use in zip(values, usable, strict=True) if use]
    ranked = ranks(target[usable])
    if len(kept) < min_runs or np.ptp(ranked) == 0:
        return None
    correlation = None
    if numbers:
        given = np.array(kept, "f8")
        if np.ptp(given) == 0:
            return None
        correlation = float(np.corrcoef(ranks(given), ranked)[0, 1])
        names, group = np.unique(_binned(given), return_inverse=True)
    else:
        names, group = np.unique([as_text(value) for value in kept], return_inverse=True)
    if len(names) == 1:
        return None
    sizes = np.bincount(group)
    centres = np.bincount(group, ranked) / sizes
    between = float((sizes * (centres - ranked.mean()) ** 2).sum())
    explained = between / float(((ranked - ranked.mean()) ** 2).sum())
    return _adjusted(explained, len(kept), len(names)), correlation, len(kept)


def _binned(values: Floats) -> Floats:
    """Numbers of few values as they are, others by the bin of equal count that they fall into."""
    bins = max(2, min(_MAX_BINS, len(values) // _RUNS_A_BIN))
    if len(np.unique(values)) <= bins:
        return values
    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, values, side="left").astype("f8")


def is_number(value: Any) -> bool:
    """Whether values of this kind have an order that means something."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of theirs."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    found: Floats = (np.cumsum(sizes) - (sizes - 1) / 2)[place]
    return found


def _adjusted(explained: float, runs: int, levels: int) -> float:
    """Without what so many levels explain of so many ranks by chance; 0 where a level each explains everything."""
    if runs <= levels:
        return 0.0
    return max(0.0, 1 - (1 - explained) * (runs - 1) / (runs - levels))
