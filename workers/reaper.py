"""Waking workers again: for what waits although its message was lost, and for what its worker left behind."""

import datetime

from django.db.models import Q
from django.db.models.functions import Now

from webapp import tasks
from webapp.alerts.selectors import deliveries_wait
from webapp.datasets.diffs import diffs_wait
from webapp.datasets.leases import versions_to_wake
from webapp.playground.selectors import generations_wait
from webapp.registry.exports import exports_wait
from webapp.registry.selectors import models_to_wake
from webapp.retrieval.selectors import indexes_wait, lookups_wait
from webapp.runs.claims import ALIVE_WITHIN
from webapp.runs.leases import lease_over, leases_correct
from webapp.runs.models import Project, Run, Status, Worker
from webapp.sweeps.selectors import sweeps_to_wake
from webapp.workbench.selectors import trials_wait

GONE_AFTER = datetime.timedelta(days=2)


def reap() -> None:
    """One round; the scheduler asks for it every few seconds."""
    leases_correct()
    now = Now()
    if Run.objects.filter(Q(status=Status.QUEUED) | lease_over()).exists():
        # One message wakes a machine, which then takes runs until none is left that fits.
        alive = Worker.objects.filter(heartbeat_at__gt=now - ALIVE_WITHIN, queues__contains=["runs"])
        for host in alive.order_by().values_list("host", flat=True).distinct():
            tasks.send(tasks.RUNS_WAKE, queue=tasks.runs_queue_of(host))
    for version_id in versions_to_wake():
        tasks.send(tasks.DATASETS_PROCESS, version_id)
    if diffs_wait():
        tasks.send(tasks.DATASETS_COMPARE)
    for model_id in models_to_wake():
        tasks.send(tasks.MODELS_PREPARE, model_id)
    for project_id in Project.objects.filter(retention_due=True).values_list("pk", flat=True)[:100]:
        tasks.send(tasks.PROJECT_RETAIN, project_id)
    if generations_wait():
        tasks.send(tasks.GENERATE)
    if trials_wait():
        tasks.send(tasks.REWARDS_TRY)
    if exports_wait():
        tasks.send(tasks.EXPORT)
    if indexes_wait():
        tasks.send(tasks.DOCUMENTS_INDEX)
    if lookups_wait():
        tasks.send(tasks.DOCUMENTS_FIND)
    if deliveries_wait():
        tasks.send(tasks.ALERTS_DELIVER)
    for sweep_id in sweeps_to_wake():
        tasks.send(tasks.SWEEP_ADVANCE, sweep_id)
    Worker.objects.filter(heartbeat_at__lt=now - GONE_AFTER, runs=None).delete()
