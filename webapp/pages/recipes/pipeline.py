"""The cookbook with the team's pipelines, and a pipeline's page, whose stages follow their runs live."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from polm_core import cookbook
from polm_core.method import ChartSpec, Method
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.metrics.models import MetricSeries
from webapp.pages.runs.figures import Headline, headline_charts, headlines, method_of
from webapp.pages.runs.inputs import storable
from webapp.pagination import page
from webapp.recipes import selectors, services
from webapp.recipes.models import Pipeline, PipelineStage
from webapp.runs.models import ACTIVE, Run, RunCheckpoint, Status
from webapp.runs.selectors import eta_seconds, seconds_spent
from webapp.runs.waiting import Waiting, waiting_of

PIPELINES = 25
# What earlier stages do for a later one, by the name that its run has for them.
_ROLES = {"reward_model": "scored by", "judge_model": "judged by", "teacher_model": "taught by"}


@dataclass(frozen=True)
class StageEntry:
    """A stage as its pipeline's page shows it.

    `sources` says in words what it is made from, `ready` that all of that is there.
    """

    stage: PipelineStage
    run: Run | None
    method: Method | None
    sources: str
    eta: float | None
    seconds: float | None
    headline: Headline | None
    final: RunCheckpoint | None
    waiting: Waiting | None
    ready: bool
    may_restart: bool

    @property
    def active(self) -> bool:
        return self.run is not None and self.run.status in ACTIVE

    @property
    def chart(self) -> ChartSpec | None:
        """What the method is there to move."""
        return next(iter(headline_charts(self.method)), None)

    @property
    def chart_title(self) -> str:
        return f"{self.stage.title}: {self.chart.title.lower()}" if self.chart else ""


@requires(Role.VIEWER)
@require_safe
def recipes(request: StudioRequest) -> HttpResponse:
    """The recipes, and the team's pipelines, newest first; as a fragment, the latter alone."""
    team = request.actor.current_team
    found = selectors.pipelines_visible(request.actor).filter(team=team)
    items, next_cursor = page(found, PIPELINES, storable(request.GET).get("cursor") or None)
    context = {
        "recipes": cookbook.RECIPES,
        "pipelines": items,
        "next_cursor": next_cursor,
        "may_launch": request.actor.holds(Role.MEMBER, team.pk),
    }
    return render(request, "recipes/_pipelines.html" if request.htmx else "recipes/recipes.html", context)


@requires(Role.VIEWER)
@require_safe
def pipeline(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A pipeline's page; as a fragment, its state and stages."""
    found = selectors.pipeline_get(request.actor, pk)
    may_act = request.actor.holds(Role.MEMBER, found.team_id)
    context = {
        "pipeline": found,
        "recipe": found.spec,
        "entries": _entries(found, may_act),
        "failed": found.failed_stage,
        "may_stop": may_act and any(stage.state != Status.STOPPING for stage in found.unfinished),
        "may_delete": may_act and not found.unfinished,
        "may_act": may_act,
    }
    return render(request, "recipes/_pipeline.html" if request.htmx else "recipes/pipeline.html", context)


@requires(Role.MEMBER)
@require_POST
def stop(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Stop what runs of it."""
    services.pipeline_stop(actor=request.actor, pipeline=selectors.pipeline_get(request.actor, pk, Role.MEMBER))
    return redirect("pipeline", pk)


@requires(Role.MEMBER)
@require_POST
def delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Forget the pipeline; its runs stay."""
    found = selectors.pipeline_get(request.actor, pk, Role.MEMBER)
    services.pipeline_delete(actor=request.actor, pipeline=found)
    messages.success(request, f"{found.name} is deleted; its runs are kept.")
    return redirect("recipes")


def _entries(pipeline: Pipeline, may_act: bool) -> list[StageEntry]:
    stages = list(pipeline.stages.all())
    runs = [stage.run for stage in stages if stage.run]
    finals = selectors.final_checkpoints([run.pk for run in runs])
    values = _headline_values(runs)
    titles = {stage.name: stage.title for stage in stages}
    at_rest = not pipeline.unfinished
    done = {stage.name for stage in stages if stage.succeeded and stage.run and stage.run.pk in finals}
    found = []
    for stage in stages:
        run, method = stage.run, method_of(stage.method)
        told = [one for one in headlines(method, values.get(run.pk, {})) if one.is_known] if run else []
        found.append(
            StageEntry(
                stage=stage,
                run=run,
                method=method,
                sources=_sources(stage, titles),
                eta=eta_seconds(run) if run else None,
                seconds=seconds_spent(run) if run else None,
                headline=told[0] if told else None,
                final=finals.get(run.pk) if run else None,
                waiting=waiting_of(run) if run and run.status == Status.QUEUED else None,
                ready=stage.needs <= done,
                may_restart=may_act and at_rest and stage.needs <= done,
            )
        )
    return found


def _headline_values(runs: Iterable[Run]) -> dict[uuid.UUID, dict[str, float | None]]:
    """The newest values of what the runs' methods are there to move, by run and key."""
    keys = {key for run in runs for chart in headline_charts(method_of(run.method)) for key in chart.keys}
    found: dict[uuid.UUID, dict[str, float | None]] = {}
    for series in MetricSeries.objects.filter(run__in=[run.pk for run in runs], key__in=keys):
        found.setdefault(series.run_id, {})[series.key] = series.last
    return found


def _sources(stage: PipelineStage, titles: dict[str, str]) -> str:
    start = titles[stage.start] if stage.start else stage.model.name if stage.model else ""
    used = [f"{_ROLES.get(role, 'with')} {titles[name].lower()}" for role, name in stage.uses.items()]
    return ", ".join([f"from {start.lower() if stage.start else start}", *used])
