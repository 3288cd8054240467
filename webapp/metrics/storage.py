"""The writer's statements: rows in and out of the metric tables, always for many series at once."""

import uuid
from collections.abc import Iterable, Mapping

import numpy as np

from webapp.metrics.columns import Array, execute
from webapp.metrics.models import CHUNK_POINTS, OPEN, ROLLUP_BUCKETS, MetricSeries
from webapp.metrics.packing import (
    BUCKET_ARRAYS,
    BUCKET_FIELDS,
    POINT_ARRAYS,
    POINT_FIELDS,
    buckets_from,
    pieces,
    points_from,
)
from webapp.metrics.rollup import (
    BASE,
    BUCKET,
    POINT,
    TOP_LEVEL,
    Cascade,
    Rows,
    buckets_of,
    by_series,
    merged,
    shift_for,
)

# What is known of a stored series; `last_step` is -1 where there is no point.
SERIES = np.dtype(
    [
        ("id", "i4"),
        ("shift", "i8"),
        ("first_step", "i8"),
        ("first_wall", "M8[us]"),
        ("last_step", "i8"),
        ("last_wall", "M8[us]"),
        ("last", "f8"),
    ]
)

_LEVELS = np.arange(1, TOP_LEVEL + 1)

_SERIES = """
    SELECT key, id, shift, coalesce(first_step, -1), coalesce((extract(epoch FROM first_wall) * 1000000)::bigint, 0),
        coalesce(last_step, -1), coalesce((extract(epoch FROM last_wall) * 1000000)::bigint, 0), coalesce(last, 'NaN')
    FROM metric_series WHERE run_id = %s ORDER BY id
"""
# The open row of each series, and the one before where that reaches into the open bucket. `OFFSET 0` keeps each
# lateral part a look-up per series; merged into one join it may become a scan of the table.
_OPEN_POINTS = f"""
    SELECT s.place, {POINT_ARRAYS}, last_step = {OPEN}
    FROM unnest(%s::int[], %s::int[], %s::bigint[]) AS s(place, id, since) CROSS JOIN LATERAL (
        SELECT * FROM metric_chunk WHERE series_id = s.id AND last_step >= s.since OFFSET 0
    ) c
    GROUP BY s.place, last_step = {OPEN} ORDER BY s.place, last_step = {OPEN}
"""  # noqa: S608 - built from our own constants
_OPEN_BUCKETS = f"""
    SELECT s.place, s.level, {BUCKET_ARRAYS}, last = {OPEN}
    FROM unnest(%s::int[], %s::int[], %s::int[], %s::bigint[]) AS s(place, id, level, since) CROSS JOIN LATERAL (
        SELECT * FROM metric_rollup WHERE series_id = s.id AND level = s.level AND last >= s.since OFFSET 0
    ) r
    GROUP BY s.place, s.level, last = {OPEN} ORDER BY s.place, s.level, last = {OPEN}
"""  # noqa: S608
_CUT_POINTS = f"""
    WITH gone AS (
        DELETE FROM metric_chunk c USING unnest(%s::int[], %s::int[], %s::bigint[]) AS cut(place, id, step)
        WHERE c.series_id = cut.id AND c.last_step >= cut.step
        RETURNING cut.place, c.last_step, c.steps, c.walls, c.values
    )
    SELECT place, {POINT_ARRAYS} FROM gone GROUP BY place ORDER BY place
"""  # noqa: S608
_CUT_BUCKETS = f"""
    WITH gone AS (
        DELETE FROM metric_rollup r
        USING unnest(%s::int[], %s::int[], %s::int[], %s::bigint[]) AS cut(place, id, level, bucket)
        WHERE r.series_id = cut.id AND r.level = cut.level AND r.last >= cut.bucket
        RETURNING cut.place, r.*
    )
    SELECT place, level, {BUCKET_ARRAYS} FROM gone GROUP BY place, level ORDER BY place, level
"""  # noqa: S608
_CUT_SERIES = f"""
    UPDATE metric_series s SET last_step = greatest(
        (SELECT max(last_step) FROM metric_chunk WHERE series_id = s.id AND last_step < {OPEN}),
        (SELECT steps[array_upper(steps, 1)] FROM metric_chunk WHERE series_id = s.id AND last_step = {OPEN})
    )
    WHERE id = ANY(%s) RETURNING id, last_step
"""  # noqa: S608
_PUT_POINTS = """
    INSERT INTO metric_chunk (series_id, last_step, steps, walls, values)
    SELECT c.id, c.last_step, a.steps[c.low:c.high], a.walls[c.low:c.high], a.values[c.low:c.high]
    FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[]) AS c(id, last_step, low, high),
        (SELECT %s::bigint[] AS steps, %s::timestamptz[] AS walls, %s::float8[] AS values) a
    ON CONFLICT (series_id, last_step) DO UPDATE
    SET steps = excluded.steps, walls = excluded.walls, values = excluded.values
"""
_PUT_BUCKETS = """
    INSERT INTO metric_rollup (series_id, level, last, buckets, finite, not_finite, vmin, vmax, vsum, wlast)
    SELECT c.id, c.level, c.last, a.bucket[c.low:c.high], a.finite[c.low:c.high], a.not_finite[c.low:c.high],
        a.vmin[c.low:c.high], a.vmax[c.low:c.high], a.vsum[c.low:c.high], a.wall[c.low:c.high]
    FROM unnest(%s::int[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS c(id, level, last, low, high),
        (
            SELECT %s::bigint[] AS bucket, %s::int[] AS finite, %s::int[] AS not_finite, %s::float8[] AS vmin,
                %s::float8[] AS vmax, %s::float8[] AS vsum, %s::timestamptz[] AS wall
        ) a
    ON CONFLICT (series_id, level, last) DO UPDATE
    SET buckets = excluded.buckets, finite = excluded.finite, not_finite = excluded.not_finite, vmin = excluded.vmin,
        vmax = excluded.vmax, vsum = excluded.vsum, wlast = excluded.wlast
"""
_UPDATE_SERIES = """
    UPDATE metric_series s
    SET shift = v.shift, first_step = v.first_step, first_wall = v.first_wall, last_step = v.last_step,
        last_wall = v.last_wall, last = v.last, count = v.finite + v.not_finite, not_finite = v.not_finite,
        min = nullif(v.low, 'NaN'), max = nullif(v.high, 'NaN')
    FROM unnest(
        %s::int[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::float8[],
        %s::bigint[], %s::bigint[], %s::float8[], %s::float8[]
    ) AS v(id, shift, first_step, first_wall, last_step, last_wall, last, finite, not_finite, low, high)
    WHERE s.id = v.id
"""


class Stored:
    """What a writer knows of its run's series: their ends, their open rows and their open buckets.

    Rows name a series by its place in `series`; `places` has these by key.
    """

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.series = np.zeros(0, SERIES)
        self.points = np.zeros(0, POINT)
        self.buckets = np.zeros(0, BUCKET)
        self.cascade = Cascade()

    @classmethod
    def load(cls, run_id: uuid.UUID) -> "Stored":
        """What is on disk."""
        stored = cls()
        found = execute(_SERIES, [run_id])
        stored.places = {key: place for place, (key, *_) in enumerate(found)}
        stored.series = np.array([tuple(columns) for _, *columns in found], SERIES)
        if found:
            stored._load_points()
            stored._load_buckets()
        return stored

    def _load_points(self) -> None:
        ids, shifts, ends = (self.series[name] for name in ("id", "shift", "last_step"))
        width = shifts + BASE + 1
        since = ends >> width << width
        found = execute(_OPEN_POINTS, [np.arange(len(ids)), ids, since])
        points, origin = points_from([row[:-1] for row in found])
        self.points = points[np.array([row[-1] for row in found], bool)[origin]]
        points = points[points["step"] >= since[points["series"]]]
        self._open(1, buckets_of(points, points["step"] >> width[points["series"]]))

    def _load_buckets(self) -> None:
        places, levels = np.nonzero(self._edges(_LEVELS))
        since = self._edges(_LEVELS + 1) << 1
        arguments = [places, self.series["id"][places], levels + 1, since[places, levels]]
        found = execute(_OPEN_BUCKETS, arguments)
        buckets, origin = buckets_from([row[:-1] for row in found])
        self.buckets = buckets[np.array([row[-1] for row in found], bool)[origin]]
        buckets = buckets[buckets["bucket"] >= since[buckets["series"], buckets["level"] - 1]]
        buckets["bucket"] >>= 1
        for level in _LEVELS:
            self._open(int(level) + 1, buckets[buckets["level"] == level])

    def _open(self, level: int, rows: Rows) -> None:
        rows = merged(rows, rows["series"], rows["bucket"])
        rows["level"] = level
        self.cascade.open[level] = rows

    def _edges(self, levels: Array) -> Array:
        """The number of the open bucket of each series at each of `levels`; 0 for a series without points."""
        shifts = self.series["shift"][:, None] + BASE + levels
        edges: Array = np.maximum(self.series["last_step"], 0)[:, None] >> shifts
        return edges

    def add_series(self, created: Iterable[MetricSeries]) -> None:
        """Take in series without points."""
        for one in created:
            self.places[one.key] = len(self.series)
            row = np.array([(one.pk, 0, -1, 0, -1, 0, np.nan)], SERIES)
            self.series = np.concatenate([self.series, row])

    def put(self, points: Rows) -> None:
        """Store points, those of a series together and behind all that it has, with the buckets that they close."""
        touched = np.zeros(len(self.series), bool)
        touched[points["series"]] = True
        self._move_ends(points)
        closed = self.cascade.add(points, self.series["shift"], self.series["last_step"])
        mine = touched[self.points["series"]]
        rest = _put_points(self.series["id"], by_series(np.concatenate([self.points[mine], points])))
        self.points = np.concatenate([self.points[~mine], rest])
        if len(closed):
            self._put_closed(closed)
        totals = self.cascade.totals(touched)
        ends = self.series[touched]
        assert np.array_equal(totals["series"], np.flatnonzero(touched))  # noqa: S101
        names = ("finite", "not_finite", "low", "high")
        columns = [ends[name] for name in SERIES.names or ()] + [totals[name] for name in names]
        execute(_UPDATE_SERIES, columns, fetch=False)

    def _move_ends(self, points: Rows) -> None:
        """Note where series begin and end with new points, and, with the second, how far apart these are."""
        starts = np.flatnonzero(np.append(True, points["series"][1:] != points["series"][:-1]))
        stops = np.append(starts[1:], len(points)) - 1
        series = self.series[points["series"][starts]]
        steps = points["step"]
        empty = series["last_step"] < 0
        single = ~empty & (series["last_step"] == series["first_step"])
        fresh, further = points[starts[empty]], starts[empty] + 1 <= stops[empty]
        strides = np.ones(len(fresh), "i8")
        strides[further] = steps[starts[empty][further] + 1] - fresh["step"][further]
        series["shift"][empty] = shift_for(strides)
        series["first_step"][empty], series["first_wall"][empty] = fresh["step"], fresh["wall"]
        series["shift"][single] = shift_for(steps[starts[single]] - series["first_step"][single])
        newest = points[stops]
        series["last_step"], series["last_wall"], series["last"] = newest["step"], newest["wall"], newest["value"]
        places = points["series"][starts]
        self.series[places] = series
        again = series[single]
        self.cascade.restart(places[single], again["first_step"] >> (again["shift"] + BASE + 1))

    def _put_closed(self, closed: Rows) -> None:
        """Store closed buckets behind those of their series and levels."""
        touched = np.zeros((len(self.series), TOP_LEVEL + 1), bool)
        touched[closed["series"], closed["level"]] = True
        mine = touched[self.buckets["series"], self.buckets["level"]]
        rows = np.concatenate([self.buckets[mine], closed])
        rest = _put_buckets(self.series["id"], rows.take(np.lexsort((rows["level"], rows["series"]))))
        self.buckets = np.concatenate([self.buckets[~mine], rest])

    def cut(self, steps: Mapping[int, int]) -> None:
        """Delete every point of series from a step on, and the buckets that this opens again: `{place: step}`.

        Afterwards this is to be loaded again.
        """
        places = np.array(list(steps), "i4")
        since = np.zeros(len(self.series), "i8")
        since[places] = list(steps.values())
        ids = self.series["id"]
        points, _ = points_from(execute(_CUT_POINTS, [places, ids[places], since[places]]))
        _put_points(ids, points[points["step"] < since[points["series"]]])
        ends = dict(execute(_CUT_SERIES, [ids[places]]))
        self.series["last_step"][places] = [-1 if ends[pk] is None else ends[pk] for pk in ids[places]]
        edges = self._edges(_LEVELS)
        edges[self.series["last_step"] < 0] = 0
        levels, places = np.tile(_LEVELS, len(places)), np.repeat(places, len(_LEVELS))
        found = execute(_CUT_BUCKETS, [places, ids[places], levels, edges[places, levels - 1]])
        buckets, _ = buckets_from(found)
        _put_buckets(ids, buckets[buckets["bucket"] < edges[buckets["series"], buckets["level"] - 1]])


def _put_points(ids: Array, points: Rows) -> Rows:
    """Write points as full rows and an open one for each series; returns those of the open rows."""
    if not len(points):
        return points
    cut = pieces(points["series"], CHUNK_POINTS)
    last = np.where(cut.full, points["step"][cut.high - 1], OPEN)
    owners = points[cut.owner]
    keys = [ids[owners["series"]], last, cut.low + 1, cut.high]
    execute(_PUT_POINTS, [*keys, *(points[name] for name in POINT_FIELDS)], fetch=False)
    return points.compress(cut.rest)


def _put_buckets(ids: Array, buckets: Rows) -> Rows:
    """Write buckets as full rows and an open one for each series and level; returns those of the open rows."""
    if not len(buckets):
        return buckets
    cut = pieces(buckets["series"] * (TOP_LEVEL + 1) + buckets["level"], ROLLUP_BUCKETS)
    last = np.where(cut.full, buckets["bucket"][cut.high - 1], OPEN)
    owners = buckets[cut.owner]
    keys = [ids[owners["series"]], owners["level"], last, cut.low + 1, cut.high]
    execute(_PUT_BUCKETS, [*keys, *(buckets[name] for name in BUCKET_FIELDS)], fetch=False)
    return buckets.compress(cut.rest)
