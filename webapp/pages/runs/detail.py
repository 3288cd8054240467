"""A run's page and the fragments on it."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from polm_core import catalogue
from polm_core.method import Method
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import NotFound
from webapp.pages.runs.health import advice_for
from webapp.pages.runs.listing import back
from webapp.runs import selectors, services
from webapp.runs.api import config_yaml
from webapp.runs.models import ACTIVE, FINISHED, Run, RunLog, Status

SAMPLES = 30
LOG_LINES = 1_000
CHECKPOINTS = 200
_ACTIONS: dict[str, Callable[..., Run]] = {
    "stop": services.run_stop,
    "pause": services.run_pause,
    "resume": services.run_resume,
}


@requires(Role.VIEWER)
@require_safe
def run(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A run's page; as a fragment, its head, which follows the run live."""
    found = selectors.run_get(request.actor, pk)
    context = _head(request, found)
    if request.htmx:
        return render(request, "runs/_head.html", context)
    method = _method_of(found)
    context |= {
        "method": method,
        "charts": method.charts if method else (),
        "config_yaml": yaml.safe_dump(found.config, sort_keys=False, allow_unicode=True),
        "config_diff": _difference(found.parent.config, found.config) if found.parent else [],
        "children": found.children.order_by("-id")[:20],
        "checkpoint_count": found.run_checkpoints.count(),
    }
    return render(request, "runs/run.html", context)


def _head(request: StudioRequest, run: Run) -> dict[str, Any]:
    may_act = request.actor.holds(Role.MEMBER, run.team_id)
    return {
        "run": run,
        "eta": selectors.eta_seconds(run),
        "seconds": selectors.seconds_spent(run),
        "active": run.status in ACTIVE,
        "may_stop": may_act and run.status not in (*FINISHED, Status.STOPPING),
        "may_pause": may_act and run.status in (Status.QUEUED, Status.STARTING, Status.RUNNING),
        "may_resume": may_act and run.status in (Status.PAUSED, Status.STOPPED, Status.FAILED),
        "may_edit": may_act,
        "may_delete": may_act and run.status in (*FINISHED, Status.PAUSED, Status.QUEUED),
        "waiting": selectors.waiting_of(run) if run.status == Status.QUEUED else None,
        "advice": advice_for(run),
    }


@requires(Role.MEMBER)
@require_POST
def action(request: StudioRequest, pk: uuid.UUID, action: str) -> HttpResponse:
    """Stop, pause or resume."""
    act = _ACTIONS.get(action)
    if act is None:
        raise NotFound("There is no such action.")
    act(actor=request.actor, run=selectors.run_get(request.actor, pk, Role.MEMBER))
    if request.htmx:
        return render(request, "runs/_head.html", _head(request, selectors.run_get(request.actor, pk)))
    return redirect(back(request, reverse("run", args=[pk])))


@requires(Role.MEMBER)
@require_POST
def edit(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Name, notes and tags."""
    services.run_update(
        actor=request.actor,
        run=selectors.run_get(request.actor, pk, Role.MEMBER),
        name=request.POST.get("name"),
        notes=request.POST.get("notes"),
        tags=request.POST["tags"].split(",") if "tags" in request.POST else None,
    )
    messages.success(request, "Saved.")
    return redirect("run", pk)


@requires(Role.MEMBER)
@require_POST
def delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.run_get(request.actor, pk, Role.MEMBER)
    services.run_delete(actor=request.actor, run=found)
    messages.success(request, f"{found.name} is deleted.")
    return redirect("runs")


@requires(Role.VIEWER)
@require_safe
def samples(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: what the model generated on held-out prompts at one step, beside what it said at first."""
    found = selectors.run_get(request.actor, pk)
    steps = selectors.sample_steps(found)
    asked = request.GET.get("step", "")
    step = int(asked) if asked.isdigit() else (steps[-1] if steps else None)
    first = steps[0] if steps else None
    before = {one.prompt: one.completion for one in selectors.run_samples(found, step=first)[:SAMPLES]}
    shown = selectors.run_samples(found, step=step)[:SAMPLES] if step is not None else []
    context = {
        "run": found,
        "steps": steps,
        "step": step,
        "first_step": first,
        "pinned": asked.isdigit(),
        "samples": [(one, before.get(one.prompt, "") if step != first else "") for one in shown],
    }
    return render(request, "runs/_samples.html", context)


@requires(Role.VIEWER)
@require_safe
def log(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: the end of the log, or those of its lines that hold a word."""
    found = selectors.run_get(request.actor, pk)
    text, _ = selectors.run_log(found, tail=LOG_LINES)
    word = request.GET.get("q", "").strip()
    if word:
        text = "".join(line for line in text.splitlines(keepends=True) if word.lower() in line.lower())
    return render(request, "runs/_log.html", {"run": found, "text": text, "word": word})


@requires(Role.VIEWER)
@require_safe
def log_file(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The whole log as a file; what is kept of it is bounded."""
    found = selectors.run_get(request.actor, pk)
    pieces = RunLog.objects.filter(run=found).order_by("offset").values_list("text", flat=True)
    headers = {"Content-Disposition": f'attachment; filename="run-{found.pk}.txt"'}
    return HttpResponse("".join(pieces), content_type="text/plain; charset=utf-8", headers=headers)


@requires(Role.VIEWER)
@require_safe
def config_file(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The settings as `python -m polm_core run` takes them."""
    found = selectors.run_get(request.actor, pk)
    headers = {"Content-Disposition": f'attachment; filename="run-{found.pk}.yaml"'}
    return HttpResponse(config_yaml(found), content_type="application/yaml", headers=headers)


@requires(Role.VIEWER)
@require_safe
def checkpoints(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: the stored checkpoints, newest first."""
    found = selectors.run_get(request.actor, pk)
    links = found.run_checkpoints.select_related("checkpoint").order_by("-step")[:CHECKPOINTS]
    return render(request, "runs/_checkpoints.html", {"run": found, "links": links})


def _method_of(run: Run) -> Method | None:
    return next((method for method in catalogue.METHODS if method.slug == run.method), None)


def _difference(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The settings in which two runs differ, by dotted name."""
    old, new = dict(_flat(before)), dict(_flat(after))
    names = sorted(old.keys() | new.keys())
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def _flat(config: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
