"""The Celery app: which tasks there are, on which queue, and what the scheduler does.

Queue `runs` is for training, `light` for everything short, so that neither waits for the other. Start with
`celery -A workers.app worker -P threads -Q runs` and the same with `-Q light`; one `celery -A workers.app beat`.
A training worker also listens to a queue of its machine's own, for wake-ups that no other machine should swallow.
"""

import os
import socket
from typing import Any

import django
from celery import Celery
from celery.signals import celeryd_init, setup_logging, worker_ready, worker_shutting_down

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
django.setup()

from django.conf import settings  # noqa: E402 (after django.setup)

from webapp.tasks import runs_queue_of  # noqa: E402
from workers import presence, tasks  # noqa: E402
from workers.memory import keep_one_heap  # noqa: E402

app = Celery("workers", broker=settings.BROKER_URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="light",
    task_ignore_result=True,
    # A message is only a wake-up: what it is about stands in Postgres, so it may be acknowledged at once.
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    beat_schedule_filename=str(settings.VAR_DIR / "beat-schedule"),
    beat_schedule={
        task: {"task": task, "schedule": seconds, "options": {"queue": "light", "expires": seconds}}
        for task, seconds in tasks.PERIODIC.items()
    },
    timezone="UTC",
)
tasks.register(app)


@setup_logging.connect
def _keep_django_logging(**_: object) -> None:
    """Logging is set up by Django's settings; Celery leaves it alone."""


@celeryd_init.connect
def _keep_memory(**_: object) -> None:
    """Before the first thread starts, which would have its own heap already."""
    keep_one_heap()


@worker_ready.connect
def _report_for_work(sender: Any = None, **_: object) -> None:
    queues = {str(queue.name) for queue in sender.task_consumer.queues}
    if "runs" in queues:
        sender.add_task_queue(runs_queue_of(socket.gethostname()))
    presence.start(queues)


@worker_shutting_down.connect
def _hand_off(**_: object) -> None:
    presence.stop()
