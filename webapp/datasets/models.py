"""Datasets and their immutable versions."""

from django.db import models
from django.db.models.functions import Lower
from django.utils.text import slugify

from polm_core.formats import Format
from webapp.accounts.models import Team, User
from webapp.claimed import ClaimedWork, WorkQuerySet
from webapp.ids import new_id


class Origin(models.TextChoices):
    """Where the rows come from, as the survey distinguishes it."""

    HUMAN = "human-labelled", "Human-labelled"
    DISTILLED = "distilled", "Distilled from a model"
    SYNTHETIC = "synthetic", "Synthetic"
    UNKNOWN = "unknown", "Not stated"


class VersionStatus(models.TextChoices):
    PROCESSING = "processing", "Processing"
    READY = "ready", "Ready"
    INVALID = "invalid", "Invalid"


class Dataset(models.Model):
    """A named set of rows; what runs use is one of its versions."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    origin = models.CharField(max_length=20, choices=Origin.choices, default=Origin.UNKNOWN)
    origin_model = models.CharField(max_length=200, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint("team", Lower("name"), name="dataset_name_unique")]
        indexes = [models.Index(fields=["team", "-id"], name="dataset_team_newest")]

    def __str__(self) -> str:
        return self.name


class DatasetVersion(models.Model):
    """One processed state of a dataset. Once ready it never changes: a new mapping or file makes a new version.

    `rows_key` is the folder in the artifact store that holds `rows.jsonl` and `rows.idx`; `source_key` the file as it
    was uploaded. `report` is `polm_core.data`'s PrepareReport.

    Where no file was uploaded, `derivation` says what the rows are made of (see `webapp.datasets.derivations`), and
    `made_from` is the version whose rows were converted or added to.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(default=1)
    status = models.CharField(max_length=12, choices=VersionStatus.choices, default=VersionStatus.PROCESSING)
    filename = models.CharField(max_length=255)
    source_key = models.CharField(max_length=300, blank=True)
    source_bytes = models.BigIntegerField(default=0)
    rows_key = models.CharField(max_length=300, blank=True)
    format = models.CharField(max_length=30, blank=True)
    requested_format = models.CharField(max_length=30, blank=True)
    requested_mapping = models.JSONField(null=True, blank=True)
    rows = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    derivation = models.JSONField(default=dict, blank=True)
    made_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="made_into")
    report = models.JSONField(default=dict, blank=True)
    progress = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    processed_at = models.DateTimeField(null=True, blank=True)
    # The processing task's claim: a lost worker's claim runs out and another takes over. Every write of a worker is
    # conditional on the epoch it claimed.
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_epoch = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    woken_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["dataset", "number"], name="dataset_version_number_unique")]
        indexes = [
            models.Index(fields=["lease_until"], condition=models.Q(status="processing"), name="dataset_version_leases")
        ]

    def __str__(self) -> str:
        return f"{self.dataset} v{self.number}"

    @property
    def has_images(self) -> bool:
        return self.format == Format.IMAGE_CONVERSATION

    @property
    def rows_filename(self) -> str:
        """What its rows are called once they are downloaded."""
        return f"{slugify(self.dataset.name)[:80] or 'rows'}-v{self.number}.jsonl"


class VersionDiffQuerySet(WorkQuerySet["VersionDiff"]):
    """For the type checker, which does not find a generic manager."""


class VersionDiff(ClaimedWork):
    """What the rows of two ready versions have in common; both never change, so it is worked out once.

    `report` is `polm_core.data`'s RowsDiff.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    before = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="+")
    after = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="+")
    progress = models.JSONField(default=dict, blank=True)
    report = models.JSONField(null=True, blank=True)
    asked_at = models.DateTimeField(auto_now_add=True)

    objects = VersionDiffQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["before", "after"], name="version_diff_unique")]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(status__in=["waiting", "running"]), name="version_diff_open")
        ]

    def __str__(self) -> str:
        return f"{self.before_id} to {self.after_id}"


class DatasetCard(models.Model):
    """What people say about a dataset at length, as markdown. `number` counts how often it was saved."""

    dataset = models.OneToOneField(Dataset, primary_key=True, on_delete=models.CASCADE, related_name="card")
    body = models.TextField(blank=True)
    number = models.PositiveIntegerField(default=0)
    updated_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"card of {self.dataset_id}"
