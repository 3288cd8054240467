"""Sweeps over REST."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from ninja import Field, Router, Schema, Status

from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.metrics.api import ImportanceOut
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.runs.api import RunIn
from webapp.sweeps import selectors, services
from webapp.sweeps.models import Sweep, Trial

router = Router(tags=["sweeps"])


class SweepIn(RunIn):
    """What each run is made from, as `POST /runs` takes it, and `space`: for each setting that varies a list of values
    or `{"min", "max", "log", "step"}`. Without `max_trials` a grid tries every combination."""

    space: dict[str, Any]
    metric: str
    direction: Literal["min", "max"] = "min"
    strategy: Literal["grid", "random", "tpe"] = "tpe"
    max_trials: int | None = None
    parallel: int = 1
    prune: bool = False
    project: str | None = None
    name: str = ""
    priority: int = 0
    labels: list[str] = Field(default_factory=list)
    gpu_memory_gb: int = 0
    tags: list[str] = Field(default_factory=list)
    request_id: str = Field("", max_length=100)


class TrialOut(Schema):
    """`value` is the metric as the run logged it last; `reason` says why a trial was pruned or failed."""

    number: int
    params: dict[str, Any]
    state: str
    value: float | None
    run: uuid.UUID | None
    reason: str
    error: dict[str, Any] | None


class SweepOut(Schema):
    id: uuid.UUID
    name: str
    project: str
    method: str
    state: str
    space: dict[str, Any]
    config: dict[str, Any]
    metric: str
    direction: str
    strategy: str
    max_trials: int
    parallel: int
    prune: bool
    trials: int
    running: int
    best: TrialOut | None
    error: dict[str, Any] | None
    created_by: str | None
    created_at: datetime


class SweepsOut(Schema):
    items: list[SweepOut]
    next_cursor: str | None


class TrialsOut(Schema):
    items: list[TrialOut]
    importance: list[ImportanceOut]
    next_cursor: None = None


@router.post("/sweeps", response={201: SweepOut})
def sweep_create(request: StudioRequest, payload: SweepIn) -> Status[dict[str, Any]]:
    """Start a sweep. The same `request_id` twice gives the same one."""
    made = services.sweep_create(actor=request.actor, **payload.dict())
    return Status(201, _one(request, made.pk))


@router.get("/sweeps", response=SweepsOut)
def sweeps(
    request: StudioRequest, project: str = "", limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
) -> dict[str, Any]:
    """Sweeps of the caller's teams, newest first."""
    found = selectors.sweeps_visible(request.actor)
    items, next_cursor = page(found.filter(project__name__iexact=project) if project else found, limit, cursor)
    best = selectors.best_trials(items)
    return {"items": [_sweep(one, best) for one in items], "next_cursor": next_cursor}


@router.get("/sweeps/{sweep_id}", response=SweepOut)
def sweep(request: StudioRequest, sweep_id: str) -> dict[str, Any]:
    """One sweep with its best trial."""
    return _one(request, sweep_id)


@router.get("/sweeps/{sweep_id}/trials", response=TrialsOut)
def trials(request: StudioRequest, sweep_id: str) -> dict[str, Any]:
    """All trials in their order, at most 500, and how much each setting matters by those that went to their end."""
    found = selectors.trials_of(selectors.sweep_get(request.actor, sweep_id))
    return {"items": [_trial(one) for one in found], "importance": selectors.importances(found)}


@router.post("/sweeps/{sweep_id}/stop", response=SweepOut)
def sweep_stop(request: StudioRequest, sweep_id: str) -> dict[str, Any]:
    """Stop the runs that wait or run, keeping final checkpoints, and begin no further one."""
    found = selectors.sweep_get(request.actor, sweep_id, Role.MEMBER)
    services.sweep_stop(actor=request.actor, sweep=found)
    return _one(request, sweep_id)


@router.post("/sweeps/{sweep_id}/resume", response=SweepOut)
def sweep_resume(request: StudioRequest, sweep_id: str) -> dict[str, Any]:
    """Go on, with the runs that were stopped with the sweep first."""
    found = selectors.sweep_get(request.actor, sweep_id, Role.MEMBER)
    services.sweep_resume(actor=request.actor, sweep=found)
    return _one(request, sweep_id)


@router.delete("/sweeps/{sweep_id}", response={204: None})
def sweep_delete(request: StudioRequest, sweep_id: str) -> Status[None]:
    """Forget a sweep that is at rest; its runs stay."""
    found = selectors.sweep_get(request.actor, sweep_id, Role.MEMBER)
    services.sweep_delete(actor=request.actor, sweep=found)
    return Status(204, None)


def _one(request: StudioRequest, pk: Any) -> dict[str, Any]:
    found = selectors.sweep_get(request.actor, pk)
    return _sweep(found, selectors.best_trials([found]))


def _sweep(sweep: Sweep, best: Mapping[uuid.UUID, Trial]) -> dict[str, Any]:
    own = ("id", "name", "method", "state", "space", "metric", "direction", "strategy", "max_trials", "parallel")
    return {
        **{name: getattr(sweep, name) for name in (*own, "prune", "error", "created_at")},
        "project": sweep.project.name,
        "config": sweep.request["config"],
        "trials": sweep.made,
        "running": sweep.live,
        "best": _trial(best[sweep.pk]) if sweep.pk in best else None,
        "created_by": sweep.created_by.username if sweep.created_by else None,
    }


def _trial(trial: Trial) -> dict[str, Any]:
    own = ("number", "params", "state", "value", "error")
    return {**{name: getattr(trial, name) for name in own}, "run": trial.run_id, "reason": trial.why}
