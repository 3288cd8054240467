"""What people do to sweeps, and how they go on when a run ends.

How a trial ended is noted in the transaction in which its run does. The next ones are begun by a light worker under the
sweep's row, from what the rows say: a wake-up that is lost or comes twice does no harm.
"""

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from polm_core.errors import ConfigError, PolmError
from webapp import tasks
from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.live.notify import publish
from webapp.metrics.models import MetricSeries
from webapp.runs.models import Run, Status
from webapp.runs.services import project_for, run_create, run_resume, run_stop
from webapp.sweeps.choosing import next_params
from webapp.sweeps.models import Sweep, SweepState, Trial, TrialState
from webapp.sweeps.requests import SweepRequest, run_values
from webapp.sweeps.selectors import sweeps_counted
from webapp.sweeps.space import with_params

MAX_NAME = 150
# As many that fail at the start, with none that does not, end a sweep.
FAILURES = 3


def sweep_create(
    *,
    actor: Actor,
    space: Mapping[str, Any],
    metric: str,
    direction: str = "min",
    strategy: str = "tpe",
    max_trials: int | None = None,
    parallel: int = 1,
    prune: bool = False,
    project: str | None = None,
    name: str = "",
    priority: int = 0,
    labels: Iterable[str] = (),
    gpu_memory_gb: int = 0,
    tags: Iterable[str] = (),
    request_id: str = "",
    **run: Any,
) -> Sweep:
    """Start a sweep; `run` is what `RunRequest` takes. The same `request_id` twice in a team gives the same sweep."""
    request = SweepRequest(
        actor,
        run=run,
        space=space,
        metric=metric,
        direction=direction,
        strategy=strategy,
        max_trials=max_trials,
        parallel=parallel,
        placing={"priority": priority, "labels": labels, "gpu_memory_gb": gpu_memory_gb, "tags": tags},
    )
    team = request.team
    if request_id and (known := Sweep.objects.filter(team=team, request_id=request_id).first()):
        return known
    try:
        with transaction.atomic():
            sweep = Sweep.objects.create(
                team=team,
                project=project_for(actor=actor, team=team, ref=project),
                name=_clean_name(name) or _default_name(team.pk, request.method.slug),
                method=request.method.slug,
                request=request.run,
                space=request.space.model_dump(mode="json", exclude_none=True),
                placing=request.placing,
                metric=request.metric,
                direction=request.direction,
                strategy=request.strategy,
                max_trials=request.max_trials,
                parallel=parallel,
                prune=prune,
                request_id=request_id,
                created_by=actor.user,
                carried_by=actor.user,
            )
            audit(actor=actor, team_id=team.pk, verb="sweep.create", target=sweep, detail={"method": sweep.method})
            _announce(sweep)
    except IntegrityError:
        if not request_id:
            raise
        return Sweep.objects.get(team=team, request_id=request_id)
    return sweep


def sweep_stop(*, actor: Actor, sweep: Sweep) -> None:
    """Stop what runs of it, keeping final checkpoints, and begin nothing further. Raises Conflict when it is over."""
    actor.require(sweep.team_id, Role.MEMBER, "sweep")
    with transaction.atomic():
        sweep = _held(sweep.pk)
        if sweep.state != SweepState.RUNNING and not (sweep.state == SweepState.FAILED and sweep.live):
            raise Conflict(f"The sweep is {sweep.state}.", advice="This is possible while it runs.")
        sweep.stopped_at = timezone.now()
        sweep.save(update_fields=["stopped_at"])
        for run in Run.objects.filter(trial__sweep=sweep, trial__state=TrialState.RUNNING).order_by("pk"):
            # Meanwhile it may have ended, or somebody has stopped it.
            with suppress(Conflict):
                run_stop(actor=actor, run=run)
        audit(actor=actor, team_id=sweep.team_id, verb="sweep.stop", target=sweep)
        _announce(sweep)


def sweep_resume(*, actor: Actor, sweep: Sweep) -> None:
    """Have it go on: with the runs that were stopped with it first. Raises Conflict when there is nothing to do."""
    actor.require(sweep.team_id, Role.MEMBER, "sweep")
    with transaction.atomic():
        sweep = _held(sweep.pk)
        if sweep.state not in (SweepState.STOPPED, SweepState.FAILED):
            advice = (
                "Wait for its runs to end." if sweep.state == SweepState.STOPPING else "Only a stopped one goes on."
            )
            raise Conflict(f"The sweep is {sweep.state}.", advice=advice)
        if sweep.made >= sweep.max_trials and not sweep.trials.filter(state=TrialState.HELD).exists():
            raise Conflict("All its trials have been made.", advice="Start another sweep.")
        sweep.stopped_at, sweep.error = None, None
        sweep.begun_after, sweep.carried_by = sweep.made, actor.user
        sweep.save(update_fields=["stopped_at", "error", "begun_after", "carried_by"])
        audit(actor=actor, team_id=sweep.team_id, verb="sweep.resume", target=sweep)
        _announce(sweep)


def sweep_delete(*, actor: Actor, sweep: Sweep) -> None:
    """Forget a sweep that is at rest; its runs stay. Raises Conflict while one of them waits or runs."""
    actor.require(sweep.team_id, Role.MEMBER, "sweep")
    if sweep.created_by_id != actor.user.pk and not actor.holds(Role.ADMIN, sweep.team_id):
        raise Forbidden("The sweep is somebody else's.", advice="Ask them or an admin of the team to delete it.")
    with transaction.atomic():
        sweep = _held(sweep.pk)
        if sweep.live or sweep.state == SweepState.RUNNING:
            raise Conflict(f"The sweep is {sweep.state}.", advice="Stop it first.")
        audit(actor=actor, team_id=sweep.team_id, verb="sweep.delete", target=sweep, detail={"name": sweep.name})
        _announce(sweep)
        sweep.delete()


# --- going on ---------------------------------------------------------------------------------------------------------
def trial_follow(*, run: Run, **_: Any) -> None:
    """A run has moved, and its row is held: where it is a trial, note how that stands, and have its sweep go on."""
    trial = Trial.objects.select_related("sweep").filter(run=run).first()
    if trial is None:
        return
    trial.state, trial.error, trial.value = TrialState.RUNNING, None, None
    if run.status == Status.SUCCEEDED:
        _judge(trial)
    elif run.status == Status.FAILED:
        trial.state, trial.error = TrialState.FAILED, run.error
    elif run.status == Status.STOPPED:
        stopped = TrialState.HELD if trial.sweep.stopped_at is not None else TrialState.STOPPED
        trial.state = TrialState.PRUNED if trial.reason else stopped
        trial.value = _last(trial)
    elif run.status == Status.QUEUED:
        trial.reason = ""  # somebody has it go on all the same
    trial.save(update_fields=["state", "error", "value", "reason"])
    _announce(trial.sweep)


def sweep_advance(sweep_id: str | uuid.UUID) -> None:
    """Begin as many trials as there is room for; what keeps one from being made is noted with it."""
    with transaction.atomic(), suppress(NotFound):
        sweep = _held(sweep_id)
        # The run of one that was to go on may have been deleted.
        gone = sweep.trials.filter(state__in=(TrialState.RUNNING, TrialState.HELD), run=None)
        moved = gone.update(state=TrialState.STOPPED)
        trials = list(sweep.trials.select_related("run").order_by("number"))
        live = sum(trial.state == TrialState.RUNNING for trial in trials)
        if sweep.stopped_at is None and sweep.error is None:
            moved += _fill(sweep, trials, live)
        if moved:
            publish(f"team:{sweep.team_id}", "status", {"sweep": str(sweep.pk)})


def _fill(sweep: Sweep, trials: list[Trial], live: int) -> int:
    """Begin trials until enough are at work; returns how many things have changed."""
    moved = 0
    held = [trial for trial in trials if trial.state == TrialState.HELD]
    while live < sweep.parallel and (held or len(trials) < sweep.max_trials):
        moved += 1
        try:
            _refuse_failures(sweep, trials)
            actor = _carrier(sweep)
            if held:
                _go_on(actor, held.pop(0))
            else:
                trials.append(_begin(actor, sweep, trials))
        except PolmError as error:
            sweep.error = error.as_dict()
            sweep.save(update_fields=["error"])
            break
        live = sum(trial.state == TrialState.RUNNING for trial in trials)
    return moved


def _begin(actor: Actor, sweep: Sweep, trials: Sequence[Trial]) -> Trial:
    """The next trial with its run, or with why its settings do not go together. Raises what `run_create` does."""
    trial = Trial(sweep=sweep, number=len(trials) + 1, params=next_params(sweep, trials))
    request = run_values(sweep.request)
    request["config"] = with_params(request["config"], trial.params)
    try:
        with transaction.atomic():
            trial.run = run_create(
                actor=actor,
                **request,
                **sweep.placing,
                project=str(sweep.project_id),
                name=f"{sweep.name} {trial.number}",
            )
    except ConfigError as error:
        trial.state, trial.error = TrialState.FAILED, error.as_dict()
    trial.save(force_insert=True)
    return trial


def _go_on(actor: Actor, trial: Trial) -> None:
    """Queue the run of a held trial again, unless somebody has done so meanwhile."""
    if trial.run is not None:
        with suppress(Conflict):
            run_resume(actor=actor, run=trial.run)
    trial.refresh_from_db()
    if trial.state == TrialState.HELD:
        trial.state = TrialState.STOPPED
        trial.save(update_fields=["state"])


def _refuse_failures(sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Raise Conflict when all that have ended since it went on last have failed, and they are `FAILURES` or more."""
    recent = trials[sweep.begun_after :]
    failed = [trial for trial in recent if trial.state == TrialState.FAILED]
    if len(failed) < FAILURES or any(trial.state in (TrialState.DONE, TrialState.PRUNED) for trial in recent):
        return
    last = failed[-1].error or {}
    raise Conflict(
        f"The first {len(failed)} trials have failed: {last.get('message', '')}",
        code="trials_failed",
        advice=last.get("advice", ""),
    )


def _judge(trial: Trial) -> None:
    """Note what a run that succeeded is worth."""
    trial.value = _last(trial)
    trial.state = TrialState.DONE
    if trial.value is None:
        trial.state = TrialState.FAILED
        trial.error = Invalid(
            f"The run has logged no number as {trial.sweep.metric}.",
            code="no_value",
            advice="Its page lists what it has logged: start a sweep by one of these.",
        ).as_dict()


def _last(trial: Trial) -> float | None:
    """The metric as the run has logged it last; None for nothing, and for what is no number."""
    value = MetricSeries.objects.filter(run=trial.run_id, key=trial.sweep.metric).values_list("last", flat=True).first()
    return value if value is not None and math.isfinite(value) else None


def _carrier(sweep: Sweep) -> Actor:
    if sweep.carried_by is None:
        raise Conflict("Whoever started the sweep has left the studio.", advice="Have it go on to carry it yourself.")
    return Actor(sweep.carried_by)


# --- helpers ----------------------------------------------------------------------------------------------------------
def _held(pk: str | uuid.UUID) -> Sweep:
    """The sweep, its row held, with its trials counted after that. Raises NotFound for one that has been deleted."""
    if Sweep.objects.select_for_update().only("pk").filter(pk=pk).first() is None:
        raise NotFound("There is no such sweep.")
    return sweeps_counted().select_related("carried_by").get(pk=pk)


def _announce(sweep: Sweep) -> None:
    publish(f"team:{sweep.team_id}", "status", {"sweep": str(sweep.pk)})
    tasks.wake(tasks.SWEEP_ADVANCE, sweep.pk)


def _clean_name(name: str) -> str:
    name = " ".join(name.split())
    if len(name) > MAX_NAME:
        raise Invalid("The name is too long.", fields={"name": [f"must have at most {MAX_NAME} characters"]})
    return name


def _default_name(team_id: uuid.UUID, method: str) -> str:
    return f"{method}-sweep-{Sweep.objects.filter(team=team_id, method=method).count() + 1}"
