"""Starting a pipeline again from one of its stages, with other settings."""

import uuid

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from polm_core import catalogue
from polm_core.errors import ConfigError
from polm_core.method import Method
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import Conflict, Invalid, NotFound
from webapp.pages.runs.inputs import storable
from webapp.recipes import selectors, services
from webapp.recipes.models import Pipeline, PipelineStage
from webapp.ui.forms import MethodForm


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def restart(request: StudioRequest, pk: uuid.UUID, stage: str) -> HttpResponse:
    """Show the stage's settings as they were (a fragment while choosing), or begin it anew."""
    pipeline = selectors.pipeline_get(request.actor, pk, Role.MEMBER)
    stages = list(pipeline.stages.all())
    first = next((one for one in stages if one.name == stage), None)
    if first is None:
        raise NotFound("There is no such stage.", advice="The pipeline's page lists them.")
    posted = storable(request.POST)
    methods = _methods(pipeline, first)
    method = next((method for method in methods if method.slug == posted.get("method", first.method)), methods[0])
    as_before = first.config if method.slug == first.method else None
    settings = MethodForm(method, posted=posted) if posted else MethodForm(method, values=as_before)
    problem = ""
    if "launch" in posted and not request.htmx:
        problem = _restart(request, pipeline, stage, settings)
        if not problem:
            return redirect("pipeline", pk)
    anew = services.stages_anew(first, stages)
    context = {
        "pipeline": pipeline,
        "stage": first,
        "methods": methods,
        "method": method,
        "settings": settings,
        "problem": problem,
        "anew": [one for one in stages if one.name in anew],
        "kept": [one for one in stages if one.name not in anew],
    }
    template = "recipes/_restart_form.html" if request.htmx else "recipes/restart.html"
    return render(request, template, context, status=422 if problem else 200)


def _restart(request: StudioRequest, pipeline: Pipeline, stage: str, settings: MethodForm) -> str:
    """Begin the stage anew; what is wrong where that cannot be."""
    if settings.config is None:
        return "Correct the settings that are marked."
    try:
        services.pipeline_restart(
            actor=request.actor, pipeline=pipeline, stage=stage, method=settings.method.slug, config=settings.config
        )
    except (Invalid, ConfigError, Conflict) as error:
        return f"{error.message} {error.advice}".strip()
    return ""


def _methods(pipeline: Pipeline, stage: PipelineStage) -> list[Method]:
    """What may carry the stage out: as the recipe has it, else what did before."""
    recipe = pipeline.spec
    spec = recipe.stage(stage.name) if recipe else None
    if recipe is None or spec is None:
        return [catalogue.get(stage.method)]
    return [recipe.method(spec, slug) for slug in spec.methods]
