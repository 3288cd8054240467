"""Upgrading: what was stored one to a row is all there in columns, and goes on."""

import math
import random
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests.support.factories import make_team
from tests.support.runs import make_run
from tests.webapp.metrics.conftest import START
from tests.webapp.metrics.reference import Reference, closed_buckets
from webapp.metrics.services import MetricLine, MetricWriter

BEFORE = [("metrics", "0001_initial")]
LENGTHS = {"one": 1, "full row": 80, "loss": 3001, "eval/loss": 700}


@pytest.fixture
def old_tables(transactional_db: None) -> None:
    """The tables as they were; those of a test database are empty at this point."""
    with connection.cursor() as cursor:
        cursor.execute("DROP VIEW metric_point, metric_bucket; DROP TABLE metric_chunk, metric_rollup, metric_series")
        cursor.execute("DROP TABLE metric_ingest_position; DELETE FROM django_migrations WHERE app = 'metrics'")
    MigrationExecutor(connection).migrate(BEFORE)


def moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)


@pytest.mark.usefixtures("old_tables")
def test_points_and_buckets_survive_an_upgrade() -> None:
    run = make_run(make_team("Red"))
    dice = random.Random(3)
    reference = Reference()
    for key, length in LENGTHS.items():
        values = [math.nan if dice.random() < 0.1 else dice.gauss(0, 1) for _ in range(length)]
        reference.append([MetricLine(10 * step, START + step, {key: value}) for step, value in enumerate(values)])
    old = MigrationExecutor(connection).loader.project_state(BEFORE).apps
    series, point, bucket = (old.get_model("metrics", name) for name in ("MetricSeries", "MetricPoint", "MetricBucket"))
    for key, stored in reference.series.items():
        finite = [value for _, value in stored.values() if math.isfinite(value)]
        last = max(stored)
        one = series.objects.create(
            run_id=run.pk,
            key=key,
            shift=3 if len(stored) > 1 else 0,
            count=len(stored),
            not_finite=len(stored) - len(finite),
            first_step=0,
            last_step=last,
            first_wall=moment(stored[0][0]),
            last_wall=moment(stored[last][0]),
            last=stored[last][1],
            min=min(finite, default=None),
            max=max(finite, default=None),
        )
        point.objects.bulk_create(
            point(series=one, step=step, wall=moment(time), value=value) for step, (time, value) in stored.items()
        )
        bucket.objects.bulk_create(
            bucket(
                series=one,
                level=level,
                bucket=number,
                finite=len(finite),
                not_finite=len(points) - len(finite),
                vmin=min(finite, default=None),
                vmax=max(finite, default=None),
                vsum=sum(finite),
                wlast=moment(points[-1][0]),
            )
            for (level, number), points in closed_buckets(stored, one.shift, base=0, bits=3).items()
            for finite in [[value for _, value in points if math.isfinite(value)]]
        )
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("metrics"))

    reference.check(run.pk)
    more = [MetricLine(10 * step, START + step, {key: float(step) for key in LENGTHS}) for step in range(2990, 3200)]
    MetricWriter(run.pk).append(more)
    reference.append(more)
    reference.check(run.pk)
