"""Waking workers again: for what waits although its message was lost, and for what its worker left behind."""

import datetime

from django.db.models import Q
from django.db.models.functions import Now

from webapp import tasks
from webapp.datasets.leases import versions_to_wake
from webapp.playground.selectors import generations_wait
from webapp.registry.selectors import models_to_wake
from webapp.runs.leases import lease_over, leases_correct
from webapp.runs.models import Run, Status, Worker

WAKE_AGAIN = datetime.timedelta(seconds=10)
GONE_AFTER = datetime.timedelta(days=2)


def reap() -> None:
    """One round; the scheduler asks for it every few seconds."""
    leases_correct()
    now = Now()
    idle = Q(woken_at=None) | Q(woken_at__lt=now - WAKE_AGAIN)
    waiting = Run.objects.filter(Q(status=Status.QUEUED) | lease_over()).filter(idle)
    if waiting.update(woken_at=now):
        # One message wakes a worker, which then takes runs until none is left.
        for _ in range(max(1, Worker.objects.filter(heartbeat_at__gt=now - 3 * WAKE_AGAIN, slots__gt=0).count())):
            tasks.send(tasks.RUNS_WAKE)
    for version_id in versions_to_wake():
        tasks.send(tasks.DATASETS_PROCESS, version_id)
    for model_id in models_to_wake():
        tasks.send(tasks.MODELS_PREPARE, model_id)
    if generations_wait():
        tasks.send(tasks.GENERATE)
    Worker.objects.filter(heartbeat_at__lt=now - GONE_AFTER, runs=None).delete()
