"""The sweeps of a team, and a sweep's page, which follows its runs live."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pages.context import Frame
from webapp.pages.runs.inputs import storable, whole_number
from webapp.pagination import page
from webapp.runs.selectors import seconds_spent
from webapp.sweeps import selectors, services
from webapp.sweeps.models import Sweep, SweepState, Trial, TrialState
from webapp.sweeps.space import Space

SWEEPS = 25
TRIALS = 50
# Of so many runs that are at work each step is told as it comes; of the others when one ends.
FOLLOWED = 20


@dataclass(frozen=True)
class TrialEntry:
    """A trial as the table shows it; `values` are those of the settings that vary, in their order."""

    trial: Trial
    values: list[Any]
    seconds: float | None
    is_best: bool


@dataclass(frozen=True)
class Heading:
    """The head of a column that sorts."""

    title: str
    query: str
    order: str
    is_number: bool = True


@requires(Role.VIEWER)
@require_safe
def sweeps(request: StudioRequest) -> HttpResponse:
    """The team's sweeps, newest first, or those of the project in the top bar; as a fragment, the table alone."""
    team = request.actor.current_team
    found = selectors.sweeps_visible(request.actor).filter(team=team)
    project = Frame(request).project
    if project is not None:
        found = found.filter(project=project)
    items, next_cursor = page(found, SWEEPS, storable(request.GET).get("cursor") or None)
    best = selectors.best_trials(items)
    context = {
        "sweeps": [(one, best.get(one.pk)) for one in items],
        "next_cursor": next_cursor,
        "project": project,
        "may_launch": request.actor.holds(Role.MEMBER, team.pk),
    }
    return render(request, "sweeps/_sweeps.html" if request.htmx else "sweeps/sweeps.html", context)


@requires(Role.VIEWER)
@require_safe
def sweep(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A sweep's page; as a fragment, what changes while it runs."""
    found = selectors.sweep_get(request.actor, pk)
    asked = storable(request.GET)
    trials, space = selectors.trials_of(found), found.varies
    best = selectors.best_of(found, trials)
    may_act = request.actor.holds(Role.MEMBER, found.team_id)
    ended = sum(trial.state not in (TrialState.RUNNING, TrialState.HELD) for trial in trials)
    sort = asked.get("sort", "")
    entries = [
        TrialEntry(trial, [trial.params.get(path) for path in space.paths], _seconds(trial), trial is best)
        for trial in _sorted(trials, sort)
    ]
    last = max(0, len(entries) - 1) // TRIALS + 1
    number = min(max(1, whole_number(asked.get("page", "1")) or 1), last)
    stoppable = found.state == SweepState.RUNNING or (found.state == SweepState.FAILED and found.live > 0)
    left = found.made < found.max_trials or any(trial.state == TrialState.HELD for trial in trials)
    context = {
        "sweep": found,
        "method": found.known_method,
        "varies": space.words(),
        "best": best,
        "ended": ended,
        "followed": [trial.run_id for trial in trials if trial.state == TrialState.RUNNING and trial.run_id][:FOLLOWED],
        "rows": sum(trial.state == TrialState.DONE for trial in trials),
        "importances": selectors.importances(trials),
        "headings": _headings(space, found, sort),
        "entries": entries[(number - 1) * TRIALS : number * TRIALS],
        "number": number,
        "last": last,
        "sort": sort,
        "data": _drawn(found, space, trials),
        "may_stop": may_act and stoppable,
        "may_resume": may_act and left and found.state in (SweepState.STOPPED, SweepState.FAILED),
        "may_delete": may_act and not found.live and found.state != SweepState.RUNNING,
    }
    return render(request, "sweeps/_sweep.html" if request.htmx else "sweeps/sweep.html", context)


@requires(Role.MEMBER)
@require_POST
def stop(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Stop what runs of it."""
    return _acted(request, pk, services.sweep_stop)


@requires(Role.MEMBER)
@require_POST
def resume(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Have it go on."""
    return _acted(request, pk, services.sweep_resume)


@requires(Role.MEMBER)
@require_POST
def delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Forget the sweep; its runs stay."""
    found = selectors.sweep_get(request.actor, pk, Role.MEMBER)
    services.sweep_delete(actor=request.actor, sweep=found)
    messages.success(request, f"{found.name} is deleted; its runs are kept.")
    return redirect("sweeps")


def _acted(request: StudioRequest, pk: uuid.UUID, act: Callable[..., None]) -> HttpResponse:
    act(actor=request.actor, sweep=selectors.sweep_get(request.actor, pk, Role.MEMBER))
    return redirect("sweep", pk)


def _seconds(trial: Trial) -> float | None:
    return seconds_spent(trial.run) if trial.run else None


def _sorted(trials: list[Trial], sort: str) -> list[Trial]:
    """By a column, the other way round with a minus before it; what has no value there comes last."""
    key = sort.removeprefix("-")
    of: Callable[[Trial], Any] = {
        "value": lambda trial: trial.value,
        "state": lambda trial: trial.state,
        "time": _seconds,
    }.get(key, lambda trial: trial.params.get(key))
    known = [trial for trial in trials if of(trial) is not None]
    if not known:
        return trials[::-1] if sort == "-number" else trials
    are_numbers = all(isinstance(of(trial), int | float) for trial in known)
    known.sort(key=of if are_numbers else lambda trial: str(of(trial)), reverse=sort.startswith("-"))
    return [*known, *(trial for trial in trials if of(trial) is None)]


def _headings(space: Space, sweep: Sweep, sort: str) -> list[Heading]:
    columns = [("number", "Trial"), *((path, path) for path in space.paths)]
    columns += [("value", sweep.metric), ("state", "State"), ("time", "Took")]
    found = []
    for key, title in columns:
        query = f"-{key}" if sort == key or (key == "number" and not sort) else key
        order = {key: "ascending", f"-{key}": "descending"}.get(sort or "number", "")
        found.append(Heading(title, query, order, is_number=key not in ("number", "state")))
    return found


def _drawn(sweep: Sweep, space: Space, trials: list[Trial]) -> dict[str, Any]:
    """What the drawings are made of."""
    return {
        "metric": sweep.metric,
        "lower": sweep.lower_is_better,
        "axes": [{"path": path} for path in space.paths],
        "trials": [
            {
                "number": trial.number,
                "params": trial.params,
                "value": trial.value,
                "state": trial.state,
            }
            for trial in trials
            if trial.value is not None
        ],
    }
