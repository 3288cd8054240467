"""Reading series in as few buckets as asked for: the rollup level that fits, and what is still open below it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from webapp.metrics.columns import execute
from webapp.metrics.models import CHUNK_POINTS, OPEN, MetricSeries
from webapp.metrics.packing import BUCKET_ARRAYS, POINT_ARRAYS, buckets_from, points_from
from webapp.metrics.rollup import BASE, Rows, buckets_of, merged

# How many points behind a step are read, about.
MOST_BEHIND = 8_000


@dataclass(frozen=True, slots=True)
class Window:
    """The steps `low` to `high` of a series, in whole buckets of `2**bits` steps, made from rows of `level`."""

    series: MetricSeries
    low: int
    high: int
    bits: int
    level: int

    @property
    def width(self) -> int:
        """Steps in a bucket."""
        return 1 << self.bits


def _empty() -> npt.NDArray[Any]:
    return np.zeros(0)


@dataclass(slots=True)
class Columns:
    """Buckets of one series by rising step; one entry of each array is one bucket.

    `step` is the first step a bucket stands for, `time` when its last point was logged, in seconds since the epoch.
    `min`, `mean` and `max` are of its `count` finite points, NaN when there is none; `not_finite` counts the others.
    """

    step: npt.NDArray[np.int64] = field(default_factory=_empty)
    time: npt.NDArray[np.float64] = field(default_factory=_empty)
    count: npt.NDArray[np.int64] = field(default_factory=_empty)
    not_finite: npt.NDArray[np.int64] = field(default_factory=_empty)
    min: npt.NDArray[np.float64] = field(default_factory=_empty)
    mean: npt.NDArray[np.float64] = field(default_factory=_empty)
    max: npt.NDArray[np.float64] = field(default_factory=_empty)


class _Span(NamedTuple):
    """What of a series to read: the buckets `low` to `high` of a level, or these steps where the level is 0."""

    place: int
    level: int
    low: int
    high: int


# Rows that hold something of each span: up to the first that reaches its end. `OFFSET 0` keeps each a look-up in the
# index, series by series.
_POINTS = f"""
    SELECT s.place, {POINT_ARRAYS}
    FROM unnest(%s::int[], %s::int[], %s::int[], %s::bigint[], %s::bigint[]) AS s(place, id, level, low, high)
    CROSS JOIN LATERAL (
        SELECT * FROM metric_chunk
        WHERE series_id = s.id AND last_step >= s.low AND last_step <= coalesce(
            (SELECT min(last_step) FROM metric_chunk WHERE series_id = s.id AND last_step >= s.high), {OPEN}
        )
        OFFSET 0
    ) c
    GROUP BY s.place
"""  # noqa: S608 - built from our own constants
_BUCKETS = f"""
    SELECT s.place, s.level, {BUCKET_ARRAYS}
    FROM unnest(%s::int[], %s::int[], %s::int[], %s::bigint[], %s::bigint[]) AS s(place, id, level, low, high)
    CROSS JOIN LATERAL (
        SELECT * FROM metric_rollup
        WHERE series_id = s.id AND level = s.level AND last >= s.low AND last <= coalesce(
            (SELECT min(last) FROM metric_rollup WHERE series_id = s.id AND level = s.level AND last >= s.high), {OPEN}
        )
        OFFSET 0
    ) r
    GROUP BY s.place, s.level
"""  # noqa: S608

# The newest rows that hold something behind a step, bounded in number.
_BEHIND = f"""
    SELECT s.place, {POINT_ARRAYS}
    FROM unnest(%s::int[], %s::int[], %s::bigint[]) AS s(place, id, step)
    CROSS JOIN LATERAL (
        SELECT * FROM metric_chunk WHERE series_id = s.id AND last_step > s.step
        ORDER BY last_step DESC LIMIT {MOST_BEHIND // CHUNK_POINTS} OFFSET 0
    ) c
    GROUP BY s.place
"""  # noqa: S608


def points_after(series: Sequence[MetricSeries], steps: Sequence[int]) -> list[Rows]:
    """Of each series the points behind a step, in their order, in one query; of very many the newest."""
    if not series:
        return []
    numbers = [np.arange(len(series)), np.array([one.pk for one in series], "i8"), np.array(steps, "i8")]
    points, _ = points_from(execute(_BEHIND, numbers))
    behind = points[points["step"] > numbers[2][points["series"]]]
    return [behind[behind["series"] == place] for place in range(len(series))]


def window_of(
    series: MetricSeries, points: int, low: int | None = None, high: int | None = None, *, bits: int = 0
) -> Window | None:
    """The finest view of a series, or of the steps `low` to `high` of it, in at most `points` buckets.

    With `bits` it is in buckets of no fewer than `2**bits` steps. None when there is no such step. A bucket is read
    whole: the outer ones may reach beyond `low` and `high`.
    """
    if series.first_step is None or series.last_step is None:
        return None
    low = series.first_step if low is None else max(low, series.first_step)
    high = series.last_step if high is None else min(high, series.last_step)
    if low > high:
        return None
    if series.count > points:
        while (high >> bits) - (low >> bits) >= points:
            bits += 1
    low, high = low >> bits << bits, (high >> bits << bits) + (1 << bits) - 1
    return Window(series, low, high, bits, max(0, bits - series.shift - BASE))


def read_windows(windows: Sequence[Window]) -> dict[int, Columns]:
    """The buckets of many series in two queries, by series id."""
    spans = [span for place, window in enumerate(windows) for span in _spans(place, window)]
    pieces = np.concatenate([_read_points(spans, windows), _read_buckets(spans, windows)])
    # Here `bucket` is the first step; a bucket of the view is made of the pieces whose steps agree above its bits.
    pieces = pieces.take(np.lexsort((pieces["bucket"], pieces["series"])))
    bits = np.array([window.bits for window in windows], "i8")
    rows = merged(pieces, pieces["series"], pieces["bucket"] >> bits[pieces["series"]])
    ends = np.searchsorted(rows["series"], np.arange(len(windows) + 1))
    return {
        window.series.pk: _columns(rows[ends[place] : ends[place + 1]], window) for place, window in enumerate(windows)
    }


def _spans(place: int, window: Window) -> Iterator[_Span]:
    """Closed buckets of the window's level; and what its open bucket holds, from the levels below.

    What is closed and what is open goes by the series as it was read: a writer at work meanwhile changes nothing.
    """
    last = window.series.last_step or 0
    if window.level == 0:
        yield _Span(place, 0, window.low, min(window.high, last))
        return
    base = window.series.shift + BASE
    width = base + window.level
    edge = last >> width
    yield _Span(place, window.level, window.low >> width, min(window.high >> width, edge - 1))
    if window.high >> width < edge:
        return
    for level in range(window.level - 1, 0, -1):
        width = base + level
        yield _Span(place, level, last >> (width + 1) << 1, (last >> width) - 1)
    yield _Span(place, 0, last >> (base + 1) << (base + 1), last)


def _read_points(spans: Sequence[_Span], windows: Sequence[Window]) -> Rows:
    chosen = [span for span in spans if span.level == 0]
    points, _ = points_from(execute(_POINTS, _arguments(chosen, windows)) if chosen else [])
    rows = _within(buckets_of(points, points["step"]), chosen)
    rows["series"] = _column(chosen, "place")[rows["series"]]
    return rows


def _read_buckets(spans: Sequence[_Span], windows: Sequence[Window]) -> Rows:
    chosen = [span for span in spans if span.level > 0 and span.low <= span.high]
    rows, _ = buckets_from(execute(_BUCKETS, _arguments(chosen, windows)) if chosen else [])
    rows = _within(rows, chosen)
    rows["series"] = _column(chosen, "place")[rows["series"]]
    shifts = np.array([window.series.shift for window in windows], "i8")
    rows["bucket"] <<= shifts[rows["series"]] + BASE + rows["level"]
    return rows


def _arguments(spans: Sequence[_Span], windows: Sequence[Window]) -> list[npt.NDArray[np.int64]]:
    """The columns of `s` in a query; its `place` is the number of the span."""
    ids = np.array([window.series.pk for window in windows], "i8")
    columns = [_column(spans, name) for name in ("level", "low", "high")]
    return [np.arange(len(spans)), ids[_column(spans, "place")], *columns]


def _within(rows: Rows, spans: Sequence[_Span]) -> Rows:
    """Rows of which each lies in its span."""
    span, bucket = rows["series"], rows["bucket"]
    return rows.compress((_column(spans, "low")[span] <= bucket) & (bucket <= _column(spans, "high")[span]))


def _column(spans: Sequence[_Span], name: str) -> npt.NDArray[np.int64]:
    return np.array([getattr(span, name) for span in spans], "i8")


def _columns(rows: Rows, window: Window) -> Columns:
    count = rows["finite"]
    mean = np.full(len(rows), np.nan)
    np.divide(rows["total"], count, out=mean, where=count > 0)
    step = np.maximum(rows["bucket"], window.series.first_step or 0)
    columns = (step, rows["wall"].astype("i8") / 1e6, count, rows["not_finite"], rows["low"], mean, rows["high"])
    return Columns(*map(np.ascontiguousarray, columns))
