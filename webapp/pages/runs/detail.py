"""A run's page: its head, which follows the run live, and what people do with the run."""

import uuid
from collections.abc import Callable
from typing import Any

import yaml
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from polm_core.method import Method
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.alerts.selectors import alerts_of_run
from webapp.errors import Invalid, NotFound
from webapp.metrics.health import advice_for
from webapp.metrics.selectors import config_diff
from webapp.pages.lists import back_to
from webapp.pages.runs.figures import Headline, headline_charts, headlines, method_of
from webapp.pages.runs.inputs import storable
from webapp.recipes.selectors import stages_of_runs
from webapp.runs import selectors, services
from webapp.runs.config_files import settings_in_order
from webapp.runs.models import ACTIVE, FINISHED, Run, Status
from webapp.runs.waiting import waiting_of
from webapp.sweeps.selectors import trial_of_run

RELATIVES = 20
_ACTIONS: dict[str, Callable[..., Run]] = {
    "stop": services.run_stop,
    "pause": services.run_pause,
    "resume": services.run_resume,
}


@requires(Role.VIEWER)
@require_safe
def run(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A run's page; as a fragment, its head."""
    found = selectors.run_get(request.actor, pk)
    context = _head(request, found)
    if request.htmx:
        return render(request, "runs/_head.html", context)
    method = context["method"]
    # A stage of a pipeline comes from the stage before, of another method: only a clone is held against its parent.
    cloned_from = None if context["stage"] else found.parent
    context |= {
        "charts": method.charts if method else (),
        "has_metrics": found.series.exists(),
        "run_alerts": alerts_of_run(found),
        "finished": found.status in FINISHED,
        "config_yaml": yaml.safe_dump(
            settings_in_order(found.method, found.config), sort_keys=False, allow_unicode=True
        ),
        "changed_from": "parent" if cloned_from else "defaults",
        "differences": _differences(found, cloned_from, method),
        "children": found.children.filter(stage_run=None).order_by("-id")[:RELATIVES],
        "successors": selectors.runs_from(found).filter(team=found.team_id)[:RELATIVES],
        "made": found.run_datasets.select_related("version__dataset")
        .defer("version__report")
        .order_by("-id")[:RELATIVES],
        "newest": found.run_checkpoints.select_related("checkpoint").order_by("-step")[:RELATIVES],
    }
    return render(request, "runs/run.html", context)


def _head(request: StudioRequest, run: Run) -> dict[str, Any]:
    method = method_of(run.method)
    may_act = request.actor.holds(Role.MEMBER, run.team_id)
    return {
        "run": run,
        "method": method,
        "merged": run.merge_models.select_related("model__checkpoint") if method and method.merges else (),
        "makes_checkpoints": method is None or method.makes_checkpoints,
        "trains": method is None or method.trains,
        "headlines": _headlines(run, method),
        "eta": selectors.eta_seconds(run),
        "seconds": selectors.seconds_spent(run),
        "active": run.status in ACTIVE,
        "checkpoint_count": run.run_checkpoints.count(),
        "may_stop": may_act and run.status not in (*FINISHED, Status.STOPPING),
        "may_pause": may_act and run.status in (Status.QUEUED, Status.STARTING, Status.RUNNING),
        "may_resume": may_act and run.status in (Status.PAUSED, Status.STOPPED, Status.FAILED),
        "may_edit": may_act,
        "may_delete": may_act and run.status in (*FINISHED, Status.PAUSED, Status.QUEUED),
        "waiting": waiting_of(run) if run.status == Status.QUEUED else None,
        "advice": advice_for(run),
        "stage": stages_of_runs([run.pk]).get(run.pk),
        "trial": trial_of_run(run.pk),
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
    return redirect(back_to(request, reverse("run", args=[pk])))


@requires(Role.MEMBER)
@require_POST
def edit(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Name, notes and tags."""
    posted = storable(request.POST)
    try:
        services.run_update(
            actor=request.actor,
            run=selectors.run_get(request.actor, pk, Role.MEMBER),
            name=posted.get("name"),
            notes=posted.get("notes"),
            tags=None if (tags := posted.get("tags")) is None else tags.split(","),
        )
    except Invalid as error:
        problems = [f"{name.capitalize()} {problem}." for name, found in error.fields.items() for problem in found]
        messages.error(request, " ".join([error.message, *problems]))
    else:
        messages.success(request, "Saved.")
    return redirect("run", pk)


@requires(Role.MEMBER)
@require_POST
def delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Delete the run and what it left."""
    found = selectors.run_get(request.actor, pk, Role.MEMBER)
    services.run_delete(actor=request.actor, run=found)
    messages.success(request, f"{found.name} is deleted.")
    return redirect("runs")


def _headlines(run: Run, method: Method | None) -> list[tuple[Headline, int | None]]:
    """The newest values, each with the step at which it was last measured on held-out rows."""
    keys = [key for chart in headline_charts(method) for key in chart.keys]
    series = {one.key: one for one in run.series.filter(key__in=keys)}
    found = headlines(method, {key: one.last for key, one in series.items()})
    steps = {key: one.last_step for key, one in series.items()}
    return [(headline, steps.get(headline.held_out_key)) for headline in found if headline.is_known]


def _differences(run: Run, cloned_from: Run | None, method: Method | None) -> dict[str, list[Any]]:
    """What the run does differently from the one it was cloned from, else from its method's defaults."""
    as_usual = Run(
        method=run.method,
        model=run.model,
        dataset_version=run.dataset_version,
        eval_dataset_version=run.eval_dataset_version,
        documents_version=run.documents_version,
        config=method.default_config() if method else run.config,
    )
    found = config_diff([cloned_from or as_usual, run])
    if cloned_from is None:
        # What it merges is no setting, as the model that it starts from is none.
        found.pop("merge_models", None)
    return found
