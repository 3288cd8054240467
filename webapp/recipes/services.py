"""What people do to pipelines, and how they go on when a run ends.

A stage is begun in the transaction in which the last of what it needs succeeds, so that no death of a process can part
the two. Whoever changes a pipeline holds its row; where runs are held too, they come first, as when a run ends.
"""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from polm_core import catalogue
from polm_core.errors import PolmError
from polm_core.method import Method, merged
from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.errors import Conflict, Forbidden, Invalid
from webapp.live.notify import publish
from webapp.recipes.models import Pipeline, PipelineStage, StageRun
from webapp.recipes.requests import PipelineRequest, as_choices
from webapp.recipes.selectors import final_checkpoints, stages_with_runs
from webapp.runs.models import FINISHED, Run, Status
from webapp.runs.services import project_for, run_create, run_stop, versions_hold

MAX_NAME = 150


def pipeline_create(
    *,
    actor: Actor,
    recipe: str,
    datasets: Mapping[str, str],
    models: Mapping[str, str] | None = None,
    stages: Mapping[str, Mapping[str, Any]] | None = None,
    project: str | None = None,
    name: str = "",
    priority: int = 0,
    labels: Iterable[str] = (),
    gpu_memory_gb: int = 0,
    tags: Iterable[str] = (),
    request_id: str = "",
) -> Pipeline:
    """Start a recipe: its first stages are queued, the others follow. The same `request_id` twice gives the same one.

    `stages` holds the choices for stages by name: `{"policy": {"method": "rloo", "config": {"max_steps": 20}}}`.
    """
    request = PipelineRequest(
        actor, recipe=recipe, datasets=datasets, models=models or {}, stages=as_choices(stages or {})
    )
    team = request.team
    if request_id and (known := Pipeline.objects.filter(team=team, request_id=request_id).first()):
        return known
    try:
        with transaction.atomic():
            versions_hold(*request.versions.values())
            placing = {
                "priority": priority,
                "labels": list(labels),
                "gpu_memory_gb": gpu_memory_gb,
                "tags": list(tags),
            }
            pipeline = Pipeline.objects.create(
                team=team,
                project=project_for(actor=actor, team=team, ref=project),
                name=_clean_name(name) or _default_name(team.pk, recipe),
                recipe=request.recipe.slug,
                placing=placing,
                request_id=request_id,
                created_by=actor.user,
                carried_by=actor.user,
            )
            PipelineStage.objects.bulk_create(
                PipelineStage(
                    pipeline=pipeline,
                    place=place,
                    name=stage.name,
                    title=stage.title,
                    method=request.methods[stage.name],
                    start="" if stage.start in request.models else stage.start,
                    uses=dict(stage.uses),
                    model=request.models.get(stage.start),
                    dataset_version=request.versions[stage.data],
                    config=request.configs[stage.name],
                )
                for place, stage in enumerate(request.recipe.stages)
            )
            audit(actor=actor, team_id=team.pk, verb="pipeline.create", target=pipeline, detail={"recipe": recipe})
            _begin_due(pipeline, actor)
    except IntegrityError:
        if not request_id:
            raise
        return Pipeline.objects.get(team=team, request_id=request_id)
    return pipeline


def pipeline_stop(*, actor: Actor, pipeline: Pipeline) -> None:
    """Stop what runs of it, keeping final checkpoints, and begin nothing further. Raises Conflict when nothing runs."""
    actor.require(pipeline.team_id, Role.MEMBER, "pipeline")
    while not _stopped(actor, pipeline):
        pass  # a stage has begun meanwhile


def _stopped(actor: Actor, pipeline: Pipeline) -> bool:
    """Stop it; False when a run has come that is not held, so that all has to be held anew."""
    with transaction.atomic():
        current = StageRun.objects.filter(stage__pipeline=pipeline, is_current=True).values("run")
        # Not those that have ended: a stage that begins meanwhile takes one of them for its parent.
        working = Run.objects.select_for_update(no_key=True).filter(pk__in=current).exclude(status__in=FINISHED)
        held = set(working.order_by("pk").values_list("pk", flat=True))
        pipeline = Pipeline.objects.select_for_update().get(pk=pipeline.pk)
        runs = [stage.run for stage in _stages(pipeline) if stage.run and stage.run.status not in FINISHED]
        if any(run.pk not in held for run in runs):
            return False
        if not runs:
            raise Conflict(
                "Nothing of the pipeline runs.", advice="This is possible while one of its stages waits or runs."
            )
        pipeline.stopped_at = timezone.now()
        pipeline.save(update_fields=["stopped_at"])
        for run in runs:
            if run.status != Status.STOPPING:
                run_stop(actor=actor, run=run)
        audit(actor=actor, team_id=pipeline.team_id, verb="pipeline.stop", target=pipeline)
        _announce(pipeline)
    return True


def pipeline_restart(
    *, actor: Actor, pipeline: Pipeline, stage: str, config: Mapping[str, Any] | None = None, method: str = ""
) -> None:
    """Begin a stage anew, with some settings changed; what builds on it, and what has not succeeded, follows anew.

    The results of earlier stages are built on, and the runs made before are kept. Raises Invalid for what is not
    accepted, and Conflict while something of the pipeline runs or when what the stage needs is not there.
    """
    actor.require(pipeline.team_id, Role.MEMBER, "pipeline")
    with transaction.atomic():
        pipeline = Pipeline.objects.select_for_update().get(pk=pipeline.pk)
        stages = {one.name: one for one in _stages(pipeline)}
        first = stages.get(stage)
        if first is None:
            raise Invalid("There is no such stage.", fields={"stage": [f"must be one of {', '.join(stages)}"]})
        _refuse_while_running(stages.values(), "Stop the pipeline first.")
        for name in sorted(first.needs, key=lambda name: stages[name].place):
            if not stages[name].succeeded:
                raise Conflict(
                    f"{first.title} builds on {stages[name].title}, which has not succeeded.",
                    advice=f"Start again from {stages[name].title}.",
                    fields={"stage": [f"must be {name} or an earlier one"]},
                )
        first.config = _settings(pipeline, first, method, config or {})
        anew = stages_anew(first, stages.values())
        StageRun.objects.filter(stage__pipeline=pipeline, stage__name__in=anew).update(is_current=False)
        for one in stages.values():
            if one.name in anew:
                one.error = None
                one.save(update_fields=["error", "method", "config"])
        pipeline.stopped_at = None
        pipeline.carried_by = actor.user
        pipeline.save(update_fields=["stopped_at", "carried_by"])
        audit(actor=actor, team_id=pipeline.team_id, verb="pipeline.restart", target=pipeline, detail={"stage": stage})
        _begin_due(pipeline, actor)


def stages_anew(first: PipelineStage, stages: Iterable[PipelineStage]) -> set[str]:
    """The stages that are begun anew with `first`: those that build on it, directly or not, or have not succeeded."""
    built_on = {first.name}
    for stage in sorted(stages, key=lambda stage: stage.place):
        if stage.needs & built_on:
            built_on.add(stage.name)
    return built_on | {stage.name for stage in stages if not stage.succeeded}


def pipeline_delete(*, actor: Actor, pipeline: Pipeline) -> None:
    """Forget a pipeline that is at rest; its runs stay. Raises Conflict while one of them waits or runs."""
    actor.require(pipeline.team_id, Role.MEMBER, "pipeline")
    if pipeline.created_by_id != actor.user.pk and not actor.holds(Role.ADMIN, pipeline.team_id):
        raise Forbidden("The pipeline is somebody else's.", advice="Ask them or an admin of the team to delete it.")
    with transaction.atomic():
        pipeline = Pipeline.objects.select_for_update().get(pk=pipeline.pk)
        _refuse_while_running(_stages(pipeline), "Stop it first.")
        detail = {"name": pipeline.name}
        audit(actor=actor, team_id=pipeline.team_id, verb="pipeline.delete", target=pipeline, detail=detail)
        _announce(pipeline)
        pipeline.delete()


# --- going on ---------------------------------------------------------------------------------------------------------
def pipeline_follow(*, run: Run, **_: Any) -> None:
    """A run has moved, and its row is held: where it carries out a stage, have its pipeline go on or halt.

    What keeps a stage from being begun is noted with it: the run has ended all the same.
    """
    links = StageRun.objects.filter(run=run, is_current=True)
    found = Pipeline.objects.filter(pk__in=links.values("stage__pipeline")).values_list("pk", flat=True).first()
    if found is None:
        return
    pipeline = Pipeline.objects.select_for_update(of=("self",)).select_related("carried_by").filter(pk=found).first()
    # Meanwhile it may have been started again without this run.
    if pipeline is None or not links.exists():
        return
    if run.status == Status.QUEUED and pipeline.stopped_at is not None:
        pipeline.stopped_at = None
        pipeline.save(update_fields=["stopped_at"])
    if run.status == Status.SUCCEEDED and pipeline.stopped_at is None:
        _go_on(pipeline)
    _announce(pipeline)


def _go_on(pipeline: Pipeline) -> None:
    stages = _stages(pipeline)
    if any(stage.state in (Status.FAILED, Status.STOPPED) for stage in stages):
        return
    for stage in _due(stages):
        try:
            with transaction.atomic():
                _begin(pipeline, stage, stages, _carrier(pipeline))
        except PolmError as error:
            stage.error = error.as_dict()
            stage.save(update_fields=["error"])


def _begin_due(pipeline: Pipeline, actor: Actor) -> None:
    """Begin what can be, for somebody who is there to hear of what cannot."""
    stages = _stages(pipeline)
    for stage in _due(stages):
        _begin(pipeline, stage, stages, actor)
    _announce(pipeline)


def _due(stages: Iterable[PipelineStage]) -> list[PipelineStage]:
    """The stages that nothing keeps from being begun."""
    succeeded = {stage.name for stage in stages if stage.succeeded}
    return [stage for stage in stages if stage.run is None and stage.error is None and stage.needs <= succeeded]


def _begin(pipeline: Pipeline, stage: PipelineStage, stages: Iterable[PipelineStage], actor: Actor) -> None:
    """Queue the run of a stage. Raises what `run_create` does, and Conflict when what it needs is gone."""
    by_name = {one.name: one for one in stages}
    before = by_name[stage.start] if stage.start else None
    used: dict[str, Any] = {role: _result(by_name[name]) for role, name in stage.uses.items()}
    run = run_create(
        actor=actor,
        method=stage.method,
        model=_result(before) if before else str(stage.model_id),
        dataset=stage.dataset_version,
        config=stage.config,
        project=str(pipeline.project_id),
        name=f"{pipeline.name} {stage.name}",
        parent=before.run if before else None,
        **used,
        **pipeline.placing,
    )
    StageRun.objects.create(stage=stage, run=run)


def _result(stage: PipelineStage) -> str:
    """The id of the checkpoint that a stage ended with. Raises Conflict when it was deleted."""
    link = final_checkpoints([stage.run.pk]).get(stage.run.pk) if stage.run else None
    if link is None:
        raise Conflict(
            f"The checkpoint of {stage.title} is gone: it was deleted.",
            advice=f"Start the pipeline again from {stage.title}.",
            fields={"stage": [f"must be {stage.name} or an earlier one"]},
        )
    return str(link.checkpoint_id)


def _carrier(pipeline: Pipeline) -> Actor:
    if pipeline.carried_by is None:
        raise Conflict(
            "Whoever started the pipeline has left the studio.", advice="Start it again from this stage to go on."
        )
    return Actor(pipeline.carried_by)


# --- helpers ----------------------------------------------------------------------------------------------------------
def _stages(pipeline: Pipeline) -> list[PipelineStage]:
    return list(stages_with_runs().filter(pipeline=pipeline))


def _settings(pipeline: Pipeline, stage: PipelineStage, method: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stage with changes laid over them; those of another method begin from the recipe's."""
    chosen, before = _method(pipeline, stage, method or stage.method), stage.config
    if chosen.slug != stage.method:
        stage.method, before = chosen.slug, {}
    return chosen.parse(merged(before, changes)).model_dump(mode="json")


def _method(pipeline: Pipeline, stage: PipelineStage, slug: str) -> Method:
    spec = pipeline.spec.stage(stage.name) if pipeline.spec else None
    if pipeline.spec and spec and slug in spec.methods:
        return pipeline.spec.method(spec, slug)
    if slug == stage.method:
        return catalogue.get(slug)
    offered = ", ".join(spec.methods) if spec else stage.method
    raise Invalid(f"{stage.title} is not carried out by {slug}.", fields={"method": [f"must be one of {offered}"]})


def _refuse_while_running(stages: Iterable[PipelineStage], advice: str) -> None:
    for stage in stages:
        if stage.run is not None and stage.run.status not in FINISHED:
            raise Conflict(f"{stage.title} is {stage.run.get_status_display().lower()}.", advice=advice)


def _clean_name(name: str) -> str:
    name = " ".join(name.split())
    if len(name) > MAX_NAME:
        raise Invalid("The name is too long.", fields={"name": [f"must have at most {MAX_NAME} characters"]})
    return name


def _default_name(team_id: uuid.UUID, recipe: str) -> str:
    return f"{recipe}-{Pipeline.objects.filter(team=team_id, recipe=recipe).count() + 1}"


def _announce(pipeline: Pipeline) -> None:
    publish(f"team:{pipeline.team_id}", "status", {"pipeline": str(pipeline.pk)})
