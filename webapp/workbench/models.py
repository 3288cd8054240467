"""Rewards tried on answers that are there already, and what each gave them."""

from django.db import models
from django.db.models import Q

from polm_core.rewards.config import REWARD_NAMES
from webapp.accounts.models import Team, User
from webapp.claimed import ClaimedWork, WorkQuerySet
from webapp.datasets.models import DatasetVersion
from webapp.ids import new_id
from webapp.registry.models import BaseModel
from webapp.runs.models import Run


class RewardTrialQuerySet(WorkQuerySet["RewardTrial"]):
    """For the type checker, which does not find a generic manager."""


class RewardTrial(ClaimedWork):
    """Rewards, tried on answers of a dataset's version or on the samples of a run. `report` is a `TrialReport`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    dataset_version = models.ForeignKey(
        DatasetVersion, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    most = models.PositiveIntegerField()
    rewards = models.JSONField()
    reward_model = models.ForeignKey(BaseModel, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    judge_model = models.ForeignKey(BaseModel, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    progress = models.JSONField(default=dict, blank=True)
    report = models.JSONField(null=True, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RewardTrialQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(dataset_version__isnull=False, run__isnull=True)
                | Q(dataset_version__isnull=True, run__isnull=False),
                name="reward_trial_has_one_source",
            )
        ]
        indexes = [
            models.Index(fields=["team", "-id"], name="reward_trial_team_newest"),
            models.Index(fields=["id"], condition=Q(status__in=["waiting", "running"]), name="reward_trial_open"),
        ]

    def __str__(self) -> str:
        return f"rewards on {self.run or self.dataset_version}"

    @property
    def names(self) -> list[str]:
        """The rewards that are tried."""
        return [name for name in REWARD_NAMES if self.rewards.get(name)]


class TrialRow(models.Model):
    """One answer of a trial; see `polm_core.trial.TrialRow`. `place` is its place among them."""

    trial = models.ForeignKey(RewardTrial, on_delete=models.CASCADE, related_name="rows")
    place = models.PositiveIntegerField()
    prompt = models.TextField()
    completion = models.TextField()
    reference = models.TextField(null=True)  # noqa: DJ001 (an empty one is a reference too)
    scores = models.JSONField()
    reward = models.FloatField(null=True)
    disagreement = models.FloatField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["trial", "place"], name="trial_row_place_unique")]
        indexes = [
            models.Index(fields=["trial", "-disagreement", "place"], name="trial_row_disagreement"),
            models.Index(fields=["trial", "reward", "place"], name="trial_row_reward"),
        ]

    def __str__(self) -> str:
        return f"answer {self.place} of {self.trial_id}"
