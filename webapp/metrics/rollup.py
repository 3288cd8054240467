"""The rollup's arithmetic, on columns: the open buckets of many series, and which of them new points close."""

from typing import Any

import numpy as np
import numpy.typing as npt

# A bucket of level l covers 2**(BASE + l) units: eight at level 1, and at each level twice as many.
BASE = 2
# Steps stay below 2**48: at shift 15 the highest level then fits 64-bit shifts with room to spare.
MAX_STEP = 2**48 - 1
MAX_SHIFT = 15
# Above this level everything is in bucket 0, which never closes.
TOP_LEVEL = 45

# Rows of many series, one after another: `series` is the place of a series in whatever list the caller keeps.
Rows = npt.NDArray[np.void]
POINT = np.dtype([("series", "i4"), ("step", "i8"), ("wall", "M8[us]"), ("value", "f8")])
# `low` and `high` are NaN when no point was finite; `wall` is the time of the last point of either kind.
BUCKET = np.dtype(
    [
        ("series", "i4"),
        ("level", "i2"),
        ("bucket", "i8"),
        ("finite", "i4"),
        ("not_finite", "i4"),
        ("low", "f8"),
        ("high", "f8"),
        ("total", "f8"),
        ("wall", "M8[us]"),
    ]
)


def buckets_of(points: Rows, index: npt.NDArray[np.int64]) -> Rows:
    """Each point as a bucket of its own, with that number."""
    value = points["value"]
    finite = np.isfinite(value)
    rows = np.zeros(len(points), BUCKET)
    rows["series"], rows["bucket"], rows["wall"] = points["series"], index, points["wall"]
    rows["finite"], rows["not_finite"] = finite, ~finite
    rows["low"] = rows["high"] = np.where(finite, value, np.nan)
    rows["total"] = np.where(finite, value, 0.0)
    return rows


def merged(rows: Rows, *keys: npt.NDArray[Any]) -> Rows:
    """Neighbours that agree in all `keys` as one bucket each; the later of two has the newer points."""
    if not len(rows):
        return rows
    new = np.ones(len(rows), bool)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(new)
    result = rows.take(starts)
    if len(starts) == len(rows):
        return result
    for name, fold in _FOLDS.items():
        result[name] = fold.reduceat(rows[name], starts)
    result["wall"] = rows["wall"][np.append(starts[1:], len(rows)) - 1]
    return result


_FOLDS = {"finite": np.add, "not_finite": np.add, "low": np.fmin, "high": np.fmax, "total": np.add}


def by_series(rows: Rows) -> Rows:
    """Rows with those of a series together, in the order they had among themselves."""
    # `take` moves rows as a whole, where an index moves them field by field.
    return rows.take(np.argsort(rows["series"], kind="stable"))


class Cascade:
    """The open buckets of many series, by level. The points of a series are added in the order of their steps.

    Each point is in exactly one open bucket: level 1 holds the newest, and level l + 1 what has closed below it.
    """

    def __init__(self) -> None:
        self.open: dict[int, Rows] = {}

    def add(self, points: Rows, shifts: npt.NDArray[np.int64], last_steps: npt.NDArray[np.int64]) -> Rows:
        """Take in points; returns the buckets that they close. `shifts` and `last_steps` are those of all series."""
        rows = buckets_of(points, points["step"] >> (shifts[points["series"]] + BASE + 1))
        closed = [np.zeros(0, BUCKET)]
        for level in range(1, TOP_LEVEL + 2):
            held = self.open.get(level)
            if held is not None:
                rows = by_series(np.concatenate([held, rows]))
            rows = merged(rows, rows["series"], rows["bucket"])
            rows["level"] = level
            series = rows["series"]
            done = rows["bucket"] < last_steps[series] >> (shifts[series] + BASE + level)
            self.open[level] = rows.compress(~done)
            if not done.any():
                break
            rows = rows.compress(done)
            closed.append(rows.copy())
            rows["bucket"] >>= 1
        return np.concatenate(closed)

    def restart(self, series: npt.NDArray[np.int64], buckets: npt.NDArray[np.int64]) -> None:
        """Renumber the level-1 buckets of series that hold one point each: their shift has become known."""
        if (first := self.open.get(1)) is not None:
            place = np.searchsorted(first["series"], series)
            first["bucket"][place] = buckets

    def totals(self, chosen: npt.NDArray[np.bool_]) -> Rows:
        """Everything that each chosen series holds, as one bucket; `chosen` is over all series."""
        held = [rows.compress(chosen[rows["series"]]) for _, rows in sorted(self.open.items(), reverse=True)]
        rows = by_series(np.concatenate([np.zeros(0, BUCKET), *held]))
        return merged(rows, rows["series"])


def shift_for(strides: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The shifts that fit series whose first two points are so many steps apart."""
    # Strides are below 2**48, which a float holds exactly.
    shifts: npt.NDArray[np.int64] = np.minimum(MAX_SHIFT, np.frexp(strides.astype(float))[1] - 1).astype("i8")
    return shifts
