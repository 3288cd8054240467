"""What workers do to runs: claim, renew, finish, hand back.

A claim raises the run's epoch; every later write is conditional on it. A worker whose lease another has taken over
gets `LeaseLost` from its next write and stops supervising.

Leases are timed by the database's clock alone: those of the machines may differ, or jump.
"""

import datetime
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Case, F, IntegerField, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from polm_core.errors import DISK_FULL
from polm_core.run_dir import Outcome, Progress, Result
from webapp.live.notify import publish
from webapp.registry.models import ModelStatus
from webapp.runs.models import ACTIVE, Run, Status, Worker

LEASE = datetime.timedelta(seconds=15)
# How long an expired lease is left to the place that holds the run directory before another may start afresh.
ELSEWHERE_AFTER = datetime.timedelta(seconds=90)
# A training process whose supervisor could not renew the lease for this long saves and ends, before that happens.
ABANDONED_AFTER = LEASE + ELSEWHERE_AFTER * 2 / 3
MAX_CRASHES = 2


class LeaseLost(Exception):
    """Another worker supervises this run now."""


@dataclass(frozen=True)
class Claim:
    """The right to supervise a run until the lease ends."""

    run_id: uuid.UUID
    epoch: int


def run_claim(*, worker: Worker) -> Claim | None:
    """Take the best run that waits or has lost its worker: by priority, then fair share, then age."""
    now = Now()
    abandoned = lease_over() & (
        Q(child__boot_id=worker.boot_id) | Q(child__isnull=True) | lease_over(for_more_than=ELSEWHERE_AFTER)
    )
    with transaction.atomic():
        run = (
            Run.objects.select_for_update(skip_locked=True, of=("self",))
            .exclude(model__status=ModelStatus.PREPARING)
            .filter(Q(status=Status.QUEUED) | abandoned)
            .order_by("-priority", *_fair_share(), "queued_at")
            .first()
        )
        if run is None:
            return None
        if run.status == Status.QUEUED:
            run.status = Status.STARTING
            run.started_at = run.started_at or now
        run.worker = worker
        run.lease_owner = worker.name
        run.lease_until = now + LEASE
        run.lease_epoch += 1
        run.save(update_fields=["status", "started_at", "worker", "lease_owner", "lease_until", "lease_epoch"])
        announce(run, status=run.status)
    return Claim(run.pk, run.lease_epoch)


def lease_over(*, for_more_than: datetime.timedelta = datetime.timedelta()) -> Q:
    """Runs whose lease has ended, by so much."""
    return Q(status__in=ACTIVE, lease_until__lt=Now() - for_more_than)


def leases_correct() -> None:
    """Have leases that end further in the future than any does start now: the database's clock was set back."""
    Run.objects.filter(status__in=ACTIVE, lease_until__gt=Now() + 2 * LEASE).update(lease_until=Now() + LEASE)


def _fair_share() -> list[Case]:
    """An ordering that puts those first whose runs hold the fewest workers."""
    busy = Counter(Run.objects.filter(status__in=ACTIVE).values_list("created_by", flat=True))
    if not busy:  # and a Case without a When is no ordering
        return []
    held = [When(created_by=user, then=Value(count)) for user, count in busy.items()]
    return [Case(*held, default=Value(0), output_field=IntegerField())]


def lease_renew(claim: Claim) -> Status:
    """Extend the lease and return the run's status, which carries what people ask of it. Raises LeaseLost."""
    held = Run.objects.filter(pk=claim.run_id, lease_epoch=claim.epoch, status__in=ACTIVE)
    if not held.update(lease_until=Now() + LEASE):
        raise LeaseLost
    return Status(Run.objects.values_list("status", flat=True).get(pk=claim.run_id))


def lease_release(claim: Claim) -> None:
    """Hand the run off: the training process goes on, and the next worker to look may take over at once."""
    Run.objects.filter(pk=claim.run_id, lease_epoch=claim.epoch).update(lease_until=Now(), lease_owner="")


def run_child_started(claim: Claim, child: dict[str, Any]) -> None:
    """Record where the training process lives. Raises LeaseLost."""
    _write(claim, child=child)


def run_progress(claim: Claim, progress: Progress) -> None:
    """Record how far training is; the first progress turns *starting* into *running*. Raises LeaseLost."""
    _write(
        claim,
        status=Case(When(status=Status.STARTING, then=Value(Status.RUNNING)), default=F("status")),
        step=progress.step,
        total_steps=progress.total_steps,
        progress=progress.model_dump(exclude={"alive_at"}),
    )


def run_stalled(claim: Claim, *, since: datetime.datetime | None) -> None:
    """Record that the training process gives no sign of life, or does so again. Raises LeaseLost."""
    with transaction.atomic():
        run = (
            Run.objects.select_for_update().filter(pk=claim.run_id, lease_epoch=claim.epoch, status__in=ACTIVE).first()
        )
        if run is None:
            raise LeaseLost
        run.progress = {**run.progress, "stalled_since": since.isoformat() if since else None}
        run.save(update_fields=["progress"])
        announce(run, status=run.status)


def run_finish(claim: Claim, result: Result | None) -> Status:
    """Decide how the run goes on from how its process ended; `None` is a process that left no word.

    A process that was asked to make room goes back to the queue; a crash does so at most twice. A full disk pauses the
    run, also one that was to stop: nothing is wrong with it, and what could not be stored yet still can. Raises
    LeaseLost.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update().filter(pk=claim.run_id, lease_epoch=claim.epoch).first()
        if run is None or run.status not in ACTIVE:
            raise LeaseLost
        run.status, run.error = _next_status(run, result)
        if run.status == Status.QUEUED:
            run.queued_at = timezone.now()
            run.woken_at = None
        elif run.status != Status.PAUSED:
            run.finished_at = timezone.now()
        run.lease_until = None
        run.lease_owner = ""
        run.child = None
        run.save()
        announce(run, status=run.status)
    return Status(run.status)


def run_fail(claim: Claim, error: dict[str, Any]) -> None:
    """End a run that could not be started. Raises LeaseLost."""
    run_finish(claim, Result(outcome=Outcome.FAILED, error=error))


def _next_status(run: Run, result: Result | None) -> tuple[Status, dict[str, Any] | None]:
    outcome = result.outcome if result else Outcome.CRASHED
    error = result.error if result else None
    if outcome == Outcome.SUCCEEDED:
        return Status.SUCCEEDED, None
    if outcome == Outcome.FAILED:
        return (Status.PAUSED if error is not None and error["code"] == DISK_FULL else Status.FAILED), error
    if run.status == Status.STOPPING:
        return Status.STOPPED, None
    if outcome == Outcome.STOPPED:
        return Status.STOPPED, None
    if outcome == Outcome.PAUSED:
        return (Status.PAUSED if run.status == Status.PAUSING else Status.QUEUED), None
    run.crashes += 1
    if run.crashes <= MAX_CRASHES:
        return Status.QUEUED, None
    return Status.FAILED, error or {
        "code": "crashed",
        "message": f"The training process ended without a word {run.crashes} times.",
        "advice": "Most often the machine ran out of memory: try a smaller batch_size or max_length. See the log.",
        "fields": {},
    }


def _write(claim: Claim, **values: Any) -> None:
    held = Run.objects.filter(pk=claim.run_id, lease_epoch=claim.epoch, status__in=ACTIVE)
    if not held.update(**values):
        raise LeaseLost


def announce(run: Run, **data: Any) -> None:
    """Tell open pages that a run changed: its own page, and the team's lists."""
    publish(f"run:{run.pk}", "status", data)
    publish(f"team:{run.team_id}", "status", {"run": str(run.pk), **data})
