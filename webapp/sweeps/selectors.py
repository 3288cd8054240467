"""Reading sweeps: with their trials counted, the best so far, and what has to be woken."""

import uuid
from collections.abc import Collection, Iterable
from typing import Any

from django.db.models import Case, Count, F, Q, QuerySet, When

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.metrics.importance import Importance, importance
from webapp.runs.models import Best
from webapp.sweeps.models import Sweep, Trial, TrialState

# What is woken in one round.
MAX_WOKEN = 100

_LIVE = Q(trials__state=TrialState.RUNNING, trials__run__isnull=False)
_COUNTS = {"made": Count("trials"), "live": Count("trials", filter=_LIVE)}


def sweeps_counted() -> QuerySet[Sweep]:
    """Sweeps with their trials counted, which their state follows from."""
    return Sweep.objects.annotate(**_COUNTS)


def sweeps_visible(actor: Actor) -> QuerySet[Sweep]:
    """The sweeps of the actor's teams, newest first, with what a row of a list shows."""
    visible = sweeps_counted().filter(team__in=actor.team_ids())
    return visible.select_related("project", "created_by").order_by("-id")


def sweep_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> Sweep:
    """The sweep with its trials counted. Raises NotFound or Forbidden."""
    return actor.get(sweeps_visible(actor), pk, role)


def trials_of(sweep: Sweep) -> list[Trial]:
    """Its trials in their order, each with its run; their number is bounded."""
    runs = "run__name", "run__status", "run__step", "run__total_steps", "run__started_at", "run__finished_at"
    fields = ("sweep", "number", "params", "state", "value", "reason", "error", *runs)
    trials = list(sweep.trials.select_related("run").only(*fields).order_by("number"))
    for trial in trials:
        trial.sweep = sweep
    return trials


def best_of(sweep: Sweep, trials: Iterable[Trial]) -> Trial | None:
    """The best of those that went to their end; of equals the first."""
    best = None
    for trial in trials:
        if trial.state != TrialState.DONE or trial.value is None:
            continue
        if best is None or best.value is None or sweep.better(trial.value, best.value):
            best = trial
    return best


def importances(trials: Iterable[Trial]) -> list[Importance]:
    """How much of the metric each setting explains, by the trials that went to their end."""
    done = [trial for trial in trials if trial.state == TrialState.DONE and trial.value is not None]
    paths = sorted({path for trial in done for path in trial.params})
    settings = {path: [trial.params.get(path) for trial in done] for path in paths}
    return importance(settings, [trial.value for trial in done])


def best_trials(sweeps: Collection[Sweep]) -> dict[uuid.UUID, Trial]:
    """The best trial of each of the sweeps that has one, in one query; of equals the first."""
    done = Trial.objects.filter(sweep__in=sweeps, state=TrialState.DONE, value__isnull=False)
    loss = Case(When(sweep__direction=Best.MIN, then=F("value")), default=-F("value"))
    best = done.order_by("sweep_id", loss.asc(), "number").distinct("sweep_id")
    return {trial.sweep_id: trial for trial in best}


def trial_of_run(run_id: uuid.UUID) -> Trial | None:
    """What the run is a trial of, with its sweep."""
    return Trial.objects.select_related("sweep").filter(run=run_id).first()


def sweeps_to_wake() -> list[uuid.UUID]:
    """Sweeps with room for a trial, or with one whose run was deleted, that nothing may have told of it."""
    open_ = sweeps_counted().filter(stopped_at=None, error__isnull=True)
    held = Count("trials", filter=Q(trials__state=TrialState.HELD))
    gone = Count("trials", filter=Q(trials__state=TrialState.RUNNING, trials__run=None))
    waiting = open_.annotate(held=held, gone=gone).filter(
        Q(gone__gt=0) | Q(live__lt=F("parallel")) & (Q(made__lt=F("max_trials")) | Q(held__gt=0))
    )
    return list(waiting.order_by("pk").values_list("pk", flat=True)[:MAX_WOKEN])
