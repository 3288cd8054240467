"""Stopping trials that are hopeless, by the median rule of Google Vizier (Golovin et al. 2017), as optuna has it.

A run is stopped when the best it has reached so far is worse than what half of those that went to their end had at the
same step. It has to have gone a quarter of its way, and five others to their end: what is worse at first may be slow.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress

import numpy as np
import numpy.typing as npt
from django.db import transaction
from django.db.models import Count, F, Q

from webapp.accounts.access import Actor
from webapp.errors import Conflict
from webapp.metrics.selectors import SeriesView, series_read_many
from webapp.runs.models import Status
from webapp.runs.services import run_stop
from webapp.sweeps.models import Sweep, Trial, TrialState
from webapp.ui.templatetags.studio import number

FINISHED_BEFORE = 5
WARM_UP = 0.25
# A curve is looked at in at most so many places.
POINTS = 200

Curve = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


def prune_hopeless() -> list[Trial]:
    """Stop what is hopeless in any sweep; returns these trials. One query where there is nothing to look at."""
    by_metric: dict[str, list[Trial]] = defaultdict(list)
    for trial in _candidates():
        by_metric[trial.sweep.metric].append(trial)
    stopped = []
    for metric, trials in by_metric.items():
        done = _done({trial.sweep_id for trial in trials})
        runs = {trial.run_id for trial in (*trials, *(one for few in done.values() for one in few)) if trial.run_id}
        views = series_read_many(runs, metric, points=POINTS)
        for trial in trials:
            reason = _hopeless(trial, done[trial.sweep_id], views)
            if reason and _stop(trial, reason):
                stopped.append(trial)
    return stopped


def _candidates() -> list[Trial]:
    """Trials that are past their warm-up, in sweeps that prune and have enough others to judge by."""
    done = Count("trials", filter=Q(trials__state=TrialState.DONE, trials__run__isnull=False))
    sweeps = Sweep.objects.filter(prune=True, stopped_at=None, carried_by__isnull=False)
    judging = sweeps.annotate(done=done).filter(done__gte=FINISHED_BEFORE).values("pk")
    running = Trial.objects.filter(sweep__in=judging, state=TrialState.RUNNING, run__status=Status.RUNNING)
    ahead = running.filter(run__total_steps__gt=0, run__step__gte=WARM_UP * F("run__total_steps"))
    return list(ahead.select_related("sweep__carried_by", "run").order_by("pk"))


def _done(sweeps: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, list[Trial]]:
    found: dict[uuid.UUID, list[Trial]] = defaultdict(list)
    for trial in Trial.objects.filter(sweep__in=sweeps, state=TrialState.DONE, run__isnull=False).order_by("pk"):
        found[trial.sweep_id].append(trial)
    return found


def _hopeless(trial: Trial, done: Iterable[Trial], views: Mapping[uuid.UUID, SeriesView]) -> str:
    """Why the trial is to be stopped; empty while it may still win."""
    steps, values = _curve(trial, views)
    if not len(steps):
        return ""
    step = int(steps[-1])
    best = values.min() if trial.sweep.lower_is_better else values.max()
    others = [value for one in done if (value := _at(_curve(one, views), step)) is not None]
    if len(others) < FINISHED_BEFORE:
        return ""
    median = float(np.median(others))
    if not trial.sweep.better(median, float(best)):
        return ""
    return (
        f"At step {step:,} the best {trial.sweep.metric} was {number(float(best))}, worse than {number(median)}, "
        f"the median of {len(others)} trials at that step."
    )


def _curve(trial: Trial, views: Mapping[uuid.UUID, SeriesView]) -> Curve:
    """Its finite values with their steps."""
    view = views.get(trial.run_id) if trial.run_id else None
    if view is None:
        return np.zeros(0, "i8"), np.zeros(0)
    known = np.isfinite(view.columns.mean)
    return view.columns.step[known], view.columns.mean[known]


def _at(curve: Curve, step: int) -> float | None:
    """The newest value up to a step."""
    steps, values = curve
    place = int(np.searchsorted(steps, step, side="right"))
    return float(values[place - 1]) if place else None


def _stop(trial: Trial, reason: str) -> bool:
    """Stop its run, unless it has ended meanwhile."""
    carrier = trial.sweep.carried_by
    if carrier is None or trial.run is None:
        return False
    with suppress(Conflict), transaction.atomic():
        Trial.objects.filter(pk=trial.pk).update(reason=reason[:300])
        run_stop(actor=Actor(carrier), run=trial.run)
        return True
    return False
