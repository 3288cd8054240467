"""This worker process as the studio sees it: its row, its heartbeat, and whether it is shutting down."""

import datetime
import logging
import os
import shutil
import socket
import subprocess
import threading
import uuid
from itertools import count
from typing import Any

import psutil
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models.functions import Now

from webapp.runs.models import Worker
from webapp.studio.identity import place
from workers import children, memory

logger = logging.getLogger(__name__)


def _words(name: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in os.environ.get(name, "").split(",") if word.strip()))


HEARTBEAT = 5.0
# Every so many heartbeats, memory that was freed is given back.
GIVES_BACK_EVERY = 12
SLOTS = int(os.environ.get("POLM_SLOTS", "1"))
LABELS = _words("POLM_LABELS")
shutting_down = threading.Event()
_registered = threading.Event()
_worker: Worker | None = None


def start(queues: set[str]) -> None:
    """Register, beat, and warm up what this worker's queues need. Called once the worker can take messages."""
    threading.Thread(target=_beat, args=(sorted(queues),), name="heartbeat", daemon=True).start()
    if "runs" in queues:
        threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()


def stop() -> None:
    """Have every supervisor hand its run off."""
    shutting_down.set()


def current() -> Worker:
    """This process's row; waits for the first heartbeat."""
    _registered.wait(30)
    if _worker is None:
        raise RuntimeError("the worker has not registered")
    return _worker


def _beat(queues: list[str]) -> None:
    global _worker
    name = f"{socket.gethostname()}:{os.getpid()}"
    cleared = False
    for beat in count():
        if shutting_down.is_set():
            break
        if beat % GIVES_BACK_EVERY == 0:
            memory.give_back()
        try:
            if not cleared:
                forget_the_dead()
                cleared = True
            _worker = Worker.objects.update_or_create(
                name=name,
                defaults={
                    "host": socket.gethostname(),
                    "boot_id": place(settings.VAR_DIR),
                    "queues": queues,
                    "labels": LABELS,
                    "devices": devices(),
                    "memory_bytes": psutil.virtual_memory().total,
                    "slots": SLOTS if "runs" in queues else 0,
                    "system": system(),
                    "heartbeat_at": Now(),
                },
            )[0]
            _registered.set()
        except DatabaseError as error:
            logger.warning("No heartbeat: %s", error)
            connection.close()
        shutting_down.wait(HEARTBEAT)
    if _worker is not None:
        _sign_off([_worker.pk])
    connection.close()


def forget_the_dead() -> None:
    """Sign off workers of this machine that were killed, so that their places are not held for them."""
    here = Worker.objects.filter(host=socket.gethostname(), boot_id=place(settings.VAR_DIR)).values_list("pk", "name")
    _sign_off([pk for pk, name in here if not psutil.pid_exists(int(name.rpartition(":")[2]))])


def _sign_off(workers: list[uuid.UUID]) -> None:
    """A heartbeat of long ago: nobody counts on these any more."""
    Worker.objects.filter(pk__in=workers).update(heartbeat_at=Now() - datetime.timedelta(days=1))


def _warm_up() -> None:
    from webapp.tasks import RUNS_WAKE, runs_queue_of, send

    try:
        children.ensure_fork_server()
    except children.ForkServerDown as error:
        logger.error("The fork server did not start: %s", error)
    send(RUNS_WAKE, queue=runs_queue_of(socket.gethostname()))


def system() -> dict[str, Any]:
    """How busy the machine is: shares from 0 to 1, bytes."""
    machine = psutil.virtual_memory()
    return {
        "cpu": psutil.cpu_percent() / 100,
        "memory_used": machine.total - machine.available,
        "memory_total": machine.total,
        "disk_free": shutil.disk_usage(settings.VAR_DIR).free,
        "disk_total": shutil.disk_usage(settings.VAR_DIR).total,
        "cpus": os.cpu_count(),
    }


def devices() -> list[dict[str, Any]]:
    """The GPUs this worker may use: those of `POLM_DEVICES`, by index or id, or all that nvidia-smi names."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total,memory.used", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    if answer.returncode:
        return []
    wanted = set(_words("POLM_DEVICES"))
    found = []
    for line in answer.stdout.strip().splitlines():
        index, uid, name, total, used = (part.strip() for part in line.split(","))
        if not wanted or wanted & {index, uid}:
            memory = {"memory_mb": float(total), "memory_used_mb": float(used)}
            found.append({"index": index, "uuid": uid, "name": name, **memory})
    return found
