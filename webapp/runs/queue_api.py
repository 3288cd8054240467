"""The queue and the workers over REST."""

import datetime
import uuid
from typing import Any

from ninja import Router, Schema, Status

from webapp.errors import Invalid
from webapp.pagination import DEFAULT_LIMIT, Limit
from webapp.runs import queueing, selectors, waiting
from webapp.runs.api import ActorRequest, Body
from webapp.runs.models import QueuePause, Worker

router = Router(tags=["studio"])


class WorkerOut(Schema):
    id: uuid.UUID
    name: str
    host: str
    alive: bool
    draining: bool
    queues: list[str]
    labels: list[str]
    devices: list[dict[str, Any]]
    memory_bytes: int
    slots: int
    heartbeat_at: datetime.datetime
    runs: list[uuid.UUID]


class WaitingOut(Schema):
    id: uuid.UUID
    name: str
    ahead: int
    reason: str
    advice: str
    expected_s: float | None


class PauseOut(Schema):
    by: str | None
    since: datetime.datetime


class QueueOut(Schema):
    paused: PauseOut | None
    total: int
    items: list[WaitingOut]
    next_cursor: str | None


class DrainIn(Body):
    draining: bool = True


@router.get("/workers", response=dict[str, list[WorkerOut]])
def workers(request: ActorRequest) -> dict[str, Any]:
    """Workers that are alive or hold runs; the ids of runs are those the caller may see."""
    visible = {run.pk: run.worker_id for run in selectors.active_runs(request.actor)[:500]}
    return {"items": [_worker(worker, visible) for worker in selectors.workers_list()[:200]]}


@router.post("/workers/{worker_id}/drain", response=dict[str, bool])
def worker_drain(request: ActorRequest, worker_id: uuid.UUID, payload: DrainIn | None = None) -> dict[str, bool]:
    """Have a worker finish what it has and take nothing new; `draining: false` has it take runs again. For admins."""
    draining = payload is None or payload.draining
    worker = queueing.worker_drain(actor=request.actor, worker_id=worker_id, draining=draining)
    return {"draining": worker.draining}


@router.get("/queue", response=QueueOut)
def queue(request: ActorRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The caller's queued runs in the order they will be taken, and why each waits; `paused` while nothing is taken."""
    offset = _offset(cursor)
    found = waiting.queue(request.actor, limit=limit, offset=offset)
    end = offset + limit
    return {
        "paused": _pause(found.pause),
        "total": found.total,
        "items": [
            {
                "id": one.run.pk,
                "name": one.run.name,
                "ahead": one.ahead,
                "reason": one.reason,
                "advice": one.advice,
                "expected_s": one.expected_seconds,
            }
            for one in found.waiting
        ],
        "next_cursor": str(end) if end < found.total else None,
    }


@router.post("/queue/pause", response=PauseOut)
def queue_pause(request: ActorRequest) -> dict[str, Any] | None:
    """Have every worker take nothing new; what runs goes on. For admins."""
    return _pause(queueing.queue_hold(actor=request.actor))


@router.post("/queue/resume", response={204: None})
def queue_resume(request: ActorRequest) -> Status[None]:
    """Have workers take runs again. For admins."""
    queueing.queue_release(actor=request.actor)
    return Status(204, None)


def _pause(pause: QueuePause | None) -> dict[str, Any] | None:
    return {"by": pause.by.username if pause.by else None, "since": pause.since} if pause else None


def _offset(cursor: str | None) -> int:
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise Invalid("The cursor is not one of ours.", fields={"cursor": ["Pass on the page before's `next_cursor`."]})
    return int(cursor or 0)


def _worker(worker: Worker, visible: dict[uuid.UUID, uuid.UUID | None]) -> dict[str, Any]:
    return {
        "id": worker.pk,
        "name": worker.name,
        "host": worker.host,
        "alive": selectors.worker_is_alive(worker),
        "draining": worker.draining,
        "queues": worker.queues,
        "labels": worker.labels,
        "devices": worker.devices,
        "memory_bytes": worker.memory_bytes,
        "slots": worker.slots,
        "heartbeat_at": worker.heartbeat_at,
        "runs": [run for run, owner in visible.items() if owner == worker.pk],
    }
