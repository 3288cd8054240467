"""Runs with metric files, as training processes write them, and the tailers that bring these into Postgres."""

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def make_tailers(var: Path, *, runs: int, keys: int, lines: int) -> list[Any]:
    """Runs that a worker holds, each with a metrics file of so many lines."""
    from polm_core.run_dir import RunDir, metric_line
    from tests.support.factories import make_team
    from tests.support.runs import make_run
    from webapp.ids import new_id
    from webapp.runs.leases import Claim
    from webapp.runs.models import Status
    from workers.tailer import Tailer

    team = make_team(f"bench-{new_id()}")
    dice = random.Random(1)
    tailers = []
    for number in range(runs):
        run = make_run(team, f"run {number}", status=Status.RUNNING, lease_epoch=1)
        run_dir = RunDir(var / "runs" / str(run.pk))
        run_dir.create()
        with run_dir.metrics.open("w") as file:
            for step in range(lines):
                values = {f"key/{key}": dice.gauss(0, 1) for key in range(keys)}
                file.write(metric_line(step, 1_790_000_000 + step / 5, values))
        tailers.append(Tailer(Claim(run.pk, 1), run_dir))
    return tailers


def read_all(tailers: Sequence[Any], threads: int) -> None:
    """Have every file read to its end, as the threads of one worker do."""
    in_threads(lambda tailer: _drain(tailer), tailers, threads)


def in_threads(work: Any, items: Sequence[Any], threads: int) -> None:
    """Do `work` with each item, in so many threads with a database connection each."""
    from django.db import connection

    failures: list[BaseException] = []

    def share(first: int) -> None:
        try:
            for item in items[first::threads]:
                work(item)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=share, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


def _drain(tailer: Any) -> None:
    while tailer.read().anything:
        pass
