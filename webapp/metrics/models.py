"""Metric series, their points, and the rollup that makes a chart of any length cost the same.

The rollup is a cascade of buckets: one of level 1 covers eight units of `step >> shift`, and at each level above twice
as many. `shift` is the series' own, so that one that is logged every 10 steps fills its buckets as well as one logged
at every step. So a chart of any width finds a level whose buckets are its own and reads no more rows than it shows.
A bucket is stored exactly when it is closed, that is when a step behind its end has been seen; what is still open can
be read from the levels below.

A row of a table costs some 60 bytes before it holds anything. So points and buckets are kept as columns, many to a
row: `MetricChunk` has the points of a series in order, `MetricRollup` its closed buckets of a level. A full row is
written once and never updated. The last row of each series and level is the open one, which every writing replaces
until it is full; its `last_step` or `last` is `OPEN`, behind every real one, so that a look-up of "from here on" finds
it too. Open and full rows are partitions of their table. The views `metric_point` and `metric_bucket` give the same one
to a row, for SQL and for people.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from webapp.metrics.keys import MAX_KEY_LENGTH
from webapp.runs.models import Run

OPEN = 2**63 - 1
# As many as leave four rows to a page of 8 kB: a longer row would be moved out of it, to where it costs more.
CHUNK_POINTS = 80
ROLLUP_BUCKETS = 36


class MetricSeries(models.Model):
    """One metric of one run, with exact totals.

    `count` counts every point, `not_finite` those that are NaN or infinite; `min` and `max` leave these out. `last` is
    the newest value as it was logged, NaN included.
    """

    id = models.AutoField(primary_key=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="series")
    key = models.CharField(max_length=MAX_KEY_LENGTH)
    shift = models.SmallIntegerField(default=0)
    count = models.BigIntegerField(default=0)
    not_finite = models.BigIntegerField(default=0)
    first_step = models.BigIntegerField(null=True)
    last_step = models.BigIntegerField(null=True)
    first_wall = models.DateTimeField(null=True)
    last_wall = models.DateTimeField(null=True)
    last = models.FloatField(null=True)
    min = models.FloatField(null=True)
    max = models.FloatField(null=True)

    class Meta:
        db_table = "metric_series"
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="metric_series_unique")]
        # For conditions on one metric of all runs. Figures stay out of it: they change with every batch.
        indexes = [models.Index(fields=["key", "run"], name="metric_series_key")]

    def __str__(self) -> str:
        return f"{self.key} of {self.run_id}"


class MetricChunk(models.Model):
    """Points of a series in the order of their steps; NaN and infinities are kept as they are.

    Only the writer that holds its run's lease adds rows, so the database need not look up the series of each.
    """

    pk = models.CompositePrimaryKey("series", "last_step")
    series = models.ForeignKey(
        MetricSeries, on_delete=models.CASCADE, related_name="chunks", db_index=False, db_constraint=False
    )
    last_step = models.BigIntegerField()
    steps = ArrayField(models.BigIntegerField())
    walls = ArrayField(models.DateTimeField())
    values = ArrayField(models.FloatField())

    class Meta:
        db_table = "metric_chunk"

    def __str__(self) -> str:
        return f"{self.series_id} up to {self.last_step}"


class MetricRollup(models.Model):
    """Closed buckets of a series and level in order: see `MetricBucket`.

    `vmin` and `vmax` are NaN where no point was finite.
    """

    pk = models.CompositePrimaryKey("series", "level", "last")
    series = models.ForeignKey(
        MetricSeries, on_delete=models.CASCADE, related_name="rollups", db_index=False, db_constraint=False
    )
    level = models.SmallIntegerField()
    last = models.BigIntegerField()
    buckets = ArrayField(models.BigIntegerField())
    finite = ArrayField(models.IntegerField())
    not_finite = ArrayField(models.IntegerField())
    vmin = ArrayField(models.FloatField())
    vmax = ArrayField(models.FloatField())
    vsum = ArrayField(models.FloatField())
    wlast = ArrayField(models.DateTimeField())

    class Meta:
        db_table = "metric_rollup"

    def __str__(self) -> str:
        return f"{self.series_id} level {self.level} up to {self.last}"


class MetricPoint(models.Model):
    """One logged value: a view of `MetricChunk`."""

    pk = models.CompositePrimaryKey("series", "step")
    series = models.ForeignKey(MetricSeries, on_delete=models.DO_NOTHING, related_name="points", db_constraint=False)
    step = models.BigIntegerField()
    wall = models.DateTimeField()
    value = models.FloatField()

    class Meta:
        managed = False
        db_table = "metric_point"

    def __str__(self) -> str:
        return f"{self.series_id} at {self.step}"


class MetricBucket(models.Model):
    """A closed bucket: count, extremes and sum of the finite points in it, and how many were not finite.

    `vmin` and `vmax` are empty when no point was finite. `wlast` is the time of the last point of either kind. A view
    of `MetricRollup`.
    """

    pk = models.CompositePrimaryKey("series", "level", "bucket")
    series = models.ForeignKey(MetricSeries, on_delete=models.DO_NOTHING, related_name="buckets", db_constraint=False)
    level = models.SmallIntegerField()
    bucket = models.BigIntegerField()
    finite = models.IntegerField()
    not_finite = models.IntegerField(default=0)
    vmin = models.FloatField(null=True)
    vmax = models.FloatField(null=True)
    vsum = models.FloatField()
    wlast = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "metric_bucket"

    def __str__(self) -> str:
        return f"{self.series_id} level {self.level} at {self.bucket}"


class IngestPosition(models.Model):
    """How far the files of a run directory have been read; moves in the same transaction as what was read.

    A run that starts afresh on another machine begins new files: the bases are what was read of the ones before, so
    that base plus offset only ever grows. `refused_values` counts values that could not be stored.
    """

    run = models.OneToOneField(Run, primary_key=True, on_delete=models.CASCADE, related_name="ingest")
    metrics_offset = models.BigIntegerField(default=0)
    metrics_lines = models.BigIntegerField(default=0)
    bad_lines = models.BigIntegerField(default=0)
    refused_values = models.BigIntegerField(default=0)
    samples_base = models.BigIntegerField(default=0)
    samples_offset = models.BigIntegerField(default=0)
    log_base = models.BigIntegerField(default=0)
    log_offset = models.BigIntegerField(default=0)

    class Meta:
        db_table = "metric_ingest_position"

    def __str__(self) -> str:
        return str(self.run_id)
