"""Sustained ingest: from metric files through the tailer into Postgres, beside a bare COPY and the peers."""

import statistics
import tempfile
import time
from typing import Any

import numpy as np

from tests.bench.database import BENCH, studio_database
from tests.bench.metric_files import in_threads, make_tailers, read_all
from tests.bench.peers import environments
from tests.bench.rows import Row

RUNS, KEYS, LINES = 50, 20, 4_000
THREADS = 2
REPEATS = 3
# Slow ones get less to do, but never so little that opening a run is what is measured.
PEER_LINES = {"mlflow": 200, "trackio": 400, "aim": 200, "tensorboard": 200}
BAR_MLFLOW, BAR_TRACKIO, BAR_COPY = 10, 3, 0.5

_COPY_ROW = np.dtype(
    [("fields", ">i2")]
    + [
        field
        for name, kind in (("series", ">i4"), ("step", ">i8"), ("wall", ">i8"), ("value", ">f8"))
        for field in ((f"{name}_size", ">i4"), (name, kind))
    ]
)


def measure(short: bool) -> list[Row]:
    from workers.memory import keep_one_heap

    keep_one_heap()  # as workers do
    lines = LINES // 4 if short else LINES
    repeats = 1 if short else REPEATS
    with studio_database() as var:
        ours, copies, growth = [], [], {}
        for number in range(repeats):
            tailers = make_tailers(var, runs=RUNS, keys=KEYS, lines=lines)
            ours.append(_rate(lambda tailers=tailers: read_all(tailers, THREADS), RUNS * KEYS * lines))
            _check(tailers, KEYS * lines)
            growth[f"{RUNS * KEYS * lines * (number + 1):,} points stored"] = ours[-1]
            copies.append(_copy_rate(number, lines))
        peers = {peer: _peer_rate(peer, var) for peer in environments.REQUIREMENTS}
    rate, copy = statistics.median(ours), statistics.median(copies)
    share = statistics.median(mine / bare for mine, bare in zip(ours, copies, strict=True))
    said = ", ".join(f"{peer} {figure:,.0f}" for peer, figure in peers.items())
    what = f"{RUNS} runs x {KEYS} keys, {lines:,} lines each, {THREADS} threads"
    ratios = [("mlflow", rate / peers["mlflow"], BAR_MLFLOW), ("trackio", rate / peers["trackio"], BAR_TRACKIO)]
    rows = [Row("Sustained ingest", rate, "points/s", "see below", True, f"{what}. Peers: {said}.", growth)]
    rows += [
        Row(f"Sustained ingest against {peer}", ratio, "times", f"at least {bar}", ratio >= bar)
        for peer, ratio, bar in ratios
    ]
    note = f"COPY in binary, encoded beforehand, transactions of the same size: {copy:,.0f} points/s."
    rows.append(
        Row("Sustained ingest against a bare COPY", share, "times", f"at least {BAR_COPY}", share >= BAR_COPY, note)
    )
    return rows


def _rate(work: Any, points: int) -> float:
    started = time.perf_counter()
    work()
    return points / (time.perf_counter() - started)


def _check(tailers: list[Any], points: int) -> None:
    from django.db.models import Sum

    from webapp.metrics.models import MetricPoint, MetricSeries

    for tailer in tailers:
        of_run = MetricSeries.objects.filter(run_id=tailer.claim.run_id)
        assert of_run.aggregate(points=Sum("count"))["points"] == points
    assert MetricPoint.objects.filter(series__run_id=tailers[0].claim.run_id).count() == points


def _copy_rate(number: int, lines: int) -> float:
    """The same rows into an ordinary table with a primary key, each run in pieces as the tailer has them."""
    from django.db import connection, transaction

    table = f"bare_{number}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {table} (series_id int, step bigint, wall timestamptz, value float8,"
            " PRIMARY KEY (series_id, step))"
        )
    pieces = [
        _copy_data(run, first, min(first + 1_700, lines)) for run in range(RUNS) for first in range(0, lines, 1_700)
    ]

    def copy(piece: bytes) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit TO OFF")
            with cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as sink:
                sink.write(piece)

    return _rate(lambda: in_threads(copy, pieces, THREADS), RUNS * KEYS * lines)


def _copy_data(run: int, first: int, last: int) -> bytes:
    steps = np.arange(first, last)
    rows = np.zeros(KEYS * len(steps), _COPY_ROW)
    rows["fields"], rows["series_size"] = 4, 4
    rows["step_size"] = rows["wall_size"] = rows["value_size"] = 8
    rows["series"] = np.tile(np.arange(KEYS), len(steps)) + run * KEYS
    rows["step"] = np.repeat(steps, KEYS)
    rows["wall"] = rows["step"] * 200_000
    rows["value"] = np.random.default_rng(1).normal(size=len(rows))
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"


def _peer_rate(peer: str, var: Any) -> float:
    lines = PEER_LINES[peer]
    if peer == "mlflow":
        return float(environments.call(peer, "ingest", other_database(var), RUNS, KEYS, lines)["points_per_second"])
    with tempfile.TemporaryDirectory(dir=BENCH) as folder:
        return float(environments.call(peer, folder, RUNS, KEYS, lines)["points_per_second"])


def other_database(var: Any) -> str:
    """A database of its own on the studio's server, for a peer; its URL."""
    from django.db import connection

    from webapp.studio.embedded import DATABASE, default_database_url

    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS mlflow")
        cursor.execute("CREATE DATABASE mlflow")
    return default_database_url(var).replace(f"/{DATABASE}?", "/mlflow?")
