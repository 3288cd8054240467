"""Points and buckets between numpy's rows and the columns of a table's row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from webapp.metrics.columns import Array, elements, gathered
from webapp.metrics.rollup import BUCKET, POINT, Rows

# What to select from groups of rows, and which fields it fills.
POINT_ARRAYS = ", ".join(gathered(column, "last_step") for column in ("steps", "walls", "values"))
BUCKET_ARRAYS = ", ".join(
    gathered(column, "last") for column in ("buckets", "finite", "not_finite", "vmin", "vmax", "vsum", "wlast")
)
POINT_FIELDS = ("step", "wall", "value")
BUCKET_FIELDS = ("bucket", "finite", "not_finite", "low", "high", "total", "wall")


def points_from(found: Sequence[Sequence[Any]]) -> tuple[Rows, Array]:
    """Rows (series, `POINT_ARRAYS`) as points, and for each the number of the row it is from."""
    return _unpacked(found, POINT, ("series",), POINT_FIELDS)


def buckets_from(found: Sequence[Sequence[Any]]) -> tuple[Rows, Array]:
    """Rows (series, level, `BUCKET_ARRAYS`) as buckets, and for each the number of the row it is from."""
    return _unpacked(found, BUCKET, ("series", "level"), BUCKET_FIELDS)


def _unpacked(
    found: Sequence[Sequence[Any]], dtype: np.dtype[Any], common: Sequence[str], fields: Sequence[str]
) -> tuple[Rows, Array]:
    if not found:
        return np.zeros(0, dtype), np.zeros(0, "i8")
    columns = list(zip(*found, strict=True))
    arrays = [elements(sent, dtype[name]) for name, sent in zip(fields, columns[len(common) :], strict=True)]
    origin = np.repeat(np.arange(len(found)), arrays[0][1])
    rows = np.empty(len(origin), dtype)
    for name, column in zip(common, columns, strict=False):
        rows[name] = np.array(column)[origin]
    for name, (values, _) in zip(fields, arrays, strict=True):
        rows[name] = values
    return rows, origin


class Pieces(NamedTuple):
    """Rows cut into pieces of equal size: piece i is of the owner of row `owner[i]` and has `low[i]` to `high[i]` - 1.

    The last piece of each owner is the rest, possibly empty; the others are `full`. `rest` marks the rows of rests.
    """

    owner: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    full: npt.NDArray[np.bool_]
    rest: npt.NDArray[np.bool_]


def pieces(owners: Array, size: int) -> Pieces:
    """Cut rows into pieces of `size`; `owners` tells whose each row is, and those of an owner stand together."""
    starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]])) if len(owners) else np.zeros(0, int)
    counts = np.diff(np.append(starts, len(owners)))
    full = counts // size
    owner = np.repeat(starts, full + 1)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(full + 1) - full - 1, full + 1)
    low = owner + number * size
    high = np.minimum(low + size, np.repeat(starts + counts, full + 1))
    rest = np.arange(len(owners)) >= np.repeat(starts + full * size, counts)
    return Pieces(owner, low, high, number < np.repeat(full, full + 1), rest)
