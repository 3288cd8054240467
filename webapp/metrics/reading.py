"""Reading series in as few buckets as asked for: the rollup level that fits, and what is still open below it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.db import connection

from webapp.metrics.models import MetricSeries
from webapp.metrics.rollup import BITS


@dataclass(frozen=True, slots=True)
class Window:
    """The steps `low` to `high` of a series, in whole buckets of `2**bits` steps, made from rows of `level`."""

    series_id: int
    low: int
    high: int
    bits: int
    level: int

    @property
    def width(self) -> int:
        """Steps in a bucket."""
        return 1 << self.bits


@dataclass(slots=True)
class Columns:
    """Buckets of one series by rising step; one entry of each list is one bucket.

    `step` is the first step a bucket stands for, `time` when its last point was logged, in seconds since the epoch.
    `min`, `mean` and `max` are of its `count` finite points, None when there is none; `not_finite` counts the others.
    """

    step: list[int] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)
    min: list[float | None] = field(default_factory=list)
    mean: list[float | None] = field(default_factory=list)
    max: list[float | None] = field(default_factory=list)


# Buckets of a level are on disk once closed. What the newest, open one holds is in the closed buckets of the levels
# below that are not yet part of a closed one above, and in the points behind them. A mean is not worked out here:
# Postgres refuses a division that underflows. `OFFSET 0` keeps each part a look-up in an index, series by series.
_READ = f"""
    SELECT w.id, bucket.*
    FROM (
        SELECT w.*, s.shift, s.first_step, s.last_step, s.shift + {BITS} * w.level AS width
        FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::int[], %s::int[]) AS w(id, low, high, bits, level)
        JOIN metric_series s ON s.id = w.id
    ) w CROSS JOIN LATERAL (
        SELECT array_agg(step), array_agg(time), array_agg(finite), array_agg(not_finite),
            array_agg(low), array_agg(high), array_agg(total)
        FROM (
            SELECT greatest(min(step), w.first_step) AS step, date_part('epoch', max(wall)) AS time,
                sum(finite) AS finite, sum(not_finite) AS not_finite,
                min(low) AS low, max(high) AS high, sum(total) AS total
            FROM (
                (
                    SELECT bucket << w.width AS step, wlast AS wall, finite, not_finite,
                        vmin AS low, vmax AS high, vsum AS total
                    FROM metric_bucket
                    WHERE series_id = w.id AND level = w.level AND w.level > 0
                        AND bucket BETWEEN w.low >> w.width AND w.high >> w.width
                    OFFSET 0
                ) UNION ALL (
                    SELECT b.* FROM generate_series(1, w.level - 1) AS below(level) CROSS JOIN LATERAL (
                        SELECT bucket << (w.shift + {BITS} * below.level), wlast, finite, not_finite, vmin, vmax, vsum
                        FROM metric_bucket
                        WHERE series_id = w.id AND level = below.level
                            AND bucket >= (w.last_step >> (w.shift + {BITS} * (below.level + 1))) << {BITS}
                        OFFSET 0
                    ) b
                    WHERE w.high >> w.width >= w.last_step >> w.width
                ) UNION ALL (
                    SELECT step, wall, ok::int, (NOT ok)::int,
                        CASE WHEN ok THEN value END, CASE WHEN ok THEN value END, CASE WHEN ok THEN value ELSE 0 END
                    FROM (
                        SELECT step, wall, value, abs(value) < 'Infinity' AS ok FROM metric_point
                        WHERE series_id = w.id AND step BETWEEN
                            CASE WHEN w.level = 0 THEN w.low
                                ELSE (w.last_step >> (w.shift + {BITS})) << (w.shift + {BITS}) END
                            AND CASE WHEN w.level = 0 THEN w.high
                                WHEN w.high >> w.width >= w.last_step >> w.width THEN w.last_step END
                        OFFSET 0
                    ) p
                )
            ) piece
            GROUP BY step >> w.bits ORDER BY 1
        ) merged
    ) bucket
"""  # noqa: S608 - built from our own constants


def window_of(series: MetricSeries, points: int, low: int | None = None, high: int | None = None) -> Window | None:
    """The finest view of a series, or of the steps `low` to `high` of it, in at most `points` buckets.

    None when there is no such step. A bucket is read whole: the outer ones may reach beyond `low` and `high`.
    """
    if series.first_step is None or series.last_step is None:
        return None
    low = series.first_step if low is None else max(low, series.first_step)
    high = series.last_step if high is None else min(high, series.last_step)
    if low > high:
        return None
    bits = 0
    if series.count > points:
        while (high >> bits) - (low >> bits) >= points:
            bits += 1
    low, high = low >> bits << bits, (high >> bits << bits) + (1 << bits) - 1
    return Window(series.pk, low, high, bits, max(0, bits - series.shift) // BITS)


def read_windows(windows: Sequence[Window]) -> dict[int, Columns]:
    """The buckets of many series in one query, by series id."""
    found = {window.series_id: Columns() for window in windows}
    if not windows:
        return found
    names = ("series_id", "low", "high", "bits", "level")
    for series_id, *columns in _fetch(_READ, [[getattr(window, name) for window in windows] for name in names]):
        if columns[0] is not None:
            found[series_id] = _columns(*columns)
    return found


def _fetch(statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Query in the binary format, which Django's own cursor does not speak: arrays arrive in a third of the time."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        return cursor.execute(statement, arguments, binary=True).fetchall()


def _columns(
    step: list[int],
    time: list[float],
    finite: list[int],
    not_finite: list[int],
    low: list[float | None],
    high: list[float | None],
    total: list[float],
) -> Columns:
    mean = [value / count if count else None for value, count in zip(total, finite, strict=True)]
    return Columns(step, time, finite, not_finite, low, mean, high)
