"""A chart of one key of a hundred runs: how long the server takes, beside mlflow, and as the runs grow."""

import json
import math
import statistics
import time
from typing import Any

import numpy as np

from tests.bench.database import studio_database
from tests.bench.ingest import other_database
from tests.bench.peers import environments
from tests.bench.rows import Row

RUNS, BUCKETS, AGAINST_MLFLOW = 100, 1_000, 100_000
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
# Beyond this size the first run is logged whole; the others get copies of what a chart of them reads: without the raw
# points and the lowest levels, which would fill a hundred gigabytes.
WHOLE = 100_000
LEFT_OUT_LEVELS = 4
SPIKE = 7_777
REPEATS = 9
BAR_MLFLOW, BAR_GROWTH = 50, 2.0


def measure(short: bool) -> list[Row]:
    sizes = SIZES[:4] if short else SIZES
    with studio_database() as var:
        runs = {size: _runs(size) for size in sizes}
        _vacuum()
        client = _client()
        times: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(REPEATS):  # in turn, so that what else the machine does falls on all alike
            for size in sizes:
                times[size].append(_ask(client, runs[size], size))
        theirs = environments.call("mlflow", "chart", other_database(var), RUNS, AGAINST_MLFLOW, 1 if short else 3)
    medians = {size: statistics.median(found) for size, found in times.items()}
    growth = {f"{size:,} points a run": 1000 * seconds for size, seconds in medians.items()}
    ratio = theirs["seconds"] / medians[AGAINST_MLFLOW]
    most = max(medians.values()) / medians[sizes[0]]
    kept = "kept" if theirs["spike_kept"] else "lost"
    against = f"mlflow: {theirs['seconds']:.2f} s for {theirs['points']:.0f} points of each; the spike is {kept}."
    ms = 1000 * medians[AGAINST_MLFLOW]
    what = f"{RUNS} runs x {AGAINST_MLFLOW:,} points, one key, {BUCKETS:,} buckets, whole request without the network"
    copied = f"Runs of more than {WHOLE:,} points: one logged whole, {RUNS - 1} with copies of its rollup."
    return [
        Row("Chart of 100 runs", ms, "ms", "see below", True, f"{what}; spike and NaN kept.", growth),
        Row("Chart against mlflow", ratio, "times faster", f"at least {BAR_MLFLOW}", ratio >= BAR_MLFLOW, against),
        Row("Chart as runs grow", most, "times", f"at most {BAR_GROWTH:g}", most <= BAR_GROWTH, copied),
    ]


def _runs(size: int) -> list[Any]:
    """A hundred runs of so many points each."""
    from tests.support.factories import make_team
    from tests.support.runs import make_run
    from webapp.accounts.models import Team
    from webapp.metrics.models import MetricSeries

    team = Team.objects.filter(name="bench").first() or make_team("bench")
    runs = [make_run(team, f"{size} {number}") for number in range(RUNS)]
    series = MetricSeries.objects.bulk_create(MetricSeries(run=run, key="loss") for run in runs)
    _log_whole(runs[0].pk, size)
    _copy_series(series[0].pk, [one.pk for one in series[1:]], whole=size <= WHOLE)
    return runs


def _log_whole(run_id: Any, size: int, piece: int = 50_000) -> None:
    from webapp.metrics.services import MetricLine, MetricWriter

    writer = MetricWriter(run_id)
    dice = np.random.default_rng(size)
    for first in range(0, size, piece):
        values = dice.normal(size=min(piece, size - first)).tolist()
        if first == 0:
            values[SPIKE % size], values[SPIKE // 2 % size] = 500.0, math.nan
        writer.append(
            MetricLine(step, 1_790_000_000.0 + step, {"loss": value}) for step, value in enumerate(values, first)
        )


def _copy_series(source: int, others: list[int], *, whole: bool) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE metric_series s SET shift = o.shift, count = o.count, not_finite = o.not_finite,"
            " first_step = o.first_step, last_step = o.last_step, first_wall = o.first_wall, last_wall = o.last_wall,"
            " last = o.last, min = o.min, max = o.max FROM metric_series o WHERE o.id = %s AND s.id = ANY(%s)",
            [source, others],
        )
        # The open row and the one before it: what is open at the end of a series may reach into that.
        cursor.execute(
            "INSERT INTO metric_chunk SELECT other, last_step, steps, walls, values FROM metric_chunk c,"
            " unnest(%s::int[]) AS other WHERE series_id = %s AND (%s OR last_step >= (SELECT max(last_step)"
            " FROM metric_chunk_full WHERE series_id = c.series_id))",
            [others, source, whole],
        )
        cursor.execute(
            "INSERT INTO metric_rollup SELECT other, level, last, buckets, finite, not_finite, vmin, vmax, vsum, wlast"
            " FROM metric_rollup r, unnest(%s::int[]) AS other WHERE series_id = %s AND (%s OR level > %s OR last >= "
            " (SELECT max(last) FROM metric_rollup_full WHERE series_id = r.series_id AND level = r.level))",
            [others, source, whole, LEFT_OUT_LEVELS],
        )


def _vacuum() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _client() -> Any:
    """A client of the API that may see the runs."""
    from django.test import Client

    from tests.support.factories import make_user
    from webapp.accounts.models import Team

    client = Client()
    client.force_login(make_user("bench", Team.objects.get(name="bench")))
    return client


def _ask(client: Any, runs: list[Any], size: int) -> float:
    """The seconds that the answer takes; the spike and the NaN are in it, and every point is counted."""
    query = {"run": [str(run.pk) for run in runs], "key": "loss", "points": BUCKETS}
    started = time.perf_counter()
    answer = client.get("/api/v1/compare", query)
    seconds = time.perf_counter() - started
    assert answer.status_code == 200, answer.content[:500]
    for run in json.loads(answer.content)["runs"]:
        odd = sum(count for _, count in run["not_finite"])
        assert max(value for value in run["max"] if value is not None) == 500.0
        assert (odd, sum(run["count"]) + odd) == (1, size)
    return seconds
