"""How a worker comes to a run: it takes over one whose process lives on its machine, or the best that waits and fits.

What a run needs is held for it alone: whole GPUs, by id, or one of the worker's CPU slots. Claims on one machine go
one after another, so that no two see the same GPU free; those of different machines do not wait for each other.
"""

import datetime
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
from django.db import transaction
from django.db.models import Q

from polm_core.run_dir import Outcome, Result
from webapp.prepared import prepared
from webapp.runs.leases import ELSEWHERE_AFTER, LEASE, Claim, announce, run_end
from webapp.runs.models import ACTIVE, Run, Status, Worker, gpus_of
from webapp.runs.order import share_parameters

# A worker that has not reported for so long counts as gone.
ALIVE_WITHIN = datetime.timedelta(seconds=20)
# Others that claim at the same time lock the best; as many further ones are looked at, and then the list is made anew.
_TRIES = 5
_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)

# Waits for the lock, then tells the time.
_LOCK = "SELECT clock_timestamp() FROM (SELECT pg_advisory_xact_lock(hashtextextended(%s, 0)) OFFSET 0) AS held"
# From the highest priority down, the heads of every line that fit, in the order of webapp.runs.order; of these the
# first that nobody else takes. Lines are found by skipping through the index `run_queue` from one to the next, so that
# the cost is that of the people who wait, not of all that they have queued.
# A run fits on the GPUs when the gpus-th largest free one has the memory, and on the CPU unless it would rather have
# GPUs that this worker has, if not free. The CASE keeps Postgres from taking that for a rare match, for which it would
# read and sort whole lines.
_CLAIM = """
    WITH RECURSIVE
    level (priority) AS (
        (SELECT priority FROM runs_run WHERE status = 'queued' ORDER BY priority DESC LIMIT 1)
        UNION ALL
        SELECT next.priority FROM level, LATERAL (
            SELECT run.priority FROM runs_run run
            WHERE run.status = 'queued' AND run.priority < level.priority ORDER BY run.priority DESC LIMIT 1
        ) next
    ),
    candidate AS MATERIALIZED (
        SELECT level.priority, head.* FROM (SELECT priority FROM level ORDER BY priority DESC) level
        CROSS JOIN LATERAL (
            WITH RECURSIVE line (id) AS (
                (
                    SELECT line FROM runs_run WHERE status = 'queued' AND priority = level.priority
                    ORDER BY line LIMIT 1
                )
                UNION ALL
                SELECT next.line FROM line, LATERAL (
                    SELECT run.line FROM runs_run run
                    WHERE run.status = 'queued' AND run.priority = level.priority AND run.line > line.id
                    ORDER BY run.line LIMIT 1
                ) next
            )
            SELECT fit.id, fit.queued_at, COALESCE(fit.turn, COALESCE(share.held, 0) + row_number() OVER (
                PARTITION BY line.id ORDER BY fit.turn, fit.queued_at, fit.id) - 1) AS place
            FROM line
            LEFT JOIN unnest(%(lines)s::uuid[], %(held)s::int[]) AS share(line, held) ON share.line = line.id
            CROSS JOIN LATERAL (
                SELECT run.id, run.turn, run.queued_at FROM runs_run run
                WHERE run.status = 'queued' AND run.priority = level.priority AND run.line = line.id
                    AND CASE WHEN
                        (
                            (%(free)s::int[])[run.gpus] >= run.gpu_memory_gb
                            OR run.cpu_will_do AND %(cpu)s::boolean
                                AND NOT COALESCE((%(all)s::int[])[run.gpus] >= run.gpu_memory_gb, false)
                        )
                        AND run.labels <@ %(labels)s::varchar[]
                        AND run.model_id <> ALL (ARRAY(SELECT id FROM registry_basemodel WHERE status = 'preparing'))
                    THEN true ELSE false END
                ORDER BY run.turn, run.queued_at LIMIT 8
            ) fit
        ) head
        ORDER BY level.priority DESC, place, queued_at, id
        LIMIT 16
    ),
    best AS (
        SELECT run.id FROM candidate JOIN runs_run run USING (id)
        WHERE run.status = 'queued'
        ORDER BY candidate.priority DESC, candidate.place, candidate.queued_at, id
        LIMIT 1 FOR UPDATE OF run SKIP LOCKED
    ),
    claimed AS (
        UPDATE runs_run AS run SET
            status = 'starting',
            started_at = COALESCE(run.started_at, %(now)s::timestamptz),
            worker_id = %(worker)s::uuid,
            lease_owner = %(name)s::varchar,
            lease_until = %(until)s::timestamptz,
            lease_epoch = run.lease_epoch + 1,
            turn = NULL,
            devices = CASE WHEN (%(free)s::int[])[run.gpus] >= run.gpu_memory_gb THEN ARRAY(
                SELECT gpu.id FROM unnest(%(gpus)s::varchar[], %(free)s::int[]) AS gpu(id, gb)
                WHERE gpu.gb >= run.gpu_memory_gb ORDER BY gpu.gb, gpu.id LIMIT run.gpus
            ) ELSE '{}' END
        FROM best WHERE run.id = best.id
        RETURNING run.id, run.lease_epoch, run.team_id
    )
    SELECT claimed.id, claimed.lease_epoch, claimed.team_id, EXISTS (SELECT FROM candidate)
    FROM (SELECT) AS one LEFT JOIN claimed ON true
"""

# Workers ask all the time, most often for nothing.
_AT_WORK = """
    SELECT run.id, run.created_by_id, run.worker_id, run.devices, run.child ->> 'boot_id', run.lease_until,
        worker.boot_id, worker.heartbeat_at
    FROM runs_run run LEFT JOIN runs_worker worker ON worker.id = run.worker_id
    WHERE run.status = ANY (%s)
"""
_TAKES = """
    SELECT slots, labels, devices FROM runs_worker
    WHERE id = %s AND NOT draining AND NOT EXISTS (SELECT FROM runs_queuepause)
"""


class _AtWork(NamedTuple):
    """A run that holds a place somewhere; `child_boot_id` is where its process is, None while there is none."""

    run_id: uuid.UUID
    owner: uuid.UUID | None
    worker_id: uuid.UUID | None
    devices: list[str]
    child_boot_id: str | None
    lease_until: datetime.datetime | None
    boot_id: str | None
    heartbeat_at: datetime.datetime | None


def run_claim(*, worker: Worker) -> Claim | None:
    """Take a run for this worker; None when there is none for it."""
    with transaction.atomic():
        now = prepared(_LOCK, [f"claim:{worker.boot_id}"]).fetchone()[0]
        at_work = [_AtWork(*row) for row in prepared(_AT_WORK, [list(ACTIVE)]).fetchall()]
        expired = [run for run in at_work if (run.lease_until or _LONG_AGO) < now]
        for run in expired:
            if run.child_boot_id is not None and run.child_boot_id == worker.boot_id:
                if claim := _take_over(run, worker, now):
                    return claim
            elif run.child_boot_id is None or (run.lease_until or _LONG_AGO) < now - ELSEWHERE_AFTER:
                _put_back(run)
                at_work.remove(run)
        return _take(worker, at_work, now)


def _take_over(abandoned: _AtWork, worker: Worker, now: datetime.datetime) -> Claim | None:
    """Supervise on a run whose process is on this machine; it keeps the GPUs it has."""
    run = (
        Run.objects.select_for_update(skip_locked=True, of=("self",))
        .filter(pk=abandoned.run_id, status__in=ACTIVE, lease_until=abandoned.lease_until)
        .first()
    )
    if run is None:
        return None
    run.worker = worker
    run.lease_owner = worker.name
    run.lease_until = now + LEASE
    run.lease_epoch += 1
    run.save(update_fields=["worker", "lease_owner", "lease_until", "lease_epoch"])
    announce(run, status=run.status)
    return Claim(run.pk, run.lease_epoch)


def _put_back(abandoned: _AtWork) -> None:
    """Queue a run again whose worker is gone, process and all; what was asked of it meanwhile still holds."""
    same = Q(lease_until=abandoned.lease_until)
    run = Run.objects.select_for_update(skip_locked=True).filter(same, pk=abandoned.run_id, status__in=ACTIVE).first()
    if run is not None:
        run_end(run, Result(outcome=Outcome.PAUSED))


def _take(worker: Worker, at_work: Iterable[_AtWork], now: datetime.datetime) -> Claim | None:
    """The best run that waits and fits what this worker has free."""
    row = prepared(_TAKES, [worker.pk]).fetchone()
    if row is None:
        return None
    slots, labels, devices = row
    gpus = gpus_of(orjson.loads(devices))
    mine = [run for run in at_work if _holds_here(run, worker, now)]
    taken = {device for run in at_work for device in run.devices}
    free = sorted(((gb, gpu) for gpu, gb in gpus.items() if gpu not in taken), reverse=True)
    parameters: dict[str, Any] = {
        **share_parameters(Counter(run.owner for run in at_work if run.owner is not None)),
        "gpus": [gpu for _, gpu in free],
        "free": [gb for gb, _ in free],
        "all": sorted(gpus.values(), reverse=True),
        "cpu": sum(not run.devices for run in mine) < slots,
        "labels": labels,
        "worker": worker.pk,
        "name": worker.name,
        "now": now,
        "until": now + LEASE,
    }
    if not free and not parameters["cpu"]:
        return None
    for _ in range(_TRIES):
        run_id, epoch, team_id, more = prepared(_CLAIM, parameters).fetchone()
        if run_id is not None:
            announce(Run(pk=run_id, team_id=team_id), status=Status.STARTING)
            return Claim(run_id, epoch)
        if not more:
            break
    return None


def _holds_here(run: _AtWork, worker: Worker, now: datetime.datetime) -> bool:
    """Whether a run takes up a slot of this worker: it is the worker's own, or waits on this machine for a new one."""
    if run.worker_id == worker.pk:
        return True
    gone = run.heartbeat_at is None or run.heartbeat_at < now - ALIVE_WITHIN
    return gone and run.boot_id == worker.boot_id
