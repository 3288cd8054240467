"""What people do to runs and projects."""

import datetime
import hashlib
import json
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from polm_core import __version__, catalogue
from polm_core.data.convert import compatible
from polm_core.formats import Format
from polm_core.method import Method, merged, no_documents
from polm_core.methods.integration.merge import MergeConfig, check_choice
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.accounts.services import audit
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from webapp.registry.models import BaseModel, ModelStatus
from webapp.registry.selectors import team_of_source
from webapp.registry.services import model_resolve_for_run
from webapp.runs.decisions import clean_line, decide
from webapp.runs.leases import announce
from webapp.runs.models import FINISHED, MergeModel, Preflight, Project, RewardList, Run, Status
from webapp.runs.reward_lists import reward_list_for_run, scoring_models
from webapp.runs.scoring import merged_models, teaching_model
from webapp.runs.selectors import runs_from
from webapp.runs.signals import run_moved
from webapp.tasks import PREFLIGHT, RUNS_WAKE, wake

DEFAULT_PROJECT = "Experiments"
MAX_TAGS = 20
MAX_LABELS = 10
MAX_GPU_MEMORY_GB = 10_000
PREFLIGHT_WAIT = 45.0
PREFLIGHT_KEPT = 3600

# A dataset, whose newest version is meant, or one of its versions.
Rows = str | uuid.UUID | DatasetVersion


class RunRequest:
    """What a run is made from, resolved and checked: nothing in it is the caller's word alone.

    Raises NotFound, Forbidden, or Invalid/ConfigError with the fields at fault.
    """

    def __init__(
        self,
        actor: Actor,
        *,
        method: str,
        model: str,
        dataset: Rows | None = None,
        eval_dataset: Rows | None = None,
        documents: Rows | None = None,
        reward_model: str | None = None,
        judge_model: str | None = None,
        teacher_model: str | None = None,
        merge_models: Sequence[str] = (),
        reward_list: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.method: Method = catalogue.get(method)
        self.config = self.method.parse(config or {}).model_dump(mode="json")
        self._check_datasets(dataset, eval_dataset)
        self.dataset_version = self._version(actor, dataset, "dataset") if dataset else None
        self.eval_dataset_version = self._version(actor, eval_dataset, "eval_dataset") if eval_dataset else None
        self.documents_version = self._documents(actor, documents) if self.method.takes_documents else None
        self.team: Team = self.dataset_version.dataset.team if self.dataset_version else team_of_source(actor, model)
        self.model: BaseModel = model_resolve_for_run(actor, model, team=self.team)
        if self.model.status == ModelStatus.FAILED:
            raise Conflict(
                f"The model {self.model.name} could not be prepared.",
                advice="See its page for the reason, or choose another.",
            )
        self.reward_list = reward_list_for_run(actor, reward_list, self.team) if reward_list else None
        if self.reward_list is not None:
            self._take(self.reward_list, config or {})
            reward_model = _ref(self.reward_list.reward_model_id)
            judge_model = _ref(self.reward_list.judge_model_id)
        rewards = self.config.get("rewards", {})
        models = scoring_models(actor, self.team, rewards, reward_model, judge_model)
        self.reward_model, self.judge_model = models["reward_model"], models["judge_model"]
        self.teacher_model = (
            teaching_model(actor, self.method.teacher, self.model, teacher_model, self.team)
            if self.method.teacher
            else None
        )
        self.merge_models: list[BaseModel] = []
        if self.method.merges:
            check_choice(cast(MergeConfig, self.method.parse(self.config)), 1 + len(merge_models))
            self.merge_models = merged_models(actor, self.model, merge_models, self.team)

    def _check_datasets(self, dataset: Any, eval_dataset: Any) -> None:
        """Raise Invalid unless there is a dataset where the method takes one, and no other rows than it takes."""
        title, takes = self.method.title, bool(self.method.formats)
        if bool(dataset) != takes:
            raise Invalid(
                f"{title} takes {'a' if takes else 'no'} dataset.",
                advice=f"Name one of {' or '.join(self.method.formats)} rows." if takes else "Leave it out.",
                fields={"dataset": ["must name a dataset" if takes else "must be left out"]},
            )
        if eval_dataset and not self.method.holds_out:
            raise Invalid(
                f"{title} takes no held-out set.",
                advice="Leave it out.",
                fields={"eval_dataset": ["must be left out"]},
            )

    def _take(self, pinned: RewardList, config: Mapping[str, Any]) -> None:
        """Put the pinned rewards into the settings, which must not give others."""
        taken = self.method.parse({**config, "rewards": pinned.rewards}).model_dump(mode="json")
        if "rewards" in config and self.config["rewards"] != taken["rewards"]:
            raise Invalid(
                f"The settings give other rewards than {pinned} does.",
                advice="Leave rewards out of the settings, or name no reward list.",
                fields={"reward_list": [f"must not be given with rewards that differ from {pinned}"]},
            )
        self.config = taken

    def _version(self, actor: Actor, ref: Rows, field: str) -> DatasetVersion:
        return version_for_run(actor, ref, formats=self.method.formats, title=self.method.title, field=field)

    def _documents(self, actor: Actor, ref: Rows | None) -> DatasetVersion:
        if not ref:
            raise no_documents()
        title = f"{self.method.title}, as its documents,"
        return version_for_run(actor, ref, formats=[Format.DOCUMENTS], title=title, field="documents")

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method.slug,
            "model": str(self.model.pk),
            "reward_model": str(self.reward_model.pk) if self.reward_model else None,
            "judge_model": str(self.judge_model.pk) if self.judge_model else None,
            "teacher_model": str(self.teacher_model.pk) if self.teacher_model else None,
            "merge_models": [str(one.pk) for one in self.merge_models],
            "dataset_version": str(self.dataset_version.pk) if self.dataset_version else None,
            "eval_dataset_version": str(self.eval_dataset_version.pk) if self.eval_dataset_version else None,
            "documents_version": str(self.documents_version.pk) if self.documents_version else None,
            "config": self.config,
        }


def version_for_run(actor: Actor, ref: Rows, *, formats: Collection[Format], title: str, field: str) -> DatasetVersion:
    """The newest version of the dataset with that id, or that version itself, if it is ready and serves `formats`.

    Raises Invalid, which names the `field` that `ref` was given in and the `title` of what would train on it, or
    Conflict while it is being processed.
    """
    try:
        pk = ref.dataset_id if isinstance(ref, DatasetVersion) else ref
        dataset = actor.get(Dataset.objects.select_related("team"), pk, Role.MEMBER)
    except NotFound:
        raise Invalid("There is no such dataset.", fields={field: ["names no dataset of yours"]}) from None
    versions = dataset.versions.select_related("dataset__team").order_by("-number")
    version = versions.filter(pk=ref.pk).first() if isinstance(ref, DatasetVersion) else versions.first()
    if version is None or version.status == VersionStatus.INVALID:
        raise Invalid(
            f"The dataset {dataset.name} is invalid.",
            advice="Open it to see what is wrong with the file.",
            fields={field: ["is not usable: its file has problems"]},
        )
    if version.status == VersionStatus.PROCESSING:
        raise Conflict(f"The dataset {dataset.name} is still being processed.", advice="Try again when it is ready.")
    fit = compatible(formats, Format(version.format))
    if not fit.ok:
        raise Invalid(f"{title} cannot use {dataset.name}.", advice=fit.reason, fields={field: [fit.reason]})
    return version


def run_create(
    *,
    actor: Actor,
    method: str,
    model: str,
    dataset: Rows | None = None,
    eval_dataset: Rows | None = None,
    documents: Rows | None = None,
    reward_model: str | None = None,
    judge_model: str | None = None,
    teacher_model: str | None = None,
    merge_models: Sequence[str] = (),
    reward_list: str | None = None,
    config: Mapping[str, Any] | None = None,
    project: str | None = None,
    name: str = "",
    notes: str = "",
    hypothesis: str = "",
    priority: int = 0,
    labels: Iterable[str] = (),
    gpu_memory_gb: int = 0,
    tags: Iterable[str] = (),
    request_id: str = "",
    parent: Run | None = None,
) -> Run:
    """Queue a run and wake a worker. The same `request_id` twice in a team gives the same run."""
    request = RunRequest(
        actor,
        method=method,
        model=model,
        dataset=dataset,
        eval_dataset=eval_dataset,
        documents=documents,
        reward_model=reward_model,
        judge_model=judge_model,
        teacher_model=teacher_model,
        merge_models=merge_models,
        reward_list=reward_list,
        config=config,
    )
    team = request.team
    if request_id and (known := Run.objects.filter(team=team, request_id=request_id).first()):
        return known
    try:
        with transaction.atomic():
            versions_hold(request.dataset_version, request.eval_dataset_version, request.documents_version)
            run = Run.objects.create(
                team=team,
                project=project_for(actor=actor, team=team, ref=project),
                name=name.strip() or _default_name(request),
                notes=notes,
                hypothesis=clean_line("hypothesis", hypothesis),
                tags=clean_tags(tags),
                priority=clean_priority(priority),
                labels=clean_labels(labels),
                **hardware_asked(request.config, gpu_memory_gb),
                method=request.method.slug,
                model=request.model,
                reward_model=request.reward_model,
                judge_model=request.judge_model,
                teacher_model=request.teacher_model,
                reward_list=request.reward_list,
                dataset_version=request.dataset_version,
                eval_dataset_version=request.eval_dataset_version,
                documents_version=request.documents_version,
                config=request.config,
                code_version=__version__,
                parent=parent,
                request_id=request_id,
                created_by=actor.user,
            )
            MergeModel.objects.bulk_create(
                MergeModel(run=run, model=one, place=place) for place, one in enumerate(request.merge_models, 1)
            )
            audit(actor=actor, team_id=team.pk, verb="run.create", target=run)
            announce(run, status=run.status)
            wake(RUNS_WAKE)
    except IntegrityError:
        if not request_id:
            raise
        return Run.objects.get(team=team, request_id=request_id)
    return run


def versions_hold(*versions: DatasetVersion | None) -> None:
    """Hold the rows of runs against a deletion at the same moment. Raises Conflict when they are gone."""
    wanted = {version.pk for version in versions if version is not None}
    held = DatasetVersion.objects.select_for_update(no_key=True, of=("self",)).filter(pk__in=wanted)
    if len(held) != len(wanted):
        raise Conflict("The dataset has just been deleted.", advice="Choose another one.")


def run_clone(*, actor: Actor, run: Run, changes: Mapping[str, Any] | None = None, name: str = "") -> Run:
    """A new run like this one, with some settings changed; the old one is its parent."""
    actor.require(run.team_id, Role.MEMBER, "run")
    config = merged(run.config, changes or {})
    keeps_rewards = config.get("rewards") == run.config.get("rewards")
    return run_create(
        actor=actor,
        method=run.method,
        model=str(run.model_id),
        dataset=run.dataset_version.dataset_id if run.dataset_version else None,
        eval_dataset=run.eval_dataset_version.dataset_id if run.eval_dataset_version else None,
        documents=run.documents_version.dataset_id if run.documents_version else None,
        reward_model=_ref(run.reward_model_id),
        judge_model=_ref(run.judge_model_id),
        teacher_model=_ref(run.teacher_model_id),
        merge_models=[str(one.model_id) for one in run.merge_models.all()],
        reward_list=_ref(run.reward_list_id) if keeps_rewards else None,
        config=config,
        project=str(run.project_id),
        name=name,
        labels=run.labels,
        gpu_memory_gb=run.gpu_memory_gb,
        tags=run.tags,
        parent=run,
    )


def run_stop(*, actor: Actor, run: Run) -> Run:
    """End the run, keeping a final checkpoint. A run that has not started ends at once."""
    return _move(
        actor,
        run,
        "run.stop",
        {
            Status.QUEUED: Status.STOPPED,
            Status.PAUSED: Status.STOPPED,
            Status.STARTING: Status.STOPPING,
            Status.RUNNING: Status.STOPPING,
            Status.PAUSING: Status.STOPPING,
        },
    )


def run_pause(*, actor: Actor, run: Run) -> Run:
    """Checkpoint and make room; `run_resume` goes on from there."""
    return _move(
        actor,
        run,
        "run.pause",
        {Status.QUEUED: Status.PAUSED, Status.STARTING: Status.PAUSING, Status.RUNNING: Status.PAUSING},
    )


def run_resume(*, actor: Actor, run: Run) -> Run:
    """Queue the run again, to go on from its last checkpoint."""
    return _move(
        actor,
        run,
        "run.resume",
        {Status.PAUSED: Status.QUEUED, Status.STOPPED: Status.QUEUED, Status.FAILED: Status.QUEUED},
    )


def _move(actor: Actor, run: Run, verb: str, moves: Mapping[Status, Status]) -> Run:
    actor.require(run.team_id, Role.MEMBER, "run")
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run.pk)
        target = moves.get(Status(run.status))
        if target is None:
            allowed = ", ".join(moves)
            raise Conflict(
                f"The run is {run.get_status_display().lower()}.", advice=f"This is possible while a run is {allowed}."
            )
        run.status = target
        if target == Status.QUEUED:
            run.error = None
            run.finished_at = None
            run.crashes = 0
            run.queued_at = timezone.now()
            run.turn = None
            wake(RUNS_WAKE)
        elif target in FINISHED:
            run.finished_at = timezone.now()
        run.save(update_fields=["status", "error", "finished_at", "crashes", "queued_at", "turn"])
        audit(actor=actor, team_id=run.team_id, verb=verb, target=run)
        announce(run, status=run.status)
        run_moved.send(Run, run=run)
    return run


def run_update(
    *,
    actor: Actor,
    run: Run,
    name: str | None = None,
    notes: str | None = None,
    tags: Iterable[str] | None = None,
    priority: int | None = None,
    hypothesis: str | None = None,
    result: str | None = None,
    verdict: str | None = None,
) -> Run:
    """Change what people say about a run; what it ran stays as it was. Raises Invalid.

    Raises Conflict for a `result` or a `verdict` of a run that has not finished.
    """
    actor.require(run.team_id, Role.MEMBER, "run")
    changed = []
    if name is not None:
        run.name = name.strip()
        if not run.name or len(run.name) > 200:
            raise Invalid("The name is not accepted.", fields={"name": ["must have 1 to 200 characters"]})
        changed.append("name")
    if notes is not None:
        run.notes = notes[:20_000]
        changed.append("notes")
    if tags is not None:
        run.tags = clean_tags(tags)
        changed.append("tags")
    if priority is not None:
        run.priority = clean_priority(priority)
        run.turn = None
        changed += ["priority", "turn"]
    changed += decide(run, hypothesis=hypothesis, result=result, verdict=verdict)
    with transaction.atomic():
        run.save(update_fields=changed)
        audit(actor=actor, team_id=run.team_id, verb="run.update", target=run, detail={"changed": changed})
        announce(run, status=run.status)
    return run


def run_delete(*, actor: Actor, run: Run) -> None:
    """Delete a run that is not being worked on, with its metrics, samples and log.

    Raises Conflict while it runs, and when something still uses one of its checkpoints.
    """
    actor.require(run.team_id, Role.MEMBER, "run")
    if run.created_by_id != actor.user.pk and not actor.holds(Role.ADMIN, run.team_id):
        raise Forbidden("The run is somebody else's.", advice="Ask them or an admin of the team to delete it.")
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run.pk)
        if run.status not in (*FINISHED, Status.PAUSED, Status.QUEUED):
            raise Conflict("The run is being worked on.", advice="Stop it first.")
        users = runs_from(run).exclude(pk=run.pk)
        if users.exists():
            raise Conflict(
                "Other runs started from a checkpoint of this one, or merged it.",
                advice="Delete them first: " + ", ".join(str(pk) for pk in users.values_list("pk", flat=True)[:10]),
            )
        audit(actor=actor, team_id=run.team_id, verb="run.delete", target=run, detail={"name": run.name})
        _delete_checkpoints(run)
        announce(run, status="deleted")
        run.delete()


def _delete_checkpoints(run: Run) -> None:
    from webapp.registry.services import checkpoint_delete_all

    checkpoint_delete_all([link.checkpoint for link in run.run_checkpoints.select_related("checkpoint")])


def project_for(*, actor: Actor, team: Team, ref: str | None) -> Project:
    """The project with that id or name in the team; a new name makes a new project."""
    if not ref:
        return Project.objects.get_or_create(team=team, name=DEFAULT_PROJECT)[0]
    try:
        return actor.get(Project.objects.filter(team=team), uuid.UUID(ref), Role.MEMBER)
    except NotFound:
        raise Invalid("There is no such project.", fields={"project": ["names no project of this team"]}) from None
    except ValueError:
        name = ref.strip()
    if len(name) > 100:
        raise Invalid("The project's name is too long.", fields={"project": ["at most 100 characters"]})
    known = Project.objects.filter(team=team, name__iexact=name).first()
    return known or Project.objects.create(team=team, name=name)


def preflight_request(
    *,
    actor: Actor,
    method: str,
    model: str,
    dataset: str | uuid.UUID | None = None,
    eval_dataset: str | uuid.UUID | None = None,
    documents: str | uuid.UUID | None = None,
    reward_model: str | None = None,
    judge_model: str | None = None,
    teacher_model: str | None = None,
    merge_models: Sequence[str] = (),
    reward_list: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Preflight:
    """Ask a worker to look at the data as the model would see it; the same question is answered from the last hour."""
    asked = RunRequest(
        actor,
        method=method,
        model=model,
        dataset=dataset,
        eval_dataset=eval_dataset,
        documents=documents,
        reward_model=reward_model,
        judge_model=judge_model,
        teacher_model=teacher_model,
        merge_models=merge_models,
        reward_list=reward_list,
        config=config,
    )
    request, team_id = asked.as_dict(), asked.team.pk
    fingerprint = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    fresh = timezone.now() - datetime.timedelta(seconds=PREFLIGHT_KEPT)
    known = (
        Preflight.objects.filter(team_id=team_id, fingerprint=fingerprint, created_at__gt=fresh)
        .filter(
            Q(report__isnull=False)
            | Q(error__isnull=True, created_at__gt=timezone.now() - datetime.timedelta(seconds=60))
        )
        .order_by("-created_at")
        .first()
    )
    if known:
        return known
    with transaction.atomic():
        preflight = Preflight.objects.create(team_id=team_id, fingerprint=fingerprint, request=request)
        wake(PREFLIGHT, preflight.pk)
    return preflight


def preflight_wait(preflight: Preflight, *, seconds: float = PREFLIGHT_WAIT) -> dict[str, Any]:
    """The report, once a worker has it. Raises Unavailable when none answers in time."""
    deadline = time.monotonic() + seconds
    while preflight.report is None and preflight.error is None:
        if time.monotonic() > deadline:
            raise Unavailable(
                "No worker has answered.", advice="Check that a worker for light work is running, then try again."
            )
        time.sleep(0.1)
        preflight.refresh_from_db()
    if preflight.error is not None:
        error = preflight.error
        raise Invalid(error["message"], code=error["code"], advice=error["advice"], fields=error["fields"])
    return dict(preflight.report or {})


def preflight_finish(
    *, preflight_id: str, report: dict[str, Any] | None = None, error: dict[str, Any] | None = None
) -> None:
    """A worker's answer; the old ones are forgotten on the way."""
    Preflight.objects.filter(pk=preflight_id).update(report=report, error=error)
    Preflight.objects.filter(created_at__lt=timezone.now() - datetime.timedelta(seconds=PREFLIGHT_KEPT)).delete()


def clean_tags(tags: Iterable[str]) -> list[str]:
    """Tags without blanks and repeats, in the order given."""
    cleaned = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if len(cleaned) > MAX_TAGS or any(len(tag) > 50 for tag in cleaned):
        raise Invalid(
            "The tags are not accepted.", fields={"tags": [f"at most {MAX_TAGS} tags of at most 50 characters"]}
        )
    return cleaned


def clean_priority(priority: int) -> int:
    """The priority, if it is one."""
    if not -10 <= priority <= 10:
        raise Invalid("The priority is not accepted.", fields={"priority": ["must be from -10 to 10"]})
    return priority


def clean_labels(labels: Iterable[str]) -> list[str]:
    """Labels that a worker must carry, without blanks and repeats."""
    cleaned = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(cleaned) > MAX_LABELS or any(len(label) > 50 or "," in label for label in cleaned):
        right = f"at most {MAX_LABELS} labels of at most 50 characters, without commas"
        raise Invalid("The labels are not accepted.", fields={"labels": [right]})
    return cleaned


def hardware_asked(config: Mapping[str, Any], gpu_memory_gb: int) -> dict[str, Any]:
    """What the settings ask of a worker: a GPU for each process, unless they say how many or that the CPU will do."""
    if not 0 <= gpu_memory_gb <= MAX_GPU_MEMORY_GB:
        right = f"must be from 0, which is any, to {MAX_GPU_MEMORY_GB}"
        raise Invalid("The GPU memory is not accepted.", fields={"gpu_memory_gb": [right]})
    devices = config.get("devices", "auto")
    if devices == 0 and gpu_memory_gb:
        right = "must be 0 for a run on the CPU: its devices are set to 0"
        raise Invalid("A run on the CPU has no GPU memory.", fields={"gpu_memory_gb": [right]})
    if devices == "auto":
        gpus, cpu_will_do = config.get("processes", 1), not gpu_memory_gb
    else:
        gpus, cpu_will_do = devices, devices == 0
    return {"gpus": gpus, "cpu_will_do": cpu_will_do, "gpu_memory_gb": gpu_memory_gb}


def _ref(pk: uuid.UUID | None) -> str | None:
    return str(pk) if pk else None


def _default_name(request: RunRequest) -> str:
    count = Run.objects.filter(team=request.team, method=request.method.slug).count()
    return f"{request.method.slug}-{count + 1}"
