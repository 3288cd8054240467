"""The tasks, thin: each names the function that does the work. A message carries at most an id."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from celery import Celery
from django.db import close_old_connections, connections

from webapp import tasks as names
from webapp.runs.claims import run_claim
from webapp.runs.projects import project_retain
from webapp.sweeps.pruning import prune_hopeless
from webapp.sweeps.services import sweep_advance
from workers import alerts, datasets, diffs, exports, indexes, models, playground, preflight, presence, reaper, trials
from workers.supervisor import Supervisor

REAP = "studio.reap"
ALERTS_CHECK = "alerts.check"
SWEEPS_PRUNE = "sweeps.prune"
# What the scheduler sends, every so many seconds.
PERIODIC = {REAP: 3.0, ALERTS_CHECK: 15.0, SWEEPS_PRUNE: 15.0}


def register(app: Celery) -> None:
    """Add every task to the Celery app, each with the queue it belongs to."""
    for name, function in (
        (names.RUNS_WAKE, work_on_runs),
        (names.DATASETS_PROCESS, datasets.process),
        (names.DATASETS_COMPARE, diffs.compare),
        (names.MODELS_PREPARE, models.prepare),
        (names.PREFLIGHT, preflight.answer),
        (names.GENERATE, playground.generate),
        (names.PROJECT_RETAIN, project_retain),
        (names.REWARDS_TRY, trials.try_rewards),
        (names.EXPORT, exports.work),
        (names.DOCUMENTS_INDEX, indexes.build),
        (names.DOCUMENTS_FIND, indexes.look_up),
        (names.ALERTS_DELIVER, alerts.deliver),
        (ALERTS_CHECK, alerts.check),
        (names.SWEEP_ADVANCE, sweep_advance),
        (SWEEPS_PRUNE, prune_hopeless),
        (REAP, reaper.reap),
    ):
        app.task(name=name, queue=names.QUEUE_OF.get(name, "light"))(_with_connections(function))


def work_on_runs() -> None:
    """Claim and supervise runs, one after another, until there is none for this worker."""
    worker = presence.current()
    while not presence.shutting_down.is_set():
        claim = run_claim(worker=worker)
        if claim is None:
            return
        # Another thread looks whether there is room for one more.
        names.send(names.RUNS_WAKE, queue=names.runs_queue_of(worker.host))
        Supervisor(claim, worker, presence.shutting_down).run()


def _with_connections(function: Callable[..., Any]) -> Callable[..., None]:
    """Threads of the pool live long: give each task fresh database connections and close them after it."""

    @wraps(function)
    def run(*args: Any) -> None:
        close_old_connections()
        try:
            function(*args)
        finally:
            connections.close_all()

    return run
