"""Writing metrics: what a run logs becomes points, closed buckets and totals."""

import math
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import transaction

from webapp.metrics import storage
from webapp.metrics.keys import is_usable
from webapp.metrics.models import MetricSeries
from webapp.metrics.rollup import MAX_STEP, Bucket, Cascade, shift_for
from webapp.metrics.storage import Point, SeriesState

MAX_KEYS = 2_000
# A value beyond this is stored as infinity: the sum of a bucket must stay within what a float holds.
MAX_VALUE = 1e300


class MetricLine(NamedTuple):
    """One line of `metrics.jsonl` as it was read; `time` is seconds since the epoch. Nothing in it is trusted."""

    step: int
    time: float
    values: Mapping[str, Any]


@dataclass(slots=True)
class _Fresh:
    """The new points of one series, by rising step; stored ones from step `cut` on give way to them."""

    state: SeriesState | None
    points: list[Point] = field(default_factory=list)
    cut: int | None = None

    def add(self, point: Point) -> None:
        """Take in a point; one that does not go forward replaces everything from its step on."""
        if self.points and point.step <= self.points[-1].step:
            del self.points[bisect_left(self.points, point.step, key=attrgetter("step")) :]
        stored = self.state.last if self.state else None
        if stored is not None and point.step <= stored.step and (self.cut is None or point.step < self.cut):
            self.cut = point.step
        self.points.append(point)


class MetricWriter:
    """Stores what one run logs. Its open buckets are kept between calls and read from the database when they are not.

    The caller holds the run's lease and opens the transaction, in which it also notes how far it has read. When that
    transaction is rolled back it must call `reset`.
    """

    def __init__(self, run_id: uuid.UUID) -> None:
        self.run_id = run_id
        self._states: dict[str, SeriesState] | None = None

    def reset(self) -> None:
        """Forget what is kept; the next `append` reads it from the database."""
        self._states = None

    def append(self, lines: Iterable[MetricLine]) -> int:
        """Store the lines' values and return how many were refused.

        Refused is what is not a number, has no usable key or is of a key beyond the first `MAX_KEYS`, and every value
        of a line whose step or time is out of range. A step that was stored before, or lies behind the newest, takes
        the place of everything stored from there on: a run that resumes repeats what it had logged after its
        checkpoint.
        """
        if self._states is None:
            self._states = storage.load_states(MetricSeries.objects.filter(run_id=self.run_id))
        try:
            with transaction.atomic(savepoint=False):
                return self._append(lines, self._states)
        except BaseException:
            self.reset()
            raise

    def _append(self, lines: Iterable[MetricLine], states: dict[str, SeriesState]) -> int:
        fresh, refused = self._sorted_by_key(lines, states)
        if not fresh:
            return refused
        self._create_missing(fresh, states)
        self._cut(fresh, states)
        closed: list[tuple[int, int, Bucket]] = []
        for key, new in fresh.items():
            closed += _roll(states[key], new.points)
        storage.add_points((states[key].id, *point) for key, new in fresh.items() for point in new.points)
        storage.add_buckets(closed)
        storage.update_series(states[key] for key in fresh)
        return refused

    def _sorted_by_key(
        self, lines: Iterable[MetricLine], states: Mapping[str, SeriesState]
    ) -> tuple[dict[str, _Fresh], int]:
        fresh: dict[str, _Fresh] = {}
        refused = 0
        room = MAX_KEYS - len(states)
        for line in lines:
            wall = _wall(line)
            for key, raw in line.values.items():
                value = _number(raw)
                if wall is None or value is None:
                    refused += 1
                    continue
                new = fresh.get(key)
                if new is None:
                    state = states.get(key)
                    if state is None and (room <= 0 or not is_usable(key)):
                        refused += 1
                        continue
                    room -= state is None
                    new = fresh[key] = _Fresh(state)
                new.add(Point(line.step, wall, value))
        return fresh, refused

    def _create_missing(self, fresh: Mapping[str, _Fresh], states: dict[str, SeriesState]) -> None:
        missing = [MetricSeries(run_id=self.run_id, key=key) for key in fresh if key not in states]
        for series in MetricSeries.objects.bulk_create(missing):
            states[series.key] = SeriesState(series.pk)

    def _cut(self, fresh: Mapping[str, _Fresh], states: dict[str, SeriesState]) -> None:
        cuts = {states[key].id: new.cut for key, new in fresh.items() if new.cut is not None}
        if cuts:
            storage.cut_from(cuts)
            states.update(storage.load_states(MetricSeries.objects.filter(pk__in=cuts)))


def _roll(state: SeriesState, points: Sequence[Point]) -> list[tuple[int, int, Bucket]]:
    """Add points to a series in memory; returns the rows (series, level, bucket) of the buckets that close."""
    if state.last is None:
        state.first = (points[0].step, points[0].wall)
        if len(points) > 1:
            state.cascade = Cascade(shift_for(points[1].step - points[0].step))
    elif state.last.step == (state.first or state.last)[0]:
        # Only the second point tells how far apart they are; nothing can have closed before it.
        state.cascade = Cascade(shift_for(points[0].step - state.last.step))
        state.cascade.add(*state.last)
    cascade = state.cascade
    closed = [(state.id, level, bucket) for point in points for level, bucket in cascade.add(*point)]
    state.last = points[-1]
    return closed


def _wall(line: MetricLine) -> datetime | None:
    """The line's time, None when it or the step is out of range."""
    if not 0 <= line.step <= MAX_STEP:
        return None
    try:
        return datetime.fromtimestamp(line.time, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _number(value: Any) -> float | None:
    if type(value) is not float:
        if type(value) is not int:
            return None
        try:
            value = float(value)
        except OverflowError:
            value = math.inf if value > 0 else -math.inf
    if abs(value) > MAX_VALUE:
        return math.copysign(math.inf, value)
    return float(value)
