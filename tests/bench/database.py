"""A Postgres of a part's own, with the studio's tables in it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.rows import ROOT

BENCH = ROOT / "var" / "bench"
# Partitions of the metric tables, with everything that belongs to them.
TABLES = (
    "metric_chunk_full",
    "metric_chunk_open",
    "metric_rollup_full",
    "metric_rollup_open",
    "metric_series",
    "metric_ingest_position",
)


@contextmanager
def studio_database() -> Iterator[Path]:
    """The embedded server as the studio starts it; yields the state directory. Django is set up in it."""
    BENCH.mkdir(parents=True, exist_ok=True)
    var = Path(tempfile.mkdtemp(prefix="state-", dir=BENCH))
    var.chmod(0o711)
    os.environ |= {"POLM_VAR": str(var), "DJANGO_SETTINGS_MODULE": "webapp.settings", "ALLOWED_HOSTS": "testserver"}
    from webapp.studio.postgres import Postgres

    server = Postgres(var)
    server.start()
    try:
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", verbosity=0)
        yield var
        connections.close_all()
    finally:
        server.stop()
        shutil.rmtree(var, ignore_errors=True)


def metric_bytes() -> int:
    """What the metric tables take on disk: rows, indexes, room left free and all."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name", [list(TABLES)]
        )
        return int(cursor.fetchone()[0])
