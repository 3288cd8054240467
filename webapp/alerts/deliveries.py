"""How a worker sends deliveries: claimed as other light work is, and tried again with growing pauses."""

from datetime import timedelta

from django.db.models.functions import Now

from polm_core.errors import PolmError
from webapp.alerts.models import AlertDelivery
from webapp.claimed import WorkStatus

MAX_TRIES = 5
# After the first attempt, the second and so on.
PAUSES = (timedelta(seconds=15), timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30))


def delivery_claim() -> AlertDelivery | None:
    """Take the oldest that is due."""
    lost = PolmError("The worker was lost each time that it sent this.", code="alert.lost")
    found = AlertDelivery.objects.take(most=MAX_TRIES, lost=lost)
    if found is None:
        return None
    return AlertDelivery.objects.select_related("rule__project__team", "alert__run", "recipient").get(pk=found.pk)


def delivery_done(*, delivery: AlertDelivery) -> bool:
    """It was sent."""
    return AlertDelivery.objects.end(delivery, error=None)


def delivery_again(*, delivery: AlertDelivery, error: PolmError) -> bool:
    """It could not be sent: have it tried again later, or give it up after `MAX_TRIES`."""
    if delivery.attempts >= MAX_TRIES:
        return delivery_fail(delivery=delivery, error=error)
    due = Now() + PAUSES[delivery.attempts - 1]
    return AlertDelivery.objects.end(delivery, WorkStatus.WAITING, due_at=due, error=error.as_dict())


def delivery_fail(*, delivery: AlertDelivery, error: PolmError) -> bool:
    """Give it up, with the reason."""
    return AlertDelivery.objects.fail(delivery, error)
