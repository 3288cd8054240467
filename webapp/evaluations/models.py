"""What evaluations have measured."""

from django.db import models

from webapp.datasets.models import DatasetVersion
from webapp.ids import new_id
from webapp.registry.models import BaseModel, Checkpoint
from webapp.runs.models import Run


class Better(models.TextChoices):
    HIGHER = "higher", "Higher is better"
    LOWER = "lower", "Lower is better"
    NEITHER = "", "Neither"


class EvaluationResult(models.Model):
    """One metric of a model, measured by a run. It is never changed: measuring again adds another.

    `low` and `high` hold the value at 95 %. `row_scores` are packed by `webapp.evaluations.scores`, empty where the
    metric has none; `conditions` is the same for results that were measured alike on the same dataset version, and what
    is `listed` stands in the leaderboard.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="results")
    model = models.ForeignKey(BaseModel, on_delete=models.CASCADE, related_name="results")
    # The one that the model stands for, if it does.
    checkpoint = models.ForeignKey(Checkpoint, null=True, blank=True, on_delete=models.CASCADE, related_name="results")
    metric = models.CharField(max_length=100)
    value = models.FloatField()
    low = models.FloatField()
    high = models.FloatField()
    rows = models.PositiveIntegerField()
    better = models.CharField(max_length=6, choices=Better.choices, blank=True)
    listed = models.BooleanField(default=True)
    conditions = models.CharField(max_length=16)
    row_scores = models.BinaryField(default=bytes)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "metric"], name="evaluation_result_unique")]
        indexes = [
            models.Index(fields=["model", "-id"], name="evaluation_result_newest"),
            models.Index(fields=["checkpoint", "-id"], name="evaluation_result_checkpoint"),
        ]

    def __str__(self) -> str:
        return f"{self.metric} of {self.model}"

    @property
    def version(self) -> DatasetVersion:
        """What it was measured on."""
        assert self.run.dataset_version is not None  # noqa: S101 (no evaluation goes without rows)
        return self.run.dataset_version
