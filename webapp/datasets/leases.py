"""What workers do to dataset versions: claim, renew, report progress, finish, hand back.

A claim raises the version's epoch; every later write is conditional on it. A worker whose lease another has taken over,
or whose dataset was deleted, gets `LeaseLost` from its next write and stops.
"""

import datetime
import uuid
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from polm_core.data.report import PrepareReport, Status
from polm_core.errors import PolmError
from webapp.datasets.derivations import Derivation, derivation_of
from webapp.datasets.models import DatasetVersion, VersionStatus
from webapp.datasets.services import announce
from webapp.live.notify import publish
from webapp.tasks import DATASETS_PROCESS, wake

LEASE = datetime.timedelta(seconds=60)
MAX_ATTEMPTS = 3
# How long a message may be under way, or wait behind others, before the reaper sends another.
REWAKE_AFTER = datetime.timedelta(seconds=30)


class LeaseLost(Exception):
    """The version is another worker's now, or gone."""


@dataclass(frozen=True)
class Claim:
    """The right to prepare a version until the lease ends, and what is to be prepared.

    `derivation` says what the rows are made of where no file was uploaded, `rows_key` where those are that they come
    from.
    """

    version_id: uuid.UUID
    epoch: int
    dataset_id: uuid.UUID
    filename: str
    source_key: str
    format: str
    mapping: dict[str, Any] | None
    derivation: Derivation | None = None
    rows_key: str = ""


def version_claim(*, version_id: uuid.UUID) -> Claim | None:
    """Take a version that waits or has lost its worker; None when there is nothing to do.

    A version that was started `MAX_ATTEMPTS` times without an end is given up as invalid.
    """
    now = Now()
    with transaction.atomic():
        version = (
            DatasetVersion.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("dataset", "made_from")
            .filter(Q(lease_until=None) | Q(lease_until__lt=now), pk=version_id, status=VersionStatus.PROCESSING)
            .first()
        )
        if version is None:
            return None
        if version.attempts >= MAX_ATTEMPTS:
            _give_up(version)
            return None
        version.lease_epoch += 1
        version.attempts += 1
        version.lease_until = now + LEASE
        version.progress = {}
        version.save(update_fields=["lease_epoch", "attempts", "lease_until", "progress"])
    return Claim(
        version_id=version.pk,
        epoch=version.lease_epoch,
        dataset_id=version.dataset_id,
        filename=version.filename,
        source_key=version.source_key,
        format=version.requested_format,
        mapping=version.requested_mapping,
        derivation=derivation_of(version.derivation),
        rows_key=version.made_from.rows_key if version.made_from else "",
    )


def lease_renew(claim: Claim) -> None:
    """Extend the lease. Raises LeaseLost."""
    _write(claim, lease_until=Now() + LEASE)


def version_progress(claim: Claim, progress: dict[str, Any]) -> None:
    """Record how far preparation is, which also extends the lease. Raises LeaseLost."""
    with transaction.atomic():
        _write(claim, progress=progress, lease_until=Now() + LEASE)
        publish(f"dataset:{claim.dataset_id}", "progress", progress)


def version_finish(claim: Claim, report: PrepareReport, *, rows_key: str = "") -> None:
    """End preparation as the report says: ready with the rows under `rows_key`, or invalid. Raises LeaseLost."""
    ready = report.status == Status.READY
    with transaction.atomic():
        version = _held(claim).select_for_update(of=("self",)).select_related("dataset").first()
        if version is None:
            raise LeaseLost
        version.status = VersionStatus.READY if ready else VersionStatus.INVALID
        version.format = report.format or ""
        version.rows = report.rows_used if ready else 0
        version.bytes = report.bytes if ready else 0
        version.sha256 = report.sha256 if ready else ""
        version.rows_key = rows_key if ready else ""
        version.report = report.model_dump(mode="json")
        _end(version)


def version_crashed(claim: Claim) -> None:
    """Have a version tried again whose preparation died; after `MAX_ATTEMPTS` it is invalid. Raises LeaseLost."""
    with transaction.atomic():
        version = _held(claim).select_for_update(of=("self",)).select_related("dataset").first()
        if version is None:
            raise LeaseLost
        if version.attempts >= MAX_ATTEMPTS:
            _give_up(version)
            return
        version.lease_until = None
        version.woken_at = Now()
        version.save(update_fields=["lease_until", "woken_at"])
        wake(DATASETS_PROCESS, version.pk)


def lease_release(claim: Claim) -> None:
    """Hand a version back unharmed: another worker may start it at once."""
    with transaction.atomic():
        if _held(claim).update(lease_until=None, attempts=F("attempts") - 1, woken_at=Now()):
            wake(DATASETS_PROCESS, claim.version_id)


def versions_to_wake(limit: int = 100) -> list[uuid.UUID]:
    """Versions that wait with no worker coming for them: their message or their worker was lost."""
    now = Now()
    waiting = Q(lease_until=None, created_at__lt=now - REWAKE_AFTER) | Q(lease_until__lt=now)
    not_just_woken = Q(woken_at=None) | Q(woken_at__lt=now - REWAKE_AFTER)
    with transaction.atomic():
        found = list(
            DatasetVersion.objects.select_for_update(skip_locked=True)
            .filter(waiting, not_just_woken, status=VersionStatus.PROCESSING)
            .order_by("pk")
            .values_list("pk", flat=True)[:limit]
        )
        DatasetVersion.objects.filter(pk__in=found).update(woken_at=now)
    return found


def _held(claim: Claim) -> Any:
    return DatasetVersion.objects.filter(pk=claim.version_id, lease_epoch=claim.epoch, status=VersionStatus.PROCESSING)


def _write(claim: Claim, **values: Any) -> None:
    if not _held(claim).update(**values):
        raise LeaseLost


def _give_up(version: DatasetVersion) -> None:
    error = PolmError(
        f"Reading the file ended without a word {version.attempts} times.",
        code="data.crashed",
        advice="Most often the worker ran out of memory or was stopped. Try a smaller file, or JSON lines.",
    )
    version.status = VersionStatus.INVALID
    version.report = PrepareReport(status=Status.INVALID, error=error.as_dict()).model_dump(mode="json")
    _end(version)


def _end(version: DatasetVersion) -> None:
    version.processed_at = timezone.now()
    version.progress = {}
    version.lease_until = None
    version.save()
    announce(version)
