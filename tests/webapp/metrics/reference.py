"""What the metric tables must hold, worked out the slow way."""

import math
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from webapp.metrics.models import MetricBucket, MetricPoint, MetricSeries
from webapp.metrics.services import MetricLine

Stored = dict[int, tuple[float, float]]


class Reference:
    """The points a run should have: `{key: {step: (time, value)}}`, last write wins from its step on."""

    def __init__(self) -> None:
        self.series: dict[str, Stored] = defaultdict(dict)

    def append(self, lines: list[MetricLine]) -> None:
        for line in lines:
            for key, value in line.values.items():
                kept = {step: point for step, point in self.series[key].items() if step < line.step}
                self.series[key] = {**kept, line.step: (line.time, value)}

    def check(self, run_id: Any) -> None:
        """Compare every table with what it must hold."""
        stored = {series.key: series for series in MetricSeries.objects.filter(run_id=run_id)}
        assert stored.keys() == self.series.keys()
        for key, series in stored.items():
            _check_series(series, self.series[key])


def _check_series(series: MetricSeries, expected: Stored) -> None:
    rows = MetricPoint.objects.filter(series=series).order_by("step").values_list("step", "wall", "value")
    assert [(step, _same(value)) for step, _, value in rows] == [
        (step, _same(value)) for step, (_, value) in expected.items()
    ]
    assert all(abs(wall.timestamp() - expected[step][0]) < 1e-3 for step, wall, _ in rows)
    finite = [value for _, value in expected.values() if math.isfinite(value)]
    steps = list(expected)
    assert series.count == len(expected)
    assert series.not_finite == len(expected) - len(finite)
    assert (series.min, series.max) == ((min(finite), max(finite)) if finite else (None, None))
    assert (series.first_step, series.last_step) == (steps[0], steps[-1])
    assert series.first_wall == _moment(expected[steps[0]][0])
    assert series.last_wall == _moment(expected[steps[-1]][0])
    assert _same(series.last) == _same(expected[steps[-1]][1])
    _check_buckets(series, expected)


def _check_buckets(series: MetricSeries, expected: Stored) -> None:
    found = {(row.level, row.bucket): row for row in MetricBucket.objects.filter(series=series)}
    wanted = closed_buckets(expected, series.shift)
    assert found.keys() == wanted.keys()
    for place, points in wanted.items():
        row = found[place]
        finite = [value for _, value in points if math.isfinite(value)]
        assert (row.finite, row.not_finite) == (len(finite), len(points) - len(finite))
        assert (row.vmin, row.vmax) == ((min(finite), max(finite)) if finite else (None, None))
        assert math.isclose(row.vsum, sum(finite), rel_tol=1e-9, abs_tol=1e-9)
        assert row.wlast == _moment(points[-1][0])


def closed_buckets(
    expected: Stored, shift: int, base: int = 2, bits: int = 1
) -> dict[tuple[int, int], list[tuple[float, float]]]:
    """The buckets that a later step has closed, by (level, bucket); at level l of 2**(base + bits * l) units."""
    last = max(expected)
    buckets = defaultdict(list)
    for level in range(1, 48 // bits):
        width = shift + base + bits * level
        for step, point in expected.items():
            if step >> width < last >> width:
                buckets[level, step >> width].append(point)
    return buckets


def _moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)


def _same(value: float | None) -> float | str | None:
    """A value that equals itself, NaN included."""
    return "nan" if value is not None and math.isnan(value) else value
