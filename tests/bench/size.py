"""Bytes a point: what the metric tables take on disk, everything included, at several lengths of a series."""

from itertools import islice

from tests.bench.database import metric_bytes, studio_database
from tests.bench.metric_files import make_tailers
from tests.bench.rows import Row

KEYS = 20
# Lines a run, how many runs of it, and how many lines are written between two looks at the file.
SIZES = ((1_000, 10, 1), (1_000, 50, 20), (10_000, 5, 50), (1_000_000, 1, 20_000))
BAR = 60


def measure(short: bool) -> list[Row]:
    growth = {}
    with studio_database() as var:
        for lines, runs, flush in SIZES[:3] if short else SIZES:
            keys = KEYS if lines < 1_000_000 else 4
            _empty()
            _ingest(var, runs=runs, keys=keys, lines=lines, flush=flush)
            assert _points() == runs * keys * lines
            growth[f"{lines:,} points a series, {flush:,} lines a look"] = metric_bytes() / (runs * keys * lines)
    worst = max(growth.values())
    note = (
        "Tables, indexes, buckets, series and the room that is left free, as they stand when the last line is stored."
    )
    return [Row("Bytes per point", worst, "bytes", f"at most {BAR}", worst <= BAR, note, growth)]


def _empty() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE metric_chunk, metric_rollup, metric_series, metric_ingest_position")


def _points() -> int:
    from webapp.metrics.models import MetricPoint

    return MetricPoint.objects.count()


def _ingest(var: object, *, runs: int, keys: int, lines: int, flush: int) -> None:
    """Have the files read while they are written, so many lines at a time."""
    tailers = make_tailers(var, runs=runs, keys=keys, lines=lines)  # type: ignore[arg-type]
    parts = []
    for tailer in tailers:
        path = tailer.run_dir.metrics
        written = path.with_name("written.jsonl")
        path.rename(written)
        parts.append((tailer, written.open(), path.open("w")))
    for _ in range(0, lines, flush):
        for tailer, source, target in parts:
            target.writelines(islice(source, flush))
            target.flush()
            while tailer.read().anything:
                pass
    for _, source, target in parts:
        assert not source.read(1)
        source.close()
        target.close()
