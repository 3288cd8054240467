"""Models, checkpoints and who they are shared with."""

import uuid
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.text import slugify

from polm_core.export import ExportFormat
from webapp.accounts.models import Team, User
from webapp.claimed import ClaimedWork, WorkQuerySet
from webapp.ids import new_id

# By what matters most first.
KEY_METRICS = ("eval/loss", "eval/reward", "eval/rewards/accuracies", "reward", "loss")


class ModelSource(models.TextChoices):
    STARTER = "starter", "Starter model"
    HUB = "hub", "Hugging Face hub"
    PATH = "path", "Folder on the workers"
    CHECKPOINT = "checkpoint", "Registered checkpoint"


class ModelStatus(models.TextChoices):
    PREPARING = "preparing", "Preparing"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"


class BaseModelQuerySet(models.QuerySet["BaseModel"]):
    def to_prepare(self) -> "BaseModelQuerySet":
        """The models that wait to be prepared and that no living worker is preparing."""
        unclaimed = Q(lease_until=None) | Q(lease_until__lt=Now())
        return self.filter(unclaimed, status=ModelStatus.PREPARING)


class BaseModel(models.Model):
    """A model that runs can start from. `team` is empty for the starter, which every team sees."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="models")
    name = models.CharField(max_length=200)
    source = models.CharField(max_length=12, choices=ModelSource.choices)
    status = models.CharField(max_length=12, choices=ModelStatus.choices, default=ModelStatus.READY)
    hub_id = models.CharField(max_length=200, blank=True)
    revision = models.CharField(max_length=100, blank=True)
    path = models.CharField(max_length=500, blank=True)
    checkpoint = models.ForeignKey(
        "Checkpoint", null=True, blank=True, on_delete=models.CASCADE, related_name="registrations"
    )
    parameters = models.BigIntegerField(null=True, blank=True)
    context_length = models.IntegerField(null=True, blank=True)
    notes = models.TextField(blank=True)
    progress = models.JSONField(default=dict, blank=True)
    error = models.JSONField(null=True, blank=True)
    # The preparing task's claim: a lost worker's claim runs out and another takes over. Every write of a worker is
    # conditional on the epoch it claimed; `attempts` counts claims since somebody asked for the model.
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_epoch = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = BaseModelQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "name"], name="model_name_unique", nulls_distinct=False),
            models.UniqueConstraint(fields=["source"], condition=Q(source="starter"), name="model_one_starter"),
        ]

    def __str__(self) -> str:
        return self.name


class CheckpointKind(models.TextChoices):
    MODEL = "model", "Full model"
    ADAPTER = "adapter", "Adapter"


class Checkpoint(models.Model):
    """A complete checkpoint in the artifact store. A row exists only once every file is there and verified.

    `files` is the manifest's list of {path, size, sha256}; `trainer_state` names those of them that only resuming
    needs; `sha256` is the manifest's own digest and `bytes` the size of all files. The run it comes from is known to
    the runs app (`RunCheckpoint`), which registers it.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="checkpoints")
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=10, choices=CheckpointKind.choices)
    method = models.CharField(max_length=50)
    step = models.BigIntegerField()
    base_model = models.ForeignKey(BaseModel, null=True, on_delete=models.PROTECT, related_name="checkpoints")
    # The checkpoint that training started from, when it did not start from a base model alone.
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    key = models.CharField(max_length=300, unique=True)
    bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    files = models.JSONField(default=list)
    trainer_state = models.JSONField(default=list, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["team", "-id"], name="checkpoint_team_newest")]

    def __str__(self) -> str:
        return self.name

    @property
    def folder_name(self) -> str:
        """The folder that a download unpacks to."""
        return slugify(self.name)[:80] or f"checkpoint-{self.pk}"

    @property
    def download_files(self) -> list[dict[str, Any]]:
        """The files that make up the model or adapter: all but the trainer's state."""
        state = set(self.trainer_state)
        return [file for file in self.files if file["path"] not in state]

    @property
    def download_bytes(self) -> int:
        """What the files of a download add up to."""
        return sum(file["size"] for file in self.download_files)

    @property
    def metrics_by_weight(self) -> list[tuple[str, float]]:
        """The metrics of the model, those that matter most first; what they say of the machine is left out."""
        rank = {name: place for place, name in enumerate(KEY_METRICS)}
        told = [(name, value) for name, value in self.metrics.items() if not name.startswith("system/")]
        return sorted(told, key=lambda metric: (rank.get(metric[0], len(rank)), metric[0]))

    @property
    def key_metric(self) -> tuple[str, float] | None:
        """The one metric that a list shows."""
        return next(iter(self.metrics_by_weight), None)


class ShareKind(models.TextChoices):
    TEAM = "team", "A team"
    USER = "user", "A person"
    LINK = "link", "Anyone with the link"


class ShareQuerySet(models.QuerySet["Share"]):
    def active(self) -> "ShareQuerySet":
        """The shares that are neither revoked nor past their end."""
        return self.filter(revoked_at=None).exclude(expires_at__lte=timezone.now())


class Share(models.Model):
    """Read access to one checkpoint for a team, a person, or the holder of a link, until it ends."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.CASCADE, related_name="shares")
    kind = models.CharField(max_length=5, choices=ShareKind.choices)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    downloads = models.PositiveIntegerField(default=0)

    objects = ShareQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="team", team__isnull=False, user__isnull=True)
                | Q(kind="user", team__isnull=True, user__isnull=False)
                | Q(kind="link", team__isnull=True, user__isnull=True),
                name="share_has_its_receiver",
            )
        ]

    def __str__(self) -> str:
        return f"{self.checkpoint} to {self.kind}"


class CheckpointWork(ClaimedWork):
    """What a worker makes of one checkpoint; it goes with it. `progress` is a `polm_core.export.WorkProgress`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.CASCADE, related_name="%(class)ss")
    progress = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class ExportQuerySet(WorkQuerySet["Export"]):
    """For the type checker, which does not find a generic manager."""


class Export(CheckpointWork):
    """A checkpoint in a form that other programs take. Once it is done, `files` lists {path, size, sha256}."""

    format = models.CharField(max_length=10, choices=[(one.value, one.label) for one in ExportFormat])
    files = models.JSONField(default=list, blank=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["checkpoint", "format"], name="export_made_once")]
        indexes = [models.Index(fields=["id"], condition=Q(status__in=["waiting", "running"]), name="export_open")]

    def __str__(self) -> str:
        return f"{self.checkpoint} as {self.get_format_display()}"

    @property
    def key(self) -> str:
        """The folder of the artifact store that holds it."""
        return f"{exports_key(self.checkpoint_id)}/{self.pk}"

    @property
    def bytes(self) -> int:
        """What its files add up to."""
        return sum(file["size"] for file in self.files)


def exports_key(checkpoint_id: uuid.UUID) -> str:
    """The folder of the artifact store that holds a checkpoint's exports."""
    return f"exports/{checkpoint_id}"


class ParityCheckQuerySet(WorkQuerySet["ParityCheck"]):
    """For the type checker, which does not find a generic manager."""


class ParityCheck(CheckpointWork):
    """The last comparison of a checkpoint with its exports, on `prompts`. `report` is a `ParityReport`."""

    prompts = models.JSONField()
    report = models.JSONField(null=True, blank=True)

    objects = ParityCheckQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["checkpoint"], name="parity_check_the_last")]
        indexes = [
            models.Index(fields=["id"], condition=Q(status__in=["waiting", "running"]), name="parity_check_open")
        ]

    def __str__(self) -> str:
        return f"the exports of {self.checkpoint}"
