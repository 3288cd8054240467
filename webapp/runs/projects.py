"""Projects: their settings, and which checkpoints of their runs are kept."""

import logging
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Count
from django.db.models.fields.reverse_related import ForeignObjectRel

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.errors import Conflict, Forbidden, Invalid
from webapp.live.notify import publish
from webapp.registry.models import Checkpoint, Share
from webapp.registry.services import checkpoint_delete_all
from webapp.runs.leases import announce
from webapp.runs.models import Best, Project, RemovedCheckpoint, Run, RunCheckpoint
from webapp.tasks import PROJECT_RETAIN, wake

logger = logging.getLogger(__name__)

MAX_KEPT = 10_000
MAX_METRIC = 200


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of each run are kept: the newest `keep_last` (None keeps all), and the best by a metric."""

    keep_last: int | None = None
    best_metric: str = ""
    best_mode: str = Best.MIN


def project_update(
    *, actor: Actor, project: Project, name: str | None = None, retention: Retention | None = None
) -> Project:
    """Rename a project, or change what it keeps; a worker then removes what it keeps no more. Raises Invalid."""
    actor.require(project.team_id, Role.ADMIN, "project")
    if name is not None:
        project.name = name.strip()
        if not 1 <= len(project.name) <= 100 or not project.name.isprintable():
            raise Invalid("The name is not accepted.", fields={"name": ["must have 1 to 100 printable characters"]})
    if retention is not None:
        _check(retention)
        project.keep_last = retention.keep_last
        project.keep_best_metric = retention.best_metric.strip()
        project.keep_best_mode = retention.best_mode
        project.retention_due = retention.keep_last is not None
    changed = {
        "name": project.name,
        "keep_last": project.keep_last,
        "best_metric": project.keep_best_metric,
        "best_mode": project.keep_best_mode,
    }
    try:
        with transaction.atomic():
            project.save(update_fields=["name", "keep_last", "keep_best_metric", "keep_best_mode", "retention_due"])
            audit(actor=actor, team_id=project.team_id, verb="project.update", target=project, detail=changed)
            if project.retention_due:
                wake(PROJECT_RETAIN, project.pk)
    except IntegrityError:
        raise Invalid("The name is taken.", fields={"name": ["is that of another project of the team"]}) from None
    return project


def run_set_project(*, actor: Actor, run: Run, project: Project) -> Run:
    """Put a run into another project of its team, which from then on says which of its checkpoints are kept.

    Where that deletes some, the run has to be one's own, or one has to be an admin: as for deleting it.
    """
    actor.require(run.team_id, Role.MEMBER, "run")
    if project.team_id != run.team_id:
        raise Invalid("There is no such project.", fields={"project": ["names no project of the run's team"]})
    keeps_all = project.keep_last is None
    if not keeps_all and run.created_by_id != actor.user.pk and not actor.holds(Role.ADMIN, run.team_id):
        raise Forbidden(
            f"The run is somebody else's, and {project} keeps but {project.keep_last} of each run's checkpoints.",
            advice="Ask them or an admin of the team to move it.",
        )
    with transaction.atomic():
        run.project = project
        run.save(update_fields=["project"])
        detail = {"changed": ["project"], "project": project.name}
        audit(actor=actor, team_id=run.team_id, verb="run.update", target=run, detail=detail)
        announce(run, status=run.status)
        if not keeps_all:
            Project.objects.filter(pk=project.pk).update(retention_due=True)
            wake(PROJECT_RETAIN, project.pk)
    return run


def _check(retention: Retention) -> None:
    if retention.keep_last is not None and not 1 <= retention.keep_last <= MAX_KEPT:
        problem = f"must be from 1 to {MAX_KEPT:,}, or empty to keep all"
        raise Invalid("The number of checkpoints is not accepted.", fields={"keep_last": [problem]})
    if len(retention.best_metric) > MAX_METRIC or not retention.best_metric.isprintable():
        problem = f"must be the name of a metric, such as eval/loss, of at most {MAX_METRIC} characters"
        raise Invalid("The metric is not accepted.", fields={"best_metric": [problem]})
    if retention.best_mode not in Best.values:
        problem = f"must be {' or '.join(Best.values)}"
        raise Invalid("The mode is not accepted.", fields={"best_mode": [problem]})


def project_retain(project_id: uuid.UUID | str) -> None:
    """Apply what a project keeps to each of its runs; the reaper asks again until it is done."""
    project = Project.objects.filter(pk=project_id).first()
    if project is None:
        return
    policy = {
        name: getattr(project, name) for name in ("keep_last", "keep_best_metric", "keep_best_mode", "retention_due")
    }
    if project.keep_last is not None:
        runs = Run.objects.filter(project=project).annotate(stored=Count("run_checkpoints"))
        for run_id in runs.filter(stored__gt=project.keep_last).values_list("pk", flat=True):
            run_retain(run_id=run_id)
    # A policy that was changed meanwhile is still due.
    Project.objects.filter(pk=project.pk, **policy).update(retention_due=False)


def run_retain(*, run_id: uuid.UUID) -> list[int]:
    """Delete the checkpoints of a run that its project does not keep, and return their steps.

    The newest is always kept, and so is whatever is shared or something was started from or tried with.
    """
    try:
        with transaction.atomic():
            run = Run.objects.select_for_update(of=("self",)).select_related("project").filter(pk=run_id).first()
            if run is None or run.project.keep_last is None:
                return []
            stored = list(
                Checkpoint.objects.select_for_update(of=("self",))
                .filter(run_checkpoint__run=run)
                .order_by("-run_checkpoint__step")
            )
            gone = _not_kept(run.project, stored)
            for checkpoint in gone:
                detail = {"run": str(run.pk), "name": checkpoint.name, "step": checkpoint.step}
                audit(actor=None, team_id=run.team_id, verb="checkpoint.retention", target=checkpoint, detail=detail)
                RemovedCheckpoint.objects.get_or_create(run=run, step=checkpoint.step)
            checkpoint_delete_all(gone)
            if gone:
                publish(f"run:{run.pk}", "checkpoint", {"removed": [checkpoint.step for checkpoint in gone][:100]})
    except Conflict as error:
        logger.warning("Run %s keeps more checkpoints than its project asks for: %s", run_id, error)
        return []
    return [checkpoint.step for checkpoint in gone]


def _not_kept(project: Project, newest_first: Sequence[Checkpoint]) -> list[Checkpoint]:
    rest = newest_first[project.keep_last :]
    best = _best(project, newest_first)
    used = _used(rest)
    return [checkpoint for checkpoint in rest if checkpoint.pk not in used and checkpoint is not best]


def _best(project: Project, checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """The best by the project's metric; of equal ones the earliest, which is the one that was measured."""
    sign = -1 if project.keep_best_mode == Best.MAX else 1
    measured = [
        (sign * value, checkpoint.step, checkpoint)
        for checkpoint in checkpoints
        if (value := checkpoint.metrics.get(project.keep_best_metric)) is not None and math.isfinite(value)
    ]
    return min(measured, key=lambda one: one[:2])[2] if measured else None


def _used(checkpoints: Sequence[Checkpoint]) -> set[uuid.UUID]:
    """Those that are shared, and those that any row of any app refers to: models, later checkpoints, answers."""
    wanted = [checkpoint.pk for checkpoint in checkpoints]
    used = set(Share.objects.active().filter(checkpoint__in=wanted).values_list("checkpoint", flat=True))
    for relation in Checkpoint._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and relation.field.model not in (RunCheckpoint, Share):
            name = relation.field.name
            users = relation.field.model._default_manager.filter(**{f"{name}__in": wanted})
            used |= set(users.values_list(name, flat=True))
    return used
