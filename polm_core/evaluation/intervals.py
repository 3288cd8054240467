"""How sure a mean over rows is, and the difference between two of them. Pure functions on numpy.

A mean is that of scores by their weights: a loss over tokens weighs each row by its tokens, an accuracy all alike. Up
to `RESAMPLED` rows intervals are the bootstrap's over rows: percentiles 2.5 to 97.5 of `RESAMPLES` resamples. Of more
rows they are the normal ones of the same mean, which come to the same there, and cost nothing (arXiv 2411.00640).
"""

from functools import lru_cache
from typing import Any, NamedTuple

RESAMPLES = 1000
RESAMPLED = 1000
# Quantile of the normal distribution for 95 %.
_Z = 1.959964
_SEED = 2411
# Fewer rows in common say too little of what was measured on all.
_COMMON_SHARE = 0.5


Values = Any
"""A list of numbers, or an array."""


class Interval(NamedTuple):
    """A mean and the bounds that hold it at 95 %."""

    value: float
    low: float
    high: float


class Scores(NamedTuple):
    """The score of each row, by the row's key; `weights` is empty where all rows weigh alike."""

    keys: Values
    scores: Values
    weights: Values = ()


class Difference(NamedTuple):
    """How much higher the first of two means is. `rows` is how many rows of both were compared one by one; None where
    they were not, so that the difference also holds that of the rows."""

    value: float
    low: float
    high: float
    rows: int | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out no difference at all."""
        return self.low > 0 or self.high < 0


def mean_interval(scores: Values, weights: Values = ()) -> Interval:
    """The weighted mean of at least one row's score, with its interval."""
    import numpy as np

    columns = _columns(scores, weights)
    value = float(columns[:, 0].sum() / columns[:, 1].sum())
    if len(columns) > RESAMPLED:
        return Interval(value, *_around(value, float(np.sqrt((_leverage(columns, value) ** 2).sum()))))
    sums = _resampled(columns)
    return Interval(value, *_percentiles(sums[:, 0] / sums[:, 1]))


def difference(one: Scores, other: Scores) -> Difference | None:
    """How much higher the mean of `one` is: row by row where at least half of the rows of both are the same ones.

    None where either has no scores.
    """
    import numpy as np

    if not len(one.scores) or not len(other.scores):
        return None
    columns = [_columns(each.scores, each.weights) for each in (one, other)]
    common, first, second = np.intersect1d(one.keys, other.keys, assume_unique=True, return_indices=True)
    if len(common) < _COMMON_SHARE * max(map(len, columns)):
        return unpaired(mean_interval(one.scores, one.weights), mean_interval(other.scores, other.weights))
    return _paired(columns[0][first], columns[1][second])


def unpaired(one: Interval, other: Interval) -> Difference:
    """The difference of two means that were measured on other rows each, or whose rows are not known."""
    value = one.value - other.value
    below = ((one.value - one.low) ** 2 + (other.high - other.value) ** 2) ** 0.5
    above = ((one.high - one.value) ** 2 + (other.value - other.low) ** 2) ** 0.5
    return Difference(value, value - below, value + above, None)


def _paired(one: Any, other: Any) -> Difference:
    """Of columns whose rows belong together."""
    import numpy as np

    first, second = (float(columns[:, 0].sum() / columns[:, 1].sum()) for columns in (one, other))
    value, rows = first - second, len(one)
    if rows > RESAMPLED:
        apart = _leverage(one, first) - _leverage(other, second)
        return Difference(value, *_around(value, float(np.sqrt((apart**2).sum()))), rows)
    sums = _resampled(np.hstack([one, other]))
    return Difference(value, *_percentiles(sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]), rows)


def _columns(scores: Values, weights: Values) -> Any:
    """Weighted scores and weights, (rows, 2)."""
    import numpy as np

    given = np.asarray(weights, dtype=float) if len(weights) else np.ones(len(scores))
    return np.stack([np.asarray(scores, dtype=float) * given, given], axis=1)


def _leverage(columns: Any, mean: float) -> Any:
    """How far each row moves the mean."""
    return (columns[:, 0] - mean * columns[:, 1]) / columns[:, 1].sum()


def _around(value: float, error: float) -> tuple[float, float]:
    return value - _Z * error, value + _Z * error


def _percentiles(means: Any) -> tuple[float, float]:
    import numpy as np

    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _resampled(columns: Any) -> Any:
    """The sums of the columns in each resample, (RESAMPLES, columns): the same draws for as many rows."""
    return _draws(len(columns)) @ columns


@lru_cache(maxsize=8)
def _draws(rows: int) -> Any:
    """How often each resample has each row, (RESAMPLES, rows)."""
    import numpy as np

    drawn = np.random.default_rng(_SEED).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
    return drawn.astype(np.float32)
