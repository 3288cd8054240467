"""The order in which runs that wait are taken.

By priority; within a priority people take turns: a run's turn is the number of runs its creator has at work, plus the
number of their own that wait before it. Those with the same turn go by age. So nobody who queues a hundred runs keeps
others waiting, and the head of each person's line (`Run.line`) is enough to find who is next. A run that was moved by
hand keeps the turn it was moved to.
"""

import datetime
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db import connection

from webapp.runs.models import ACTIVE, Run

# More than this many are not told their place.
MAX_QUEUE = 20_000

_QUEUE = """
    SELECT id, priority, queued_at, place, team_id, method, preparing, gpus, cpu_will_do, gpu_memory_gb, labels, steps
    FROM (
        SELECT run.id, run.priority, run.queued_at, run.team_id, run.method, run.gpus, run.cpu_will_do,
            run.gpu_memory_gb, run.labels, model.status = 'preparing' AS preparing,
            CASE WHEN run.total_steps > 0 THEN greatest(run.total_steps - run.step, 0)
                ELSE (run.config ->> 'max_steps')::bigint END AS steps,
            COALESCE(run.turn, COALESCE(share.held, 0) + row_number() OVER (
                PARTITION BY run.priority, run.line ORDER BY run.turn, run.queued_at, run.id) - 1) AS place
        FROM runs_run run
        JOIN registry_basemodel model ON model.id = run.model_id
        LEFT JOIN unnest(%(lines)s::uuid[], %(held)s::int[]) AS share(line, held) ON share.line = run.line
        WHERE run.status = 'queued' AND run.id IS DISTINCT FROM %(without)s
    ) waiting
    ORDER BY priority DESC, place, queued_at, id
    LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run asks of a worker."""

    gpus: int
    cpu_will_do: bool
    gpu_memory_gb: int
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A waiting run's place in the order; `steps` is how many it has to go, None or 0 where that is not known."""

    run_id: uuid.UUID
    priority: int
    queued_at: datetime.datetime
    turn: int
    team_id: uuid.UUID
    method: str
    preparing: bool
    needs: Needs
    steps: int | None


def shares() -> Counter[uuid.UUID]:
    """How many runs at work each person has."""
    owners = Run.objects.filter(status__in=ACTIVE, created_by__isnull=False).values_list("created_by", flat=True)
    return Counter(owner for owner in owners if owner is not None)


def share_parameters(held: Counter[uuid.UUID]) -> dict[str, Any]:
    """`shares()` as the SQL takes it."""
    return {"lines": list(held), "held": list(held.values())}


def queue_order(*, without: uuid.UUID | None = None) -> list[Place]:
    """Every run that waits, of every team, in the order they are taken; `without` leaves one out."""
    parameters = share_parameters(shares()) | {"without": without, "limit": MAX_QUEUE}
    known: dict[tuple[object, ...], Needs] = {}
    with connection.cursor() as cursor:
        cursor.execute(_QUEUE, parameters)
        return [
            Place(pk, priority, queued_at, turn, team, method, preparing, _needs(known, *needs), steps)
            for pk, priority, queued_at, turn, team, method, preparing, *needs, steps in cursor.fetchall()
        ]


def _needs(known: dict[tuple[object, ...], Needs], gpus: int, cpu: bool, memory: int, labels: list[str]) -> Needs:
    """One object for all runs that ask for the same."""
    key = (gpus, cpu, memory, *labels)
    if key not in known:
        known[key] = Needs(gpus, cpu, memory, frozenset(labels))
    return known[key]
