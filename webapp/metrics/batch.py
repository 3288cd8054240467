"""What a run logs, from lines to columns; nothing in a line is trusted."""

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from webapp.metrics.columns import Array
from webapp.metrics.keys import is_usable
from webapp.metrics.rollup import MAX_STEP, POINT, Rows

# A value beyond this is stored as infinity: the sum of a bucket must stay within what a float holds.
MAX_VALUE = 1e300
# What both Python and Postgres take for a time: the years 1 to 9999.
EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0


class MetricLine(NamedTuple):
    """One line of `metrics.jsonl` as it was read; `time` is seconds since the epoch."""

    step: int
    time: float
    values: Mapping[str, Any]


class Batch(NamedTuple):
    """The points of lines, those of a key together and in the order of the lines; `series` is the place in `keys`."""

    keys: list[str]
    points: Rows
    refused: int


def batch_of(lines: Iterable[MetricLine], known: Container[str], room: int) -> Batch:
    """The points of lines, with at most `room` keys that are not yet known."""
    lines, refused = _in_range(lines)
    steps = np.array([line.step for line in lines], "i8")
    walls = _walls([line.time for line in lines])
    # Lines of a run mostly have the same keys: they make a table with a column for each.
    shapes: dict[tuple[str, ...], list[int]] = {}
    for number, line in enumerate(lines):
        shapes.setdefault(tuple(line.values), []).append(number)
    places: dict[str, int] = {}
    parts: list[tuple[npt.NDArray[np.int64], Rows]] = []
    for keys, numbers in shapes.items():
        table, usable = _table([lines[number].values for number in numbers], len(keys))
        for column, key in enumerate(keys):
            rows = np.flatnonzero(usable[:, column])
            if len(rows) and key not in places:
                new = key not in known
                if not new or (room > 0 and is_usable(key)):
                    places[key] = len(places)
                    room -= new
            if key not in places:
                rows = rows[:0]
            refused += len(numbers) - len(rows)
            if not len(rows):
                continue
            chosen = np.array(numbers)[rows]
            points = np.empty(len(rows), POINT)
            points["series"], points["step"], points["wall"] = places[key], steps[chosen], walls[chosen]
            points["value"] = table[rows, column]
            parts.append((chosen, points))
    if not parts:
        return Batch([], np.zeros(0, POINT), refused)
    points = np.concatenate([points for _, points in parts])
    order = np.lexsort((np.concatenate([chosen for chosen, _ in parts]), points["series"]))
    return Batch(list(places), points.take(order), refused)


def newest(points: Rows) -> Rows:
    """The points that no later one of their series replaces, by being at or before their step."""
    place = points["series"].astype("i8") * (MAX_STEP + 1) + points["step"]
    if (place[1:] > place[:-1]).all():
        return points
    behind = np.minimum.accumulate(place[::-1])[::-1]
    kept: Rows = points[np.append(place[:-1] < behind[1:], True)]
    return kept


def _in_range(lines: Iterable[MetricLine]) -> tuple[list[MetricLine], int]:
    """The lines whose step and time can be stored, and how many values the others have."""
    good, refused = [], 0
    for line in lines:
        if 0 <= line.step <= MAX_STEP and EARLIEST <= line.time <= LATEST:
            good.append(line)
        else:
            refused += len(line.values)
    return good, refused


def _walls(times: Sequence[float]) -> Array:
    whole = np.floor(np.array(times, float))
    # The fraction is rounded by itself: so many digits as the sum has, a float does not hold.
    walls: Array = (whole * 1_000_000 + np.rint((times - whole) * 1_000_000)).astype("i8").view("M8[us]")
    return walls


def _table(rows: Sequence[Mapping[str, Any]], width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The values of rows with the same keys, and which of them are numbers."""
    flat = list(chain.from_iterable([row.values() for row in rows]))
    usable = np.ones(len(flat), bool)
    if set(map(type, flat)) <= {float}:
        values = np.array(flat, float)
    else:
        numbers = [_number(value) for value in flat]
        usable[:] = [number is not None for number in numbers]
        values = np.array([0.0 if number is None else number for number in numbers])
    huge = np.abs(values) > MAX_VALUE
    values[huge] = np.copysign(np.inf, values[huge])
    return values.reshape(len(rows), width), usable.reshape(len(rows), width)


def _number(value: Any) -> float | None:
    """The value as a float, None when it is no number."""
    if type(value) is float:
        return value
    if type(value) is not int:
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
