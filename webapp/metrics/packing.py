"""Points and buckets between numpy's rows and the columns of a table's row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from webapp.metrics.columns import Array, joined, lengths
from webapp.metrics.rollup import BUCKET, POINT, Rows

# What to select, and which fields it fills.
POINT_ARRAYS = "array_send(steps), array_send(walls), array_send(values)"
BUCKET_ARRAYS = (
    "array_send(buckets), array_send(finite), array_send(not_finite), array_send(vmin), array_send(vmax),"
    " array_send(vsum), array_send(wlast)"
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
    arrays = columns[len(common) :]
    origin = np.repeat(np.arange(len(found)), lengths(arrays[0], dtype[fields[0]]))
    rows = np.empty(len(origin), dtype)
    for name, column in zip(common, columns, strict=False):
        rows[name] = np.array(column)[origin]
    for name, sent in zip(fields, arrays, strict=True):
        rows[name] = joined(sent, dtype[name])
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
