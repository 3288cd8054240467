"""What workers do to runs they have claimed: renew, report, finish, hand back.

A claim (see `webapp.runs.claims`) raises the run's epoch; every later write is conditional on it. A worker whose lease
another has taken over gets `LeaseLost` from its next write and stops supervising.

Leases are timed by the database's clock alone: those of the machines may differ, or jump.
"""

import datetime
import uuid
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from polm_core.errors import DISK_FULL
from polm_core.run_dir import Outcome, Progress, Result
from webapp.live.notify import Event, publish_all
from webapp.runs.models import ACTIVE, Run, Status
from webapp.runs.signals import run_moved

LEASE = datetime.timedelta(seconds=15)
# How long an expired lease is left to the place that holds the run directory before another may start afresh.
ELSEWHERE_AFTER = datetime.timedelta(seconds=90)
# A training process whose supervisor could not renew the lease for this long saves and ends, before that happens.
ABANDONED_AFTER = LEASE + ELSEWHERE_AFTER * 2 / 3
MAX_CRASHES = 2
# Of a run that is paused and resumed more often than this, the newest times are told.
MAX_RESUMED = 100


class LeaseLost(Exception):
    """Another worker supervises this run now."""


@dataclass(frozen=True)
class Claim:
    """The right to supervise a run until the lease ends."""

    run_id: uuid.UUID
    epoch: int


def lease_over() -> Q:
    """Runs whose lease has ended."""
    return Q(status__in=ACTIVE, lease_until__lt=Now())


def leases_correct() -> None:
    """Have leases that end further in the future than any does start now: the database's clock was set back."""
    Run.objects.filter(status__in=ACTIVE, lease_until__gt=Now() + 2 * LEASE).update(lease_until=Now() + LEASE)


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


def run_resumed(claim: Claim, step: int) -> None:
    """Record that the training process goes on from the checkpoint of a step. Raises LeaseLost."""
    with transaction.atomic():
        run = Run.objects.select_for_update().filter(pk=claim.run_id).only("resumed_from").first()
        _write(claim, resumed_from=[*(run.resumed_from if run else []), step][-MAX_RESUMED:])


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
        return run_end(run, result)


def run_end(run: Run, result: Result | None) -> Status:
    """Take an active run, locked by the caller, from its worker: finished, or queued again at its old place."""
    run.status, run.error = _next_status(run, result)
    if run.status not in (Status.QUEUED, Status.PAUSED):
        run.finished_at = timezone.now()
    run.lease_until = None
    run.lease_owner = ""
    run.child = None
    run.devices = []
    run.save()
    announce(run, status=run.status)
    run_moved.send(Run, run=run)
    return Status(run.status)


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
    publish_all(
        Event(f"run:{run.pk}", "status", data),
        Event(f"team:{run.team_id}", "status", {"run": str(run.pk), **data}),
    )
