"""The writer's statements: rows in and out of the metric tables, always for many series at once."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from webapp.metrics.models import MetricSeries
from webapp.metrics.rollup import BITS, TOP_LEVEL, Bucket, Cascade


class Point(NamedTuple):
    """One value of a series."""

    step: int
    wall: datetime
    value: float


@dataclass(slots=True)
class SeriesState:
    """What is known of a stored series: its ends and its open buckets."""

    id: int
    cascade: Cascade = field(default_factory=Cascade)
    first: tuple[int, datetime] | None = None
    last: Point | None = None


# `OFFSET 0` keeps each lateral part a look-up per series; merged into one join it may become a scan of the table.
_OPEN_POINTS = f"""
    SELECT s.id, p.step, p.wall, p.value
    FROM metric_series s CROSS JOIN LATERAL (
        SELECT step, wall, value FROM metric_point
        WHERE series_id = s.id AND step >= (s.last_step >> (s.shift + {BITS})) << (s.shift + {BITS})
        ORDER BY step OFFSET 0
    ) p
    WHERE s.id = ANY(%s)
"""  # noqa: S608 - built from our own constants
_OPEN_BUCKETS = f"""
    SELECT s.id, l.level, b.bucket, b.finite, b.not_finite, b.vmin, b.vmax, b.vsum, b.wlast
    FROM metric_series s CROSS JOIN generate_series(1, {TOP_LEVEL}) AS l(level) CROSS JOIN LATERAL (
        SELECT * FROM metric_bucket
        WHERE series_id = s.id AND level = l.level
            AND bucket >= (s.last_step >> (s.shift + {BITS} * (l.level + 1))) << {BITS}
        ORDER BY bucket OFFSET 0
    ) b
    WHERE s.id = ANY(%s)
"""  # noqa: S608
_CUT_POINTS = """
    DELETE FROM metric_point p USING unnest(%s::int[], %s::bigint[]) AS cut(series_id, step)
    WHERE p.series_id = cut.series_id AND p.step >= cut.step
"""
_CUT_SERIES = """
    UPDATE metric_series s SET last_step = (SELECT max(step) FROM metric_point WHERE series_id = s.id)
    WHERE s.id = ANY(%s)
"""
_CUT_BUCKETS = f"""
    DELETE FROM metric_bucket b USING metric_series s, generate_series(1, {TOP_LEVEL}) AS l(level)
    WHERE s.id = ANY(%s) AND b.series_id = s.id AND b.level = l.level
        AND b.bucket >= coalesce(s.last_step >> (s.shift + {BITS} * l.level), 0)
"""  # noqa: S608
_UPDATE_SERIES = """
    UPDATE metric_series s
    SET shift = v.shift, count = v.count, not_finite = v.not_finite, first_step = v.first_step,
        last_step = v.last_step, first_wall = v.first_wall, last_wall = v.last_wall, last = v.last,
        min = v.low, max = v.high
    FROM unnest(
        %s::int[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[],
        %s::timestamptz[], %s::float8[], %s::float8[], %s::float8[]
    ) AS v(id, shift, count, not_finite, first_step, last_step, first_wall, last_wall, last, low, high)
    WHERE s.id = v.id
"""


def load_states(series: Iterable[MetricSeries]) -> dict[str, SeriesState]:
    """The state of stored series by key, rebuilt from what is on disk."""
    states: dict[str, SeriesState] = {}
    by_id: dict[int, SeriesState] = {}
    for row in series:
        state = SeriesState(row.pk, Cascade(row.shift))
        if row.first_step is not None and row.first_wall is not None:
            state.first = (row.first_step, row.first_wall)
        states[row.key] = by_id[row.pk] = state
    if by_id:
        _load_open(by_id)
    return states


def _load_open(states: dict[int, SeriesState]) -> None:
    ids = list(states)
    with connection.cursor() as cursor:
        cursor.execute(_OPEN_POINTS, [ids])
        for series_id, *point in cursor.fetchall():
            state = states[series_id]
            state.last = Point(*point)
            state.cascade.add(*state.last)
        cursor.execute(_OPEN_BUCKETS, [ids])
        for series_id, level, index, finite, not_finite, low, high, total, wall in cursor.fetchall():
            low, high = (math.inf, -math.inf) if low is None else (low, high)
            bucket = Bucket(index, finite, not_finite, low, high, total, wall)
            states[series_id].cascade.absorb(level + 1, bucket)


def cut_from(steps: dict[int, int]) -> None:
    """Delete every point of a series from a step on, and the buckets that this opens again: `{series: step}`."""
    ids = list(steps)
    with connection.cursor() as cursor:
        cursor.execute(_CUT_POINTS, [ids, list(steps.values())])
        cursor.execute(_CUT_SERIES, [ids])
        cursor.execute(_CUT_BUCKETS, [ids])


def add_points(rows: Iterable[tuple[int, int, datetime, float]]) -> None:
    """Add rows (series, step, wall, value)."""
    _copy(
        "COPY metric_point (series_id, step, wall, value) FROM STDIN (FORMAT binary)",
        ["int4", "int8", "timestamptz", "float8"],
        rows,
    )


def add_buckets(closed: Sequence[tuple[int, int, Bucket]]) -> None:
    """Add closed buckets (series, level, bucket)."""
    if not closed:
        return
    _copy(
        "COPY metric_bucket (series_id, level, bucket, finite, not_finite, vmin, vmax, vsum, wlast)"
        " FROM STDIN (FORMAT binary)",
        ["int4", "int2", "int8", "int4", "int4", "float8", "float8", "float8", "timestamptz"],
        ((series, level, b.index, b.finite, b.not_finite, *_range(b), b.total, b.wall) for series, level, b in closed),
    )


def update_series(states: Iterable[SeriesState]) -> None:
    """Write the totals of series."""
    rows = [_totals_row(state) for state in states]
    with connection.cursor() as cursor:
        cursor.execute(_UPDATE_SERIES, [list(column) for column in zip(*rows, strict=True)])


def _totals_row(state: SeriesState) -> tuple[Any, ...]:
    totals = state.cascade.totals()
    assert totals is not None and state.first is not None and state.last is not None  # noqa: S101, PT018 (has points)
    first_step, first_wall = state.first
    return (
        state.id,
        state.cascade.shift,
        totals.finite + totals.not_finite,
        totals.not_finite,
        first_step,
        state.last.step,
        first_wall,
        state.last.wall,
        state.last.value,
        *_range(totals),
    )


def _range(bucket: Bucket) -> tuple[float | None, float | None]:
    return (bucket.low, bucket.high) if bucket.finite else (None, None)


def _copy(statement: str, types: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
