"""Pipelines: recipes that are carried out as linked runs. How far one is follows from its runs alone."""

from typing import Any

from django.db import models
from django.db.models import Q

from polm_core import cookbook
from polm_core.recipes.recipe import Recipe
from webapp.accounts.models import Team, User
from webapp.datasets.models import DatasetVersion
from webapp.ids import new_id
from webapp.registry.models import BaseModel
from webapp.runs.models import ACTIVE, FINISHED, Project, Run, Status

# The state of a stage without a run, and without a reason why there is none: what it needs is not there yet.
WAITING = "waiting"


class Pipeline(models.Model):
    """A recipe that a team carries out.

    Its properties read the stages from a prefetch: see `selectors.pipelines_visible`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="pipelines")
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="pipelines")
    name = models.CharField(max_length=150)
    recipe = models.CharField(max_length=50)
    # What its runs need of a worker, and what they are called: tags, priority, labels, GPU memory.
    placing = models.JSONField(default=dict)
    # Somebody stopped it: what still succeeds begins no further stage.
    stopped_at = models.DateTimeField(null=True, blank=True)
    request_id = models.CharField(max_length=100, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    # With whose rights its runs are made: whoever started it, or started it again last.
    carried_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "request_id"], condition=~Q(request_id=""), name="pipeline_request_unique"
            )
        ]
        indexes = [
            models.Index(fields=["team", "-id"], name="pipeline_team_newest"),
            models.Index(fields=["team", "recipe", "-id"], name="pipeline_team_recipe"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def spec(self) -> Recipe | None:
        """Its recipe; None for one that the cookbook no longer has."""
        return next((recipe for recipe in cookbook.RECIPES if recipe.slug == self.recipe), None)

    @property
    def title(self) -> str:
        return self.spec.title if self.spec else self.recipe

    @property
    def state(self) -> str:
        """One of running, stopping, paused, stopped, succeeded, failed. A stage that fails has the whole fail."""
        states = {stage.state for stage in self.stages.all()}
        if Status.FAILED in states:
            return Status.FAILED
        if states & {Status.QUEUED, *ACTIVE}:
            return Status.STOPPING if self.stopped_at else Status.RUNNING
        if states == {Status.SUCCEEDED}:
            return Status.SUCCEEDED
        return Status.PAUSED if Status.PAUSED in states else Status.STOPPED

    @property
    def unfinished(self) -> list["PipelineStage"]:
        """The stages whose runs have not ended."""
        return [stage for stage in self.stages.all() if stage.run and stage.run.status not in FINISHED]

    @property
    def failed_stage(self) -> "PipelineStage | None":
        return next((stage for stage in self.stages.all() if stage.state == Status.FAILED), None)


class PipelineStage(models.Model):
    """One stage with what it is made from, frozen when the pipeline is started or started again from it.

    `start` names the earlier stage whose final checkpoint training starts from, empty where that is `model`; `uses`
    says which earlier stage supplies what else its run takes. `error` is why no run could be made. Its properties read
    the runs from a prefetch: see `selectors.stages_with_runs`.
    """

    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="stages")
    place = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=50)
    title = models.CharField(max_length=100)
    method = models.CharField(max_length=50)
    start = models.CharField(max_length=50, blank=True)
    uses = models.JSONField(default=dict, blank=True)
    model = models.ForeignKey(
        BaseModel, null=True, blank=True, on_delete=models.PROTECT, related_name="pipeline_stages"
    )
    dataset_version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="pipeline_stages")
    config = models.JSONField()
    error = models.JSONField(null=True, blank=True)

    class Meta:
        verbose_name = "pipeline stage"
        ordering = ["pipeline", "place"]
        constraints = [
            models.UniqueConstraint(fields=["pipeline", "name"], name="pipeline_stage_name_unique"),
            models.UniqueConstraint(fields=["pipeline", "place"], name="pipeline_stage_place_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.title} of {self.pipeline}"

    @property
    def team_id(self) -> Any:
        return self.pipeline.team_id

    @property
    def needs(self) -> set[str]:
        """The earlier stages that have to succeed first."""
        return {self.start, *self.uses.values()} - {""}

    @property
    def run(self) -> Run | None:
        """The run that carries it out."""
        return next((link.run for link in self.stage_runs.all() if link.is_current), None)

    @property
    def state(self) -> str:
        """Its run's status; without a run, `failed` when none could be made and else `waiting`."""
        if self.run:
            return self.run.status
        return Status.FAILED if self.error else WAITING

    @property
    def succeeded(self) -> bool:
        return self.state == Status.SUCCEEDED

    @property
    def problem(self) -> dict[str, Any] | None:
        """Why it failed, with advice."""
        return self.run.error if self.run else self.error


class StageRun(models.Model):
    """A run that carries out a stage, or did before the pipeline was started again from there or from before."""

    stage = models.ForeignKey(PipelineStage, on_delete=models.CASCADE, related_name="stage_runs")
    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="stage_run")
    is_current = models.BooleanField(default=True)

    class Meta:
        constraints = [
            # However many processes hear that a stage is due, one of them begins it.
            models.UniqueConstraint(fields=["stage"], condition=Q(is_current=True), name="stage_run_current_unique")
        ]

    def __str__(self) -> str:
        return f"{self.run} for {self.stage}"
