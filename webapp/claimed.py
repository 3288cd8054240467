"""Light work that a row stands for: a worker claims it for some seconds, and renews that while it works.

Every write of a worker is conditional on the attempt that it claimed, so that one which was thought lost changes
nothing once another has the row.
"""

from datetime import timedelta
from typing import Any, Self, TypeVar

from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from polm_core.errors import PolmError

LEASE = timedelta(seconds=30)
MAX_ATTEMPTS = 2

W = TypeVar("W", bound="ClaimedWork")


class WorkStatus(models.TextChoices):
    WAITING = "waiting", "Waiting"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    STOPPED = "stopped", "Stopped"
    FAILED = "failed", "Failed"


OPEN = (WorkStatus.WAITING, WorkStatus.RUNNING)


class WorkQuerySet(models.QuerySet[W]):
    def open(self) -> Self:
        """What has not ended."""
        return self.filter(status__in=OPEN)

    def claimable(self) -> Self:
        """What waits for a worker, or has lost its own."""
        lost = Q(status=WorkStatus.RUNNING, lease_until__lt=Now())
        return self.filter(Q(status=WorkStatus.WAITING) | lost)

    def claim(self, **fresh: Any) -> W | None:
        """Take the oldest that is claimable and set it to `fresh` values, in the caller's transaction.

        Its `attempts` is the claim's number; `take` gives up what has had too many.
        """
        found = self.claimable().select_for_update(skip_locked=True, of=("self",)).order_by("pk").first()
        if found is None:
            return None
        claimed = {"attempts": found.attempts + 1, "status": WorkStatus.RUNNING, "lease_until": Now() + LEASE, **fresh}
        for name, value in claimed.items():
            setattr(found, name, value)
        found.save(update_fields=list(claimed))
        return found

    def held(self, work: W) -> Self:
        """The row as long as this claim of it holds."""
        return self.filter(pk=work.pk, status=WorkStatus.RUNNING, attempts=work.attempts)

    def take(self, *, most: int, lost: PolmError, **fresh: Any) -> W | None:
        """Claim the oldest, as `claim` does; what was lost at `most` attempts is ended with the reason `lost`."""
        while True:
            with transaction.atomic():
                found = self.claim(**fresh)
            if found is None or found.attempts <= most:
                return found
            self.fail(found, lost)

    def renew(self, work: W, **values: Any) -> bool:
        """Renew a claim and set `values` on the way; False when it was stopped or another worker has it."""
        return bool(self.held(work).update(lease_until=Now() + LEASE, **values))

    def end(self, work: W, status: WorkStatus = WorkStatus.DONE, **result: Any) -> bool:
        """End the work with what came out; False when it was stopped or another worker has it."""
        return bool(self.held(work).update(status=status, lease_until=None, **result))

    def fail(self, work: W, error: PolmError) -> bool:
        """End the work with the reason why nothing came out."""
        return self.end(work, WorkStatus.FAILED, error=error.as_dict())

    def release(self, work: W, **fresh: Any) -> None:
        """Give a claim back unused, as a worker does that shuts down."""
        self.held(work).update(status=WorkStatus.WAITING, lease_until=None, attempts=F("attempts") - 1, **fresh)


class ClaimedWork(models.Model):
    """What a row of such work has of it."""

    status = models.CharField(max_length=10, choices=WorkStatus.choices, default=WorkStatus.WAITING)
    error = models.JSONField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        abstract = True

    @property
    def is_open(self) -> bool:
        """Whether it has yet to end."""
        return self.status in OPEN
