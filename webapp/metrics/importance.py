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

    A setting of numbers explains the square of Spearman's rank correlation with the metric, any other the correlation
    ratio (eta squared) of the metric's ranks by its values. As k values explain (k - 1) / (n - 1) of n ranks by mere
    chance, that is taken off, as in the adjusted R squared; a line counts as k = 2. Settings are looked at one by one:
    what only two together do is not seen. Runs without the metric are left out, and settings that too few of the
    others have, or that are the same for all of them.
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
    if numbers:
        given = ranks(np.array(kept, "f8"))
        if np.ptp(given) == 0:
            return None
        correlation = float(np.corrcoef(given, ranked)[0, 1])
        return _adjusted(correlation**2, len(kept), 2), correlation, len(kept)
    names, group = np.unique([as_text(value) for value in kept], return_inverse=True)
    if len(names) == 1:
        return None
    sizes = np.bincount(group)
    centres = np.bincount(group, ranked) / sizes
    between = float((sizes * (centres - ranked.mean()) ** 2).sum())
    return _adjusted(between / float(((ranked - ranked.mean()) ** 2).sum()), len(kept), len(names)), None, len(kept)


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
