"""The queue and the list of runs under load.

A Postgres of its own holds 5,000 waiting and 5,000 finished runs of 20 people (and fewer and more, for the growth).
Eight processes claim at the same moment; the pages are asked for through Django's test client, with nothing left out
but the network.
"""

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, NamedTuple

from tests.bench.rows import Row

os.environ |= {"DJANGO_SETTINGS_MODULE": "tests.settings", "ALLOWED_HOSTS": "testserver"}

# So many wait, and as many have finished; the bars hold for WAITING.
SIZES = (500, 5_000, 20_000)
WAITING = 5_000
USERS = 20
WORKERS = 8
CLAIMS = 100
VIEWS = 40
CLAIM_BAR_MS = 20
PAGE_BAR_MS = 100
QUERY = "method:dpo+config.max_steps>=100+not+(loss.min>1+or+tag:t7)"


class Figures(NamedTuple):
    """Milliseconds: the 95th percentile, the median and how much of it went to this process; the queries of one."""

    p95: float
    median: float
    python: float
    queries: int


def measure(short: bool) -> list[Row]:
    """Every figure, against its bar."""
    from pathlib import Path

    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection, connections

    import webapp.asgi  # noqa: F401 (sets up what a web process has, its rest from the collector included)
    from tests.support.services import session_services

    sizes = [size for size in SIZES if size <= WAITING] if short else SIZES
    pages: dict[str, dict[int, Figures]] = {}
    claims: dict[tuple[int, int], Figures] = {}
    with session_services(Path(settings.VAR_DIR)):
        call_command("migrate", verbosity=0)
        people = _people()
        for size in sizes:
            _fill(people, size)
            with connection.cursor() as cursor:
                cursor.execute("VACUUM ANALYZE")
            for name, figures in _pages(people[0]).items():
                pages.setdefault(name, {})[size] = figures
            connections.close_all()
            for workers in (1, WORKERS) if size == WAITING else (WORKERS,):
                # A quarter of those that wait asks for what no worker has.
                claims[workers, size] = _claims(workers, min(CLAIMS, size // (2 * workers)))
    return [_page_row(name, found) for name, found in pages.items()] + [_claim_row(claims)]


def _people() -> list[Any]:
    """A team of people, and workers that could take every run there is."""
    from django.utils import timezone

    from tests.support.factories import make_team, make_user
    from webapp.runs.models import Worker

    team = make_team("Red")
    for number in range(WORKERS):
        common = {"host": f"w{number}", "boot_id": f"b{number}", "queues": ["runs"], "heartbeat_at": timezone.now()}
        Worker.objects.create(name=f"w{number}", slots=10_000, **common)
    return [make_user(f"u{number}", team) for number in range(USERS)]


def _fill(people: list[Any], size: int) -> None:
    """Add runs until so many wait and as many have finished."""
    from django.utils import timezone

    from tests.support.runs import make_run
    from webapp.metrics.models import MetricSeries
    from webapp.runs.models import Run, Status

    dice = random.Random(size)
    now = timezone.now()
    first = make_run(people[0].memberships.get().team, "first", status=Status.STOPPED, started_at=now, finished_at=now)
    same = {name: getattr(first, name) for name in ("team", "project", "model", "dataset_version", "code_version")}
    needs = ({"gpus": 0}, {}, {"gpus": 2, "cpu_will_do": False}, {"labels": ["none-has-it"]})
    ended = {"started_at": now - timedelta(minutes=9), "finished_at": now, "step": 100}
    runs = [
        Run(
            name=f"{status} {number} {dice.choice(('alpha', 'beta', 'gamma'))}",
            method=dice.choice(("sft", "dpo", "kto")),
            config={"max_steps": dice.choice((0, 100, 1000)), "learning_rate": 1e-5, "adapter": {"type": "lora"}},
            status=status,
            created_by=dice.choice(people),
            priority=dice.choice((0, 0, 0, 1, -1)),
            tags=[f"t{number % 50}"],
            **same,
            **(ended if status == Status.SUCCEEDED else needs[number % 8] if number % 8 < len(needs) else {}),
        )
        for status in (Status.SUCCEEDED, Status.QUEUED)
        for number in range(Run.objects.filter(status=status).count(), size)
    ]
    Run.objects.bulk_create(runs, batch_size=1_000)
    finished = [run for run in runs if run.status == Status.SUCCEEDED]
    series = [MetricSeries(run=run, key="loss", count=100, last=dice.random(), min=0, max=1) for run in finished]
    MetricSeries.objects.bulk_create(series, batch_size=1_000)


# --- pages ------------------------------------------------------------------------------------------------------------


def _pages(member: Any) -> dict[str, Figures]:
    from tests.support.api import ApiClient, browser
    from webapp.accounts.access import Actor
    from webapp.accounts.services import token_create
    from webapp.runs.models import Run, Status, Worker

    client = browser(member)
    api = ApiClient(token_create(actor=Actor(member), name="bench")[1])
    run = _a_waiting_run()
    last, last_waiting = Run.objects.count() // 50, Run.objects.filter(status=Status.QUEUED).count() // 50
    asked: dict[str, Callable[[], Any]] = {
        "Runs page": lambda: client.get("/runs/"),
        "Runs page, the last": lambda: client.get(f"/runs/?page={last}"),
        "Runs page by loss": lambda: client.get("/runs/?sort=loss"),
        "Runs page by name": lambda: client.get("/runs/?sort=name"),
        "Runs page, search": lambda: client.get("/runs/?q=beta+loss<0.4+method:dpo"),
        "Runs page, a query": lambda: client.get(f"/runs/?q={QUERY}"),
        "Runs page by a setting": lambda: client.get("/runs/?sort=config.max_steps&column=loss.min"),
        "Runs page, one status and tag": lambda: client.get("/runs/?status=succeeded&tag=t7"),
        "GET /runs": lambda: api.get("/runs"),
        "Queue page": lambda: client.get("/runs/queue"),
        "Queue page, the last": lambda: client.get(f"/runs/queue?page={last_waiting}"),
        "GET /queue": lambda: api.get("/queue"),
        "Page of a waiting run": lambda: client.get(f"/runs/{run.pk}"),
    }
    found = {}
    for name, ask in asked.items():
        Worker.objects.update(heartbeat_at=_now())
        found[name] = _timed(ask)
    return found


def _page_row(name: str, found: dict[int, Figures]) -> Row:
    counted_in = "waiting" if "ueue" in name or "waiting" in name else "runs"
    growth = {f"{size * (1 + (counted_in == 'runs')):,} {counted_in}": one.p95 for size, one in found.items()}
    here = found[WAITING]
    queries = sorted({one.queries for one in found.values()})
    note = f"median {here.median:.1f}, of that {here.python:.1f} in Python; queries {' or '.join(map(str, queries))}"
    title = f"{name}, {WAITING * (1 + (counted_in == 'runs')):,} {counted_in}: server time p95"
    ok = here.p95 < PAGE_BAR_MS and len(queries) == 1
    return Row(title, here.p95, "ms", f"under {PAGE_BAR_MS}, queries constant", ok, note, growth)


def _a_waiting_run() -> Any:
    from webapp.runs.models import Run, Status

    return Run.objects.filter(status=Status.QUEUED).order_by("-id").first()


def _now() -> Any:
    from django.utils import timezone

    return timezone.now()


def _timed(ask: Callable[[], Any]) -> Figures:
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
    return Figures(_p95(times), statistics.median(times), worked, count)


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims(count: int, turns: int) -> Figures:
    """In each round all workers claim at the same moment; what they have taken ends before the next."""
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    start = context.Barrier(count)
    workers = [context.Process(target=_claim, args=(f"w{number}", turns, start, results)) for number in range(count)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    times = [one for answer in answers for one in answer["times"]]
    runs = [run for answer in answers for run in answer["runs"]]
    assert len(runs) == len(set(runs)) == count * turns, "a run was claimed twice"
    worked = statistics.mean(answer["worked"] for answer in answers)
    return Figures(_p95(times), statistics.median(times), worked, answers[0]["queries"])


def _claim_row(found: dict[tuple[int, int], Figures]) -> Row:
    here = found[WORKERS, WAITING]
    growth = {f"{workers} at once, {size:,} waiting": one.p95 for (workers, size), one in found.items()}
    note = (
        f"median {here.median:.1f}; each takes {here.python:.1f} in Python, about as long in Postgres, and"
        f" {os.cpu_count()} cores have to serve {WORKERS} of both; queries {here.queries}"
    )
    name = f"Claim, {WORKERS} workers at once, {WAITING:,} waiting: p95"
    return Row(name, here.p95, "ms", f"under {CLAIM_BAR_MS}", here.p95 < CLAIM_BAR_MS, note, growth)


def _claim(name: str, turns: int, start: Any, results: Any) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from polm_core.run_dir import Outcome, Result
    from webapp.runs.claims import run_claim
    from webapp.runs.leases import run_finish
    from webapp.runs.models import Worker

    seen = 0
    worker = Worker.objects.get(name=name)
    times, runs, worked = [], [], 0.0
    for turn in range(turns):
        start.wait()
        with CaptureQueriesContext(connection) if turn == 0 else nullcontext([]) as queries:
            started, cpu = time.perf_counter(), time.process_time()
            claim = run_claim(worker=worker)
            times.append(1000 * (time.perf_counter() - started))
            worked += 1000 * (time.process_time() - cpu) / turns
        seen = len(queries) or seen
        assert claim is not None
        runs.append(claim.run_id)
        start.wait()
        run_finish(claim, Result(outcome=Outcome.SUCCEEDED))
    results.put({"times": times, "runs": runs, "queries": seen, "worked": worked})
    connection.close()


def _p95(times: list[float]) -> float:
    return round(statistics.quantiles(times, n=20)[-1], 1)
