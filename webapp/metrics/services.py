"""Writing metrics: what a run logs becomes points, closed buckets and totals."""

import uuid
from collections.abc import Iterable

import numpy as np
from django.db import transaction

from webapp.metrics.batch import Batch, MetricLine, batch_of, newest
from webapp.metrics.models import MetricSeries
from webapp.metrics.rollup import Rows, by_series
from webapp.metrics.storage import Stored

__all__ = ["MetricLine", "MetricWriter"]

MAX_KEYS = 2_000


class MetricWriter:
    """Stores what one run logs. Its open rows are kept between calls and read from the database when they are not.

    The caller holds the run's lease and opens the transaction, in which it also notes how far it has read. When that
    transaction is rolled back it must call `reset`.
    """

    def __init__(self, run_id: uuid.UUID) -> None:
        self.run_id = run_id
        self._stored: Stored | None = None

    def reset(self) -> None:
        """Forget what is kept; the next `append` reads it from the database."""
        self._stored = None

    def append(self, lines: Iterable[MetricLine]) -> int:
        """Store the lines' values and return how many were refused.

        Refused is what is not a number, has no usable key or is of a key beyond the first `MAX_KEYS`, and every value
        of a line whose step or time is out of range. A step that was stored before, or lies behind the newest, takes
        the place of everything stored from there on: a run that resumes repeats what it had logged after its
        checkpoint.
        """
        try:
            with transaction.atomic(savepoint=False):
                stored = self._stored or Stored.load(self.run_id)
                batch = batch_of(lines, stored.places, MAX_KEYS - len(stored.places))
                self._stored = self._append(batch, stored)
                return batch.refused
        except BaseException:
            self.reset()
            raise

    def _append(self, batch: Batch, stored: Stored) -> Stored:
        if not len(batch.points):
            return stored
        missing = [MetricSeries(run_id=self.run_id, key=key) for key in batch.keys if key not in stored.places]
        stored.add_series(MetricSeries.objects.bulk_create(missing))
        points = batch.points.copy()
        points["series"] = np.array([stored.places[key] for key in batch.keys])[points["series"]]
        points = by_series(points)
        if cuts := _cuts(points, stored):
            stored.cut(cuts)
            stored = Stored.load(self.run_id)
        stored.put(newest(points))
        return stored


def _cuts(points: Rows, stored: Stored) -> dict[int, int]:
    """From which step on stored points give way to new ones, by place of the series."""
    places, starts = np.unique(points["series"], return_index=True)
    first = np.minimum.reduceat(points["step"], starts)
    behind = first <= stored.series["last_step"][places]
    return dict(zip(places[behind].tolist(), first[behind].tolist(), strict=True))
