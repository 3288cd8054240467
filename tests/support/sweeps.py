"""Sweeps whose runs end as a test says, through what workers call."""

from collections.abc import Callable, Mapping
from typing import Any

from polm_core.run_dir import Outcome
from tests.support import factories
from tests.support.checkpoints import make_base_model
from tests.support.pipelines import finish
from webapp.accounts.access import Actor
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Run, Status
from webapp.sweeps.models import Sweep, Trial, TrialState
from webapp.sweeps.selectors import sweep_get
from webapp.sweeps.services import sweep_advance, sweep_create

LEARNING_RATES = {"learning_rate": {"min": 1e-5, "max": 1e-2, "log": True}}
Objective = Callable[[Mapping[str, Any]], float]


def make_sweep(actor: Actor, mark: str = "", **values: Any) -> Sweep:
    """A sweep of sft by held-out loss, with its first trials begun."""
    asked = {"method": "sft", "space": LEARNING_RATES, "metric": "eval/loss", "max_trials": 8, **values}
    if "model" not in asked:
        asked["model"] = str(make_base_model(actor.current_team, f"{mark}swept").pk)
    if "dataset" not in asked:
        asked["dataset"] = factories.make_version(actor, f"{mark}swept rows").dataset_id
    sweep = sweep_create(actor=actor, **asked)
    sweep_advance(sweep.pk)
    return sweep_get(actor, sweep.pk)


def trials(sweep: Sweep) -> list[Trial]:
    """Its trials as they are now, in order."""
    return list(sweep.trials.select_related("run").order_by("number"))


def running(sweep: Sweep) -> list[Trial]:
    return [trial for trial in trials(sweep) if trial.state == TrialState.RUNNING]


def log(run: Run, values: Mapping[int, float], key: str = "eval/loss", total: int = 0) -> None:
    """Have a run that is at work log values by step."""
    lines = [MetricLine(step, 1_790_000_000.0 + step, {key: value}) for step, value in values.items()]
    MetricWriter(run.pk).append(lines)
    Run.objects.filter(pk=run.pk).update(status=Status.RUNNING, step=max(values), total_steps=total or max(values))


def end(trial: Trial, value: float | None = None, outcome: Outcome = Outcome.SUCCEEDED, **error: Any) -> None:
    """End a trial's run with that last value, and have its sweep go on."""
    assert trial.run is not None
    run = Run.objects.get(pk=trial.run.pk)
    if value is not None:
        log(run, {10: value})
    finish(run, outcome, checkpoint=False, **error)
    sweep_advance(trial.sweep_id)


def carry_out(sweep: Sweep, objective: Objective) -> None:
    """Have every trial end, the oldest first, with what the objective says of its settings."""
    while at_work := running(sweep):
        end(at_work[0], objective(at_work[0].params))
