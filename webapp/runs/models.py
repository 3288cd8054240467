"""Projects, runs, and what running them leaves behind."""

import uuid
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Case, F, Func, Q, Value, When
from django.db.models.functions import MD5, Coalesce, Lower

from polm_core.data.images import IMAGE_NAME
from webapp.accounts.models import Team, User
from webapp.datasets.models import DatasetVersion
from webapp.ids import new_id
from webapp.registry.models import BaseModel, Checkpoint


class Best(models.TextChoices):
    MIN = "min", "The lowest is best"
    MAX = "max", "The highest is best"


class Project(models.Model):
    """A folder of runs within a team.

    Of the checkpoints of each run the newest `keep_last` are kept (None keeps all), and the best by
    `keep_best_metric`; `retention_due` says that a worker has yet to apply this.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="projects")
    name = models.CharField(max_length=100)
    keep_last = models.PositiveIntegerField(null=True, blank=True)
    keep_best_metric = models.CharField(max_length=200, blank=True)
    keep_best_mode = models.CharField(max_length=3, choices=Best.choices, default=Best.MIN)
    retention_due = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint("team", Lower("name"), name="project_name_unique")]
        indexes = [models.Index(fields=["id"], condition=Q(retention_due=True), name="project_retention_due")]

    def __str__(self) -> str:
        return self.name


class Status(models.TextChoices):
    QUEUED = "queued", "Queued"
    STARTING = "starting", "Starting"
    RUNNING = "running", "Running"
    PAUSING = "pausing", "Pausing"
    PAUSED = "paused", "Paused"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"


# A worker holds a lease on a run in one of these.
ACTIVE = (Status.STARTING, Status.RUNNING, Status.PAUSING, Status.STOPPING)
FINISHED = (Status.STOPPED, Status.SUCCEEDED, Status.FAILED)


# Runs wait in lines, one for each person, whose heads take turns. Those that were moved by hand stand in a line of
# their own, and so do those whose creator's account is gone.
MOVED_LINE = uuid.UUID(int=2**128 - 1)
OWNERLESS_LINE = uuid.UUID(int=0)


# Characters of a line of a run's decision.
MAX_LINE = 500


class Verdict(models.TextChoices):
    """What a run said of its hypothesis."""

    ACCEPTED = "accepted", "Accepted"
    REJECTED = "rejected", "Rejected"
    UNCLEAR = "unclear", "Unclear"


class Worker(models.Model):
    """A worker process that has reported itself; `heartbeat_at` says when it last did.

    `boot_id` names its place: the boot, process space and state directory that it shares with the runs it started.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=200, unique=True)
    host = models.CharField(max_length=200)
    boot_id = models.CharField(max_length=40, blank=True)
    queues = ArrayField(models.CharField(max_length=30), default=list)
    devices = models.JSONField(default=list, blank=True)
    memory_bytes = models.BigIntegerField(default=0)
    labels = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    # Runs that may train on the CPU at a time, besides those that have GPUs.
    slots = models.PositiveSmallIntegerField(default=1)
    system = models.JSONField(default=dict, blank=True)
    draining = models.BooleanField(default=False)
    started_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

    @property
    def trains(self) -> bool:
        return "runs" in self.queues

    @property
    def gpus(self) -> dict[str, int]:
        return gpus_of(self.devices)


def gpus_of(devices: list[dict[str, Any]]) -> dict[str, int]:
    """A worker's GPUs by id, as CUDA_VISIBLE_DEVICES takes it, with their memory in GB."""
    return {device.get("uuid") or device["index"]: _gigabytes(device["memory_mb"]) for device in devices}


def _gigabytes(mebibytes: float) -> int:
    """Whole decimal gigabytes, as GPUs are sold."""
    return int(mebibytes * 1024**2 / 10**9)


class QueuePause(models.Model):
    """While there is one, workers take nothing new. There is at most one."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    since = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="queue_pause_single")]

    def __str__(self) -> str:
        return f"since {self.since}"


class RewardList(models.Model):
    """Rewards under a name and a version, for runs of a project to learn from. It is never changed.

    `rewards` are all settings of a `RewardsConfig`, and the models those that they ask for.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="reward_lists")
    name = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    rewards = models.JSONField()
    reward_model = models.ForeignKey(BaseModel, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    judge_model = models.ForeignKey(BaseModel, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint("project", Lower("name"), "version", name="reward_list_version_unique")]
        indexes = [models.Index(fields=["project", "-id"], name="reward_list_newest")]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @property
    def team_id(self) -> uuid.UUID:
        """Whose it is."""
        return self.project.team_id


class Run(models.Model):
    """One training job.

    The lease (`lease_owner`, `lease_until`, `lease_epoch`) says which worker may write to it: every write of a worker
    is conditional on the epoch it claimed, so a worker that lost its lease cannot spoil what its successor does.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="runs")
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="runs")
    name = models.CharField(max_length=200)
    notes = models.TextField(blank=True)
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    # Its decision line: what it was to show, what came out, and what that says of the first.
    hypothesis = models.CharField(max_length=MAX_LINE, blank=True)
    result = models.CharField(max_length=MAX_LINE, blank=True)
    verdict = models.CharField(max_length=10, choices=Verdict.choices, blank=True)

    # What is run: frozen at creation.
    method = models.CharField(max_length=50)
    model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="runs")
    # What scores the answers of a run that learns from its own, where their scores have a weight.
    reward_model = models.ForeignKey(
        BaseModel, null=True, blank=True, on_delete=models.PROTECT, related_name="scored_runs"
    )
    judge_model = models.ForeignKey(
        BaseModel, null=True, blank=True, on_delete=models.PROTECT, related_name="judged_runs"
    )
    # What it learns from, where its method has a teacher.
    teacher_model = models.ForeignKey(
        BaseModel, null=True, blank=True, on_delete=models.PROTECT, related_name="taught_runs"
    )
    # The pinned rewards that its settings hold, where it was launched with some.
    reward_list = models.ForeignKey(RewardList, null=True, blank=True, on_delete=models.PROTECT, related_name="runs")
    # None where its method takes no dataset.
    dataset_version = models.ForeignKey(
        DatasetVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="runs"
    )
    eval_dataset_version = models.ForeignKey(
        DatasetVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="eval_runs"
    )
    # What it answers from, where its method takes documents.
    documents_version = models.ForeignKey(
        DatasetVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="document_runs"
    )
    config = models.JSONField()
    code_version = models.CharField(max_length=60)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    request_id = models.CharField(max_length=100, blank=True)
    # How long it takes, as the preflight that it was launched after said, and for which kind of device.
    estimated_seconds = models.FloatField(null=True, blank=True)
    estimated_on = models.CharField(max_length=20, blank=True)

    # What it needs of a worker. A run that takes a GPU or the CPU, as it comes, has both `gpus` and `cpu_will_do`.
    gpus = models.PositiveSmallIntegerField(default=1)
    cpu_will_do = models.BooleanField(default=True)
    gpu_memory_gb = models.PositiveSmallIntegerField(default=0)
    labels = ArrayField(models.CharField(max_length=50), default=list, blank=True)

    # Where it is.
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    priority = models.SmallIntegerField(default=0)
    queued_at = models.DateTimeField(auto_now_add=True)
    # Its place in the fair order where somebody has moved it by hand; see webapp.runs.order.
    turn = models.PositiveIntegerField(null=True, blank=True)
    line = models.GeneratedField(
        expression=Case(
            When(turn__isnull=False, then=Value(MOVED_LINE)),
            default=Coalesce(F("created_by_id"), Value(OWNERLESS_LINE)),
        ),
        output_field=models.UUIDField(),
        db_persist=True,
    )
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    step = models.BigIntegerField(default=0)
    total_steps = models.BigIntegerField(default=0)
    progress = models.JSONField(default=dict, blank=True)
    error = models.JSONField(null=True, blank=True)
    # How often the process crashed or was killed; it is retried from its last checkpoint at most twice.
    crashes = models.PositiveSmallIntegerField(default=0)
    # The steps of the checkpoints that it was resumed from, the newest last.
    resumed_from = ArrayField(models.BigIntegerField(), default=list, blank=True)

    # Who runs it.
    worker = models.ForeignKey(Worker, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    # The ids of the GPUs that are its own while it runs.
    devices = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    lease_owner = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_epoch = models.PositiveIntegerField(default=0)
    # Where the training process is: its keeper's pid, and as `boot_id` the place of the worker that started it.
    child = models.JSONField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "request_id"], condition=~Q(request_id=""), name="run_request_unique"
            )
        ]
        indexes = [
            models.Index(fields=["team", "-id"], name="run_team_newest"),
            models.Index(fields=["team", "status", "-id"], name="run_team_status"),
            models.Index(fields=["team", "method", "-id"], name="run_team_method"),
            models.Index(fields=["project", "-id"], name="run_project_newest"),
            models.Index(fields=["project", "finished_at"], name="run_project_ended"),
            models.Index(
                fields=["priority", "line", "turn", "queued_at"], condition=Q(status="queued"), name="run_queue"
            ),
            models.Index(
                fields=["lease_until"],
                condition=Q(status__in=["starting", "running", "pausing", "stopping"]),
                name="run_leases",
            ),
            GinIndex(fields=["tags"], name="run_tags"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def held_out_version(self) -> DatasetVersion | None:
        """The dataset that held-out rows come from, where the run has any."""
        return self.eval_dataset_version or self.dataset_version


class MergeModel(models.Model):
    """A model that a run merges with the one that it starts from; `place` counts them from 1."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="merge_models")
    model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="merges")
    place = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["place"]
        constraints = [models.UniqueConstraint(fields=["run", "place"], name="merge_model_place_unique")]

    def __str__(self) -> str:
        return f"{self.model} in {self.run}"

    @property
    def holder(self) -> Run:
        """Whom a refusal to delete the model names."""
        return self.run


class RunView(models.Model):
    """A way to look at the list of runs, under a name: its owner's alone, or shared with the team.

    `filters` are the choices beside the search (`{"status": "failed"}`); without columns it has the usual ones. One
    whose owner's account is gone stays if it is shared.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="run_views")
    owner = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="run_views")
    name = models.CharField(max_length=100)
    shared = models.BooleanField(default=False)
    query = models.TextField(blank=True)
    filters = models.JSONField(default=dict, blank=True)
    columns = ArrayField(models.CharField(max_length=250), default=list, blank=True)
    sort = models.CharField(max_length=260, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "view"
        constraints = [
            models.UniqueConstraint("team", Lower("name"), condition=Q(shared=True), name="run_view_shared_unique"),
            models.UniqueConstraint(
                "team", "owner", Lower("name"), condition=Q(shared=False), name="run_view_own_unique"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class DefaultRunView(models.Model):
    """The view that a person's list of runs begins with in a team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    view = models.ForeignKey(RunView, on_delete=models.CASCADE, related_name="defaults")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="run_view_default_unique")]

    def __str__(self) -> str:
        return f"{self.view} of {self.user}"


class RunCheckpoint(models.Model):
    """Which checkpoint came out of which run."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="run_checkpoints")
    checkpoint = models.OneToOneField(Checkpoint, on_delete=models.CASCADE, related_name="run_checkpoint")
    step = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "step"], name="run_checkpoint_step_unique")]

    def __str__(self) -> str:
        return f"{self.run} at {self.step}"


class RemovedCheckpoint(models.Model):
    """A checkpoint of a run that its project did not keep."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="removed_checkpoints")
    step = models.BigIntegerField()
    removed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "step"], name="removed_checkpoint_step_unique")]

    def __str__(self) -> str:
        return f"{self.run} at {self.step}"


class RunDataset(models.Model):
    """Which dataset version was made of which run's answers."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="run_datasets")
    version = models.OneToOneField(DatasetVersion, on_delete=models.CASCADE, related_name="run_dataset")

    def __str__(self) -> str:
        return f"{self.version} of {self.run}"


def _figure(name: str) -> models.GeneratedField:
    """A number out of a sample's `data`, kept in a column by Postgres so that it can be sorted by."""
    value = Func(
        F("data"),
        template=f"CASE WHEN jsonb_typeof(%(expressions)s -> '{name}') = 'number' "
        f"THEN (%(expressions)s ->> '{name}')::double precision END",
    )
    return models.GeneratedField(expression=value, output_field=models.FloatField(null=True), db_persist=True)


def _best_first(name: str) -> models.Index:
    order = (F("run"), F(name).desc(nulls_last=True), F("id"))
    return models.Index(*order, condition=Q(is_rollout=True), name=f"run_sample_{name}")


class RunSample(models.Model):
    """One answer: to a held-out prompt, or a rollout, that the model learned from by its reward.

    `data` holds the reference; of a rollout also reward parts, the weighted reward, the advantage, and its place among
    the answers to its prompt (`place`) and the prompt's in the step (`group`), and perhaps a `note` on how it came. A
    prompt that was more than a question stands there as it was asked: `turns` for a conversation, `raw` for text
    without a chat template.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="samples")
    step = models.BigIntegerField()
    # Position in samples.jsonl; makes writing the same line twice impossible.
    offset = models.BigIntegerField()
    prompt = models.TextField()
    completion = models.TextField()
    is_rollout = models.BooleanField(default=False)
    data = models.JSONField(default=dict, blank=True)
    reward = _figure("reward")
    advantage = _figure("advantage")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "offset"], name="run_sample_offset_unique")]
        indexes = [
            models.Index(fields=["run", "step", "id"], name="run_sample_step"),
            models.Index(fields=["run", "is_rollout", "step", "id"], name="run_sample_kind"),
            # A prompt may be longer than an index takes.
            models.Index(F("run"), F("is_rollout"), MD5("prompt"), F("step"), F("id"), name="run_sample_prompt"),
            _best_first("reward"),
            _best_first("advantage"),
        ]

    def __str__(self) -> str:
        return f"{self.run} at {self.step}"

    @property
    def images(self) -> list[str]:
        """The names of the images that the prompt is about, as the dataset of held-out rows keeps them."""
        names = self.data.get("images")
        return [name for name in names if IMAGE_NAME.fullmatch(str(name))] if isinstance(names, list) else []


class RunLog(models.Model):
    """A piece of what the run printed; `offset` is its first byte in log.txt."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log_pieces")
    offset = models.BigIntegerField()
    text = models.TextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "offset"], name="run_log_offset_unique")]

    def __str__(self) -> str:
        return f"{self.run} from {self.offset}"


class Preflight(models.Model):
    """A preflight that a worker carries out; kept for an hour under the hash of what was asked."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    fingerprint = models.CharField(max_length=64)
    request = models.JSONField()
    report = models.JSONField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["team", "fingerprint", "-created_at"], name="preflight_lookup")]

    def __str__(self) -> str:
        return self.fingerprint
