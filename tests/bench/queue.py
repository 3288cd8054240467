"""The queue and the list of runs under load.

A Postgres of its own holds 5,000 waiting and 5,000 finished runs of 20 people. Eight processes claim at the same time
as fast as they can; the pages are asked for through Django's test client, with nothing left out but the network.
"""

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from tests.bench.rows import Row

os.environ |= {"DJANGO_SETTINGS_MODULE": "tests.settings", "ALLOWED_HOSTS": "testserver"}

WAITING = 5_000
FINISHED = 5_000
USERS = 20
WORKERS = 8
CLAIMS = 100
VIEWS = 40
CLAIM_BAR_MS = 20
PAGE_BAR_MS = 100


def measure(short: bool) -> list[Row]:
    """Every figure, against its bar."""
    import django

    django.setup()
    from pathlib import Path

    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection, connections

    from tests.support.services import session_services

    with session_services(Path(settings.VAR_DIR)):
        call_command("migrate", verbosity=0)
        member = _fill()
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        rows = _pages(member)
        connections.close_all()
        return rows + _claims()


def _fill() -> Any:
    """The people, their runs and eight workers; returns one of the people."""
    from django.utils import timezone

    from tests.support.factories import make_team, make_user
    from tests.support.runs import make_run
    from webapp.metrics.models import MetricSeries
    from webapp.runs.models import Run, Status, Worker

    dice = random.Random(0)
    now = timezone.now()
    team = make_team("Red")
    users = [make_user(f"u{number}", team) for number in range(USERS)]
    first = make_run(team, "first", status=Status.SUCCEEDED, started_at=now, finished_at=now)
    same = {
        "team": team,
        "project": first.project,
        "model": first.model,
        "dataset_version": first.dataset_version,
        "code_version": "0",
    }
    needs = ({"gpus": 0}, {}, {"gpus": 2, "cpu_will_do": False}, {"labels": ["none-has-it"]})
    finished, waiting = (
        [
            Run(
                name=f"{status} {number} {dice.choice(('alpha', 'beta', 'gamma'))}",
                method=dice.choice(("sft", "dpo", "grpo")),
                config={"max_steps": dice.choice((0, 100, 1000)), "learning_rate": 1e-5, "adapter": {"type": "lora"}},
                status=status,
                created_by=dice.choice(users),
                priority=dice.choice((0, 0, 0, 1, -1)),
                tags=[f"t{number % 50}"],
                **same,
                **more(number),
            )
            for number in range(count)
        ]
        for status, count, more in (
            (
                Status.SUCCEEDED,
                FINISHED,
                lambda _: {"started_at": now - timedelta(minutes=9), "finished_at": now, "step": 100},
            ),
            (Status.QUEUED, WAITING, lambda number: needs[number % 8] if number % 8 < len(needs) else {}),
        )
    )
    Run.objects.bulk_create(finished + waiting, batch_size=1_000)
    series = [MetricSeries(run=run, key="loss", count=100, last=dice.random(), min=0, max=1) for run in finished]
    MetricSeries.objects.bulk_create(series, batch_size=1_000)
    for number in range(WORKERS):
        common = {"host": f"w{number}", "boot_id": f"b{number}", "queues": ["runs"], "heartbeat_at": now}
        Worker.objects.create(name=f"w{number}", slots=10_000, **common)
    return users[0]


# --- pages ------------------------------------------------------------------------------------------------------------


def _pages(member: Any) -> list[Row]:
    from tests.support.api import ApiClient, browser
    from webapp.accounts.access import Actor
    from webapp.accounts.services import token_create
    from webapp.runs.models import Worker

    client = browser(member)
    api = ApiClient(token_create(actor=Actor(member), name="bench")[1])
    run = _a_waiting_run()
    asked: dict[str, Callable[[], Any]] = {
        "Runs page": lambda: client.get("/runs/"),
        "Runs page, the last": lambda: client.get("/runs/?page=200"),
        "Runs page by loss": lambda: client.get("/runs/?sort=loss"),
        "Runs page by name": lambda: client.get("/runs/?sort=name"),
        "Runs page, search": lambda: client.get("/runs/?q=beta+loss<0.4+method:dpo"),
        "Runs page, one status and tag": lambda: client.get("/runs/?status=succeeded&tag=t7"),
        "GET /runs": lambda: api.get("/runs"),
        "Queue page": lambda: client.get("/runs/queue"),
        "Queue page, the last": lambda: client.get("/runs/queue?page=100"),
        "GET /queue": lambda: api.get("/queue"),
        "page of a waiting run": lambda: client.get(f"/runs/{run.pk}"),
    }
    rows = []
    for name, ask in asked.items():
        Worker.objects.update(heartbeat_at=_now())
        times, more = _timed(ask)
        size = f"{WAITING:,} waiting" if "ueue" in name or "waiting" in name else f"{WAITING + FINISHED:,} runs"
        rows.append(_row(f"{name}, {size}: server time p95", _p95(times), "ms", PAGE_BAR_MS, more))
    return rows


def _a_waiting_run() -> Any:
    from webapp.runs.models import Run, Status

    return Run.objects.filter(status=Status.QUEUED).order_by("-id").first()


def _now() -> Any:
    from django.utils import timezone

    return timezone.now()


def _timed(ask: Callable[[], Any]) -> tuple[list[float], dict[str, Any]]:
    """The milliseconds of each view; their median, how many of them went to this process, and the queries of one."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    ask()
    with CaptureQueriesContext(connection) as queries:
        assert ask().status_code == 200
    count = len(queries)
    times = []
    worked = time.process_time()
    for _ in range(VIEWS):
        started = time.perf_counter()
        ask()
        times.append(1000 * (time.perf_counter() - started))
    worked = 1000 * (time.process_time() - worked) / VIEWS
    return times, {"median": round(statistics.median(times), 1), "python": round(worked, 1), "queries": count}


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims() -> list[Row]:
    """In each round all workers claim at the same moment; what they have taken ends before the next."""
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    start = context.Barrier(WORKERS)
    workers = [context.Process(target=_claim, args=(f"w{number}", start, results)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    times = [one for answer in answers for one in answer["times"]]
    runs = [run for answer in answers for run in answer["runs"]]
    assert len(runs) == len(set(runs)) == WORKERS * CLAIMS, "a run was claimed twice"
    name = f"claim, {WORKERS} workers at once, {WAITING:,} waiting: p95"
    more = {"median": round(statistics.median(times), 1), "queries": answers[0]["queries"]}
    return [_row(name, _p95(times), "ms", CLAIM_BAR_MS, more)]


def _claim(name: str, start: Any, results: Any) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from polm_core.run_dir import Outcome, Result
    from webapp.runs.claims import run_claim
    from webapp.runs.leases import run_finish
    from webapp.runs.models import Worker

    seen = 0
    worker = Worker.objects.get(name=name)
    times, runs = [], []
    for turn in range(CLAIMS):
        start.wait()
        with CaptureQueriesContext(connection) if turn == 0 else nullcontext([]) as queries:
            started = time.perf_counter()
            claim = run_claim(worker=worker)
            times.append(1000 * (time.perf_counter() - started))
        seen = len(queries) or seen
        assert claim is not None
        runs.append(claim.run_id)
        start.wait()
        run_finish(claim, Result(outcome=Outcome.SUCCEEDED))
    results.put({"times": times, "runs": runs, "queries": seen})
    connection.close()


def _p95(times: list[float]) -> float:
    return round(statistics.quantiles(times, n=20)[-1], 1)


def _row(name: str, figure: float, unit: str, bar: float, more: dict[str, Any]) -> Row:
    note = "; ".join(f"{key} {value}" for key, value in more.items())
    return Row(name, figure, unit, f"under {bar:g}", figure < bar, note)
