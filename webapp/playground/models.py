"""Prompts tried on models, and what came back."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from webapp.accounts.models import Team, User
from webapp.ids import new_id
from webapp.registry.models import BaseModel, Checkpoint


class GenerationStatus(models.TextChoices):
    WAITING = "waiting", "Waiting"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    STOPPED = "stopped", "Stopped"
    FAILED = "failed", "Failed"


OPEN = (GenerationStatus.WAITING, GenerationStatus.RUNNING)


class GenerationQuerySet(models.QuerySet["Generation"]):
    def open(self) -> "GenerationQuerySet":
        """The answers that have not ended."""
        return self.filter(status__in=OPEN)

    def claimable(self) -> "GenerationQuerySet":
        """The answers that wait for a worker, or have lost theirs."""
        lost = Q(status=GenerationStatus.RUNNING, lease_until__lt=Now())
        return self.filter(Q(status=GenerationStatus.WAITING) | lost)


class Generation(models.Model):
    """One completion by one model. `batch` joins the generations of the same prompt, shown side by side."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    batch = models.UUIDField(default=new_id)
    model = models.ForeignKey(BaseModel, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    checkpoint = models.ForeignKey(Checkpoint, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    prompt = models.TextField()
    system = models.TextField(blank=True)
    settings = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=GenerationStatus.choices, default=GenerationStatus.WAITING)
    text = models.TextField(blank=True)
    tokens = models.IntegerField(default=0)
    seconds = models.FloatField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    # A worker's claim; every write of a worker is conditional on the attempt it claimed.
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=False, checkpoint__isnull=True)
                | Q(model__isnull=True, checkpoint__isnull=False),
                name="generation_has_one_model",
            )
        ]
        indexes = [
            models.Index(fields=["team", "-id"], name="generation_team_newest"),
            models.Index(fields=["batch"], name="generation_batch"),
            models.Index(fields=["id"], condition=Q(status__in=["waiting", "running"]), name="generation_open"),
        ]

    def __str__(self) -> str:
        return self.prompt[:60]

    @property
    def is_open(self) -> bool:
        """Whether there may be more of it to come."""
        return self.status in OPEN

    @property
    def source(self) -> BaseModel | Checkpoint | None:
        """What answered."""
        return self.model or self.checkpoint

    @property
    def length(self) -> int:
        """The answer's length as JavaScript counts it, in UTF-16 units: pieces that arrive live name their place so."""
        return len(self.text.encode("utf-16-le")) // 2

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.seconds if self.seconds else None
