"""Recipes and pipelines over REST."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from polm_core import cookbook
from polm_core.recipes.recipe import Recipe
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.recipes import selectors, services
from webapp.recipes.models import Pipeline, PipelineStage
from webapp.runs.models import RunCheckpoint
from webapp.runs.selectors import eta_seconds

router = Router(tags=["recipes"])


class Body(Schema):
    model_config = ConfigDict(extra="forbid")


class SlotOut(Schema):
    name: str
    title: str
    help: str


class DatasetSlotOut(SlotOut):
    formats: list[str]


class RecipeStageOut(Schema):
    """`methods` are those to choose from, the first by default, each with all its settings here. `start` names a model
    slot or an earlier stage, `uses` the earlier stages that supply what else the run takes."""

    name: str
    title: str
    summary: str
    methods: dict[str, dict[str, Any]]
    dataset: str
    start: str
    uses: dict[str, str]


class RecipeOut(Schema):
    slug: str
    title: str
    summary: str
    when: str
    paper: str
    models: list[SlotOut]
    datasets: list[DatasetSlotOut]
    stages: list[RecipeStageOut]


class RecipesOut(Schema):
    items: list[RecipeOut]
    next_cursor: None = None


class StageIn(Body):
    method: str = ""
    config: dict[str, Any] = Field(default_factory=dict)


class PipelineIn(Body):
    """`models` and `datasets` by slot: a model that is not given is the starter. `stages` by name, where a method or
    settings other than the recipe's are wanted."""

    recipe: str
    models: dict[str, str] = Field(default_factory=dict)
    datasets: dict[str, str]
    stages: dict[str, StageIn] = Field(default_factory=dict)
    project: str | None = None
    name: str = ""
    priority: int = 0
    labels: list[str] = Field(default_factory=list)
    gpu_memory_gb: int = 0
    tags: list[str] = Field(default_factory=list)
    request_id: str = Field("", max_length=100)


class RestartIn(Body):
    """The stage to begin anew, with settings laid over those it had."""

    stage: str
    method: str = ""
    config: dict[str, Any] = Field(default_factory=dict)


class PipelineStageOut(Schema):
    name: str
    title: str
    method: str
    state: str
    start: str
    uses: dict[str, str]
    model: uuid.UUID | None
    dataset: uuid.UUID
    config: dict[str, Any]
    run: uuid.UUID | None
    step: int
    total_steps: int
    eta_s: float | None
    checkpoint: uuid.UUID | None
    error: dict[str, Any] | None


class PipelineOut(Schema):
    id: uuid.UUID
    name: str
    recipe: str
    project: str
    state: str
    stages: list[PipelineStageOut]
    stopped_at: datetime | None
    created_by: str | None
    created_at: datetime


class PipelinesOut(Schema):
    items: list[PipelineOut]
    next_cursor: str | None


@router.get("/recipes", response=RecipesOut)
def recipes(request: StudioRequest) -> dict[str, Any]:
    """The cookbook: what each recipe asks for, and its stages."""
    return {"items": [_recipe(recipe) for recipe in cookbook.RECIPES]}


@router.post("/pipelines", response={201: PipelineOut})
def pipeline_create(request: StudioRequest, payload: PipelineIn) -> Status[dict[str, Any]]:
    """Start a recipe. The same `request_id` twice gives the same pipeline."""
    made = services.pipeline_create(actor=request.actor, **payload.dict())
    return Status(201, _one(request, made.pk))


@router.get("/pipelines", response=PipelinesOut)
def pipelines(
    request: StudioRequest, recipe: str = "", limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
) -> dict[str, Any]:
    """Pipelines of the caller's teams, newest first."""
    found = selectors.pipelines_visible(request.actor)
    items, next_cursor = page(found.filter(recipe=recipe) if recipe else found, limit, cursor)
    return {"items": _pipelines(items), "next_cursor": next_cursor}


@router.get("/pipelines/{pipeline_id}", response=PipelineOut)
def pipeline(request: StudioRequest, pipeline_id: str) -> dict[str, Any]:
    """One pipeline with its stages; each names its run."""
    return _one(request, pipeline_id)


@router.delete("/pipelines/{pipeline_id}", response={204: None})
def pipeline_delete(request: StudioRequest, pipeline_id: str) -> Status[None]:
    """Forget a pipeline that is at rest; its runs stay."""
    found = selectors.pipeline_get(request.actor, pipeline_id, Role.MEMBER)
    services.pipeline_delete(actor=request.actor, pipeline=found)
    return Status(204, None)


@router.post("/pipelines/{pipeline_id}/restart", response=PipelineOut)
def pipeline_restart(request: StudioRequest, pipeline_id: str, payload: RestartIn) -> dict[str, Any]:
    """Begin a stage anew, and all that builds on it; the results of earlier stages and all runs are kept."""
    found = selectors.pipeline_get(request.actor, pipeline_id, Role.MEMBER)
    services.pipeline_restart(actor=request.actor, pipeline=found, **payload.dict())
    return _one(request, pipeline_id)


@router.post("/pipelines/{pipeline_id}/stop", response=PipelineOut)
def pipeline_stop(request: StudioRequest, pipeline_id: str) -> dict[str, Any]:
    """Stop the stages that wait or run, keeping final checkpoints, and begin no further one."""
    found = selectors.pipeline_get(request.actor, pipeline_id, Role.MEMBER)
    services.pipeline_stop(actor=request.actor, pipeline=found)
    return _one(request, pipeline_id)


def _one(request: StudioRequest, pk: Any) -> dict[str, Any]:
    return _pipelines([selectors.pipeline_get(request.actor, pk)])[0]


def _recipe(recipe: Recipe) -> dict[str, Any]:
    return {
        "slug": recipe.slug,
        "title": recipe.title,
        "summary": recipe.summary,
        "when": recipe.when,
        "paper": recipe.paper.url,
        "models": [{"name": slot.name, "title": slot.title, "help": slot.help} for slot in recipe.models],
        "datasets": [
            {"name": slot.name, "title": slot.title, "help": slot.help, "formats": list(slot.formats)}
            for slot in recipe.datasets
        ],
        "stages": [
            {
                "name": stage.name,
                "title": stage.title,
                "summary": stage.summary,
                "methods": {slug: recipe.method(stage, slug).default_config() for slug in stage.methods},
                "dataset": stage.data,
                "start": stage.start,
                "uses": dict(stage.uses),
            }
            for stage in recipe.stages
        ],
    }


def _pipelines(found: Sequence[Pipeline]) -> list[dict[str, Any]]:
    runs = [stage.run.pk for pipeline in found for stage in pipeline.stages.all() if stage.run]
    finals = selectors.final_checkpoints(runs)
    return [
        {
            "id": pipeline.pk,
            "name": pipeline.name,
            "recipe": pipeline.recipe,
            "project": pipeline.project.name,
            "state": pipeline.state,
            "stages": [_stage(stage, finals) for stage in pipeline.stages.all()],
            "stopped_at": pipeline.stopped_at,
            "created_by": pipeline.created_by.username if pipeline.created_by else None,
            "created_at": pipeline.created_at,
        }
        for pipeline in found
    ]


def _stage(stage: PipelineStage, finals: dict[uuid.UUID, RunCheckpoint]) -> dict[str, Any]:
    run = stage.run
    final = finals.get(run.pk) if run else None
    return {
        "name": stage.name,
        "title": stage.title,
        "method": stage.method,
        "state": stage.state,
        "start": stage.start,
        "uses": stage.uses,
        "model": stage.model_id,
        "dataset": stage.dataset_version.dataset_id,
        "config": stage.config,
        "run": run.pk if run else None,
        "step": run.step if run else 0,
        "total_steps": run.total_steps if run else 0,
        "eta_s": eta_seconds(run) if run else None,
        "checkpoint": final.checkpoint_id if final else None,
        "error": stage.problem,
    }
