"""What people do to runs and projects."""

import datetime
import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from polm_core import __version__
from polm_core.method import merged
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.accounts.services import audit
from webapp.datasets.models import DatasetVersion
from webapp.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from webapp.runs.decisions import clean_line, decide
from webapp.runs.estimates import seconds_of_report
from webapp.runs.leases import announce
from webapp.runs.models import FINISHED, MergeModel, Preflight, Project, Run, Status
from webapp.runs.requests import (
    Rows,
    RunRequest,
    clean_labels,
    clean_priority,
    clean_tags,
    hardware_asked,
    ref_of,
)
from webapp.runs.selectors import runs_from
from webapp.runs.signals import run_moved
from webapp.tasks import PREFLIGHT, RUNS_WAKE, wake

DEFAULT_PROJECT = "Experiments"
PREFLIGHT_WAIT = 45.0
PREFLIGHT_KEPT = 3600


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
                **_estimated(request),
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
        reward_model=ref_of(run.reward_model_id),
        judge_model=ref_of(run.judge_model_id),
        teacher_model=ref_of(run.teacher_model_id),
        merge_models=[str(one.model_id) for one in run.merge_models.all()],
        reward_list=ref_of(run.reward_list_id) if keeps_rewards else None,
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
    row: int | None = None,
) -> Preflight:
    """Ask a worker to look at the data as the model would see it; the same question is answered from the last hour.

    With the number of a `row`, counted from 0, the answer is that row alone.
    """
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
    request, team_id = asked.as_dict() | ({} if row is None else {"row": row}), asked.team.pk
    known = (
        _preflights_of(team_id, request)
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
        preflight = Preflight.objects.create(team_id=team_id, fingerprint=_fingerprint(request), request=request)
        wake(PREFLIGHT, preflight.pk)
    return preflight


def _fingerprint(request: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _preflights_of(team_id: uuid.UUID, request: dict[str, Any]) -> QuerySet[Preflight]:
    """The preflights of the last hour that asked for just this."""
    fresh = timezone.now() - datetime.timedelta(seconds=PREFLIGHT_KEPT)
    return Preflight.objects.filter(team_id=team_id, fingerprint=_fingerprint(request), created_at__gt=fresh)


def _estimated(request: RunRequest) -> dict[str, Any]:
    """What a preflight of the same run has said of its time; nothing where there was none."""
    reports = _preflights_of(request.team.pk, request.as_dict()).filter(report__seconds__gt=0).order_by("-created_at")
    for seconds, device in reports.values_list("report__seconds", "report__device")[:1]:
        return {"estimated_seconds": seconds, "estimated_on": device or ""}
    return {}


def preflight_answer(*, actor: Actor, row: int | None = None, **asked: Any) -> dict[str, Any]:
    """The report on what is `asked` (as `preflight_request` takes it), with what finished runs say of its time.

    `example_row` is the row of that number, if one is asked for and there are rows that can be looked at. Raises
    Unavailable when no worker answers in time, Invalid for a row that is not there.
    """
    preflight = preflight_request(actor=actor, **asked)
    shown = preflight_request(actor=actor, row=row, **asked) if row is not None else None
    report = preflight_wait(preflight)
    expected = seconds_of_report(preflight.team_id, preflight.request["method"], report)
    report["expected_seconds"], report["expected_from_runs"] = expected or (None, 0)
    if shown is not None:
        report["example_row"] = preflight_wait(shown) if report.get("first_example") else None
    return report


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


def _default_name(request: RunRequest) -> str:
    count = Run.objects.filter(team=request.team, method=request.method.slug).count()
    return f"{request.method.slug}-{count + 1}"
