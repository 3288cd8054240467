"""Sweeps: many runs of one method that differ in some settings, to find the best. Runs stay what they are."""

from typing import Any

from django.db import models
from django.db.models import Q

from polm_core import catalogue
from polm_core.method import Method
from webapp.accounts.models import Team, User
from webapp.ids import new_id
from webapp.runs.models import Best, Project, Run
from webapp.sweeps.space import Space


class Strategy(models.TextChoices):
    """How the next trial is chosen."""

    GRID = "grid", "Grid: every combination"
    RANDOM = "random", "Random"
    TPE = "tpe", "TPE: near what was good so far"


class SweepState(models.TextChoices):
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"


class TrialState(models.TextChoices):
    """`held` was stopped with its sweep and goes on with it; `stopped` was stopped by itself."""

    RUNNING = "running", "Running"
    DONE = "done", "Done"
    PRUNED = "pruned", "Pruned"
    FAILED = "failed", "Failed"
    STOPPED = "stopped", "Stopped"
    HELD = "held", "Held"


class Sweep(models.Model):
    """A search of `space` for the settings whose runs end with the best `metric`.

    `request` is what each run is made from beside the settings that vary: ids as in `RunRequest.as_dict`, and all
    settings. `error` is why no further trial is begun. `begun_after` counts the trials that there were when it was
    started or went on last. Its state follows from its trials, which `selectors.sweeps_visible` counts.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="sweeps")
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="sweeps")
    name = models.CharField(max_length=150)
    method = models.CharField(max_length=50)
    request = models.JSONField()
    space = models.JSONField()
    # What its runs need of a worker, and what they are called: tags, priority, labels, GPU memory.
    placing = models.JSONField(default=dict)
    metric = models.CharField(max_length=200)
    direction = models.CharField(max_length=3, choices=Best.choices, default=Best.MIN)
    strategy = models.CharField(max_length=6, choices=Strategy.choices)
    max_trials = models.PositiveSmallIntegerField()
    parallel = models.PositiveSmallIntegerField(default=1)
    prune = models.BooleanField(default=False)
    begun_after = models.PositiveSmallIntegerField(default=0)
    stopped_at = models.DateTimeField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    request_id = models.CharField(max_length=100, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    # With whose rights its runs are made: whoever started it, or had it go on last.
    carried_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    # Counted by the selectors: all trials, and those whose runs have not ended.
    made: int
    live: int

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "request_id"], condition=~Q(request_id=""), name="sweep_request_unique"
            )
        ]
        indexes = [
            models.Index(fields=["team", "-id"], name="sweep_team_newest"),
            models.Index(fields=["project", "-id"], name="sweep_project_newest"),
            models.Index(fields=["id"], condition=Q(stopped_at__isnull=True, error__isnull=True), name="sweep_open"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def varies(self) -> Space:
        return Space.model_validate(self.space)

    @property
    def known_method(self) -> Method | None:
        """Its method; None for one that the catalogue no longer has."""
        return catalogue.find(self.method)

    @property
    def state(self) -> SweepState:
        if self.stopped_at is not None:
            return SweepState.STOPPING if self.live else SweepState.STOPPED
        if self.error is not None:
            return SweepState.FAILED
        return SweepState.RUNNING if self.live or self.made < self.max_trials else SweepState.FINISHED

    @property
    def lower_is_better(self) -> bool:
        return self.direction == Best.MIN

    def better(self, value: float, than: float) -> bool:
        """Whether one value of the metric beats another."""
        return value < than if self.lower_is_better else value > than


class Trial(models.Model):
    """One choice of the settings that vary, and the run that tries it.

    `value` is the metric as it was last logged, once the run has ended. `reason` says why the run was stopped as
    hopeless; `error` why it failed, or could not be made.
    """

    sweep = models.ForeignKey(Sweep, on_delete=models.CASCADE, related_name="trials")
    number = models.PositiveSmallIntegerField()
    params = models.JSONField()
    run = models.OneToOneField(Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="trial")
    state = models.CharField(max_length=7, choices=TrialState.choices, default=TrialState.RUNNING)
    value = models.FloatField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    error = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["sweep", "number"]
        constraints = [models.UniqueConstraint(fields=["sweep", "number"], name="trial_number_unique")]
        indexes = [
            models.Index(fields=["sweep"], condition=Q(state__in=["running", "held"]), name="trial_open"),
        ]

    def __str__(self) -> str:
        return f"trial {self.number} of {self.sweep}"

    @property
    def why(self) -> str:
        """Why it was pruned or failed, with advice; empty for others."""
        error: dict[str, Any] = self.error or {}
        return self.reason or f"{error.get('message', '')} {error.get('advice', '')}".strip()
