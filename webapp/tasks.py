"""Waking the workers. The web process sends tasks by name and never imports them.

A message carries no work of its own: what is to be done stands in Postgres, where a worker claims it, so that a lost,
repeated or late message does no harm.
"""

import logging
from typing import Any

import kombu.exceptions
from celery import Celery
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

RUNS_WAKE = "runs.wake"
DATASETS_PROCESS = "datasets.process"
DATASETS_COMPARE = "datasets.compare"
MODELS_PREPARE = "models.prepare"
PREFLIGHT = "runs.preflight"
GENERATE = "playground.generate"
PROJECT_RETAIN = "projects.retain"
REWARDS_TRY = "rewards.try"
EXPORT = "checkpoints.export"
DOCUMENTS_INDEX = "documents.index"
DOCUMENTS_FIND = "documents.find"
ALERTS_DELIVER = "alerts.deliver"
SWEEP_ADVANCE = "sweeps.advance"

QUEUE_OF = {
    RUNS_WAKE: "runs",
    DATASETS_PROCESS: "light",
    DATASETS_COMPARE: "light",
    MODELS_PREPARE: "light",
    PREFLIGHT: "light",
    GENERATE: "light",
    PROJECT_RETAIN: "light",
    REWARDS_TRY: "light",
    EXPORT: "light",
    DOCUMENTS_INDEX: "light",
    DOCUMENTS_FIND: "light",
    ALERTS_DELIVER: "light",
    SWEEP_ADVANCE: "light",
}

sender = Celery("studio", broker=settings.BROKER_URL, set_as_current=False)
sender.conf.update(task_ignore_result=True, broker_connection_timeout=2)


def wake(task: str, *args: Any) -> None:
    """Send `task` once the present transaction has committed. A broker that is down is left to the reaper."""
    transaction.on_commit(lambda: send(task, *args))


def runs_queue_of(host: str) -> str:
    """The queue of wake-ups for the training workers of one machine; those in `runs` may reach any machine."""
    return f"runs@{host}"


def send(task: str, *args: Any, queue: str = "") -> None:
    """Send `task` now; logs instead of raising when the broker does not answer."""
    try:
        sender.send_task(task, args=[str(arg) for arg in args], queue=queue or QUEUE_OF[task])
    except (kombu.exceptions.OperationalError, OSError) as error:
        logger.warning("The broker did not take %s (%s); the reaper will wake a worker.", task, error)


def broker_answers() -> bool:
    """Whether the broker takes connections right now."""
    try:
        with sender.connection_for_write() as connection:
            connection.ensure_connection(max_retries=0, timeout=1)
    except (kombu.exceptions.OperationalError, OSError):
        return False
    return True
