"""Reading pipelines, each with its stages and their runs."""

import uuid
from collections.abc import Collection
from typing import Any

from django.db.models import Prefetch, QuerySet

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.recipes.models import Pipeline, PipelineStage, StageRun
from webapp.runs.models import RunCheckpoint


def stages_with_runs() -> QuerySet[PipelineStage]:
    """Stages in their order, each with the run that carries it out."""
    current = StageRun.objects.filter(is_current=True).select_related("run")
    return PipelineStage.objects.prefetch_related(Prefetch("stage_runs", current)).order_by("place")


def pipelines_visible(actor: Actor) -> QuerySet[Pipeline]:
    """The pipelines of the actor's teams, newest first, with their stages: three queries, however many there are."""
    stages = stages_with_runs().select_related("dataset_version__dataset", "model")
    return (
        Pipeline.objects.filter(team__in=actor.team_ids())
        .select_related("project", "created_by")
        .prefetch_related(Prefetch("stages", stages))
        .order_by("-id")
    )


def pipeline_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> Pipeline:
    """The pipeline with its stages. Raises NotFound or Forbidden."""
    return actor.get(pipelines_visible(actor), pk, role)


def final_checkpoints(runs: Collection[uuid.UUID]) -> dict[uuid.UUID, RunCheckpoint]:
    """The last checkpoint of each of the runs that has one."""
    links = RunCheckpoint.objects.filter(run__in=runs).select_related("checkpoint")
    return {link.run_id: link for link in links.order_by("run", "-step").distinct("run")}


def stages_of_runs(runs: Collection[uuid.UUID]) -> dict[uuid.UUID, PipelineStage]:
    """Which of the runs belong to pipelines, or did before a stage was begun anew; each with its stage."""
    links = StageRun.objects.filter(run__in=runs).select_related("stage__pipeline")
    return {link.run_id: link.stage for link in links}
