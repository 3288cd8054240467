"""The order in which runs that wait are taken.

By priority; within a priority people take turns: a run's turn is the number of runs its creator has at work, plus the
number of their own that wait before it. Those with the same turn go by age. So nobody who queues a hundred runs keeps
others waiting, and the head of each person's line (`Run.line`) is enough to find who is next. A run that was moved by
hand keeps the turn it was moved to.
"""

import functools
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import connection

from webapp.runs.models import ACTIVE, Run

# More than this many are not told their place.
MAX_QUEUE = 20_000

_QUEUE = """
    SELECT id::text, team_id = ANY (%(teams)s::uuid[]), method, preparing, needs, steps, priority, place
    FROM (
        SELECT run.id, run.priority, run.queued_at, run.team_id, run.method, model.status = 'preparing' AS preparing,
            concat_ws('|', run.gpus, run.cpu_will_do, run.gpu_memory_gb, array_to_string(run.labels, ',')) AS needs,
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


@dataclass(frozen=True)
class Needs:
    """What a run asks of a worker."""

    gpus: int
    cpu_will_do: bool
    gpu_memory_gb: int
    labels: frozenset[str]


class Place(NamedTuple):
    """A waiting run's place in the order.

    `mine` tells whether it is of the teams that were asked for, `steps` how many it has to go: None or 0 for not known.
    """

    run_id: str
    mine: bool
    method: str
    preparing: bool
    needs: str
    steps: int | None
    priority: int
    turn: int


def shares() -> Counter[uuid.UUID]:
    """How many runs at work each person has."""
    owners = Run.objects.filter(status__in=ACTIVE, created_by__isnull=False).values_list("created_by", flat=True)
    return Counter(owner for owner in owners if owner is not None)


def share_parameters(held: Counter[uuid.UUID]) -> dict[str, Any]:
    """`shares()` as the SQL takes it."""
    return {"lines": list(held), "held": list(held.values())}


def queue_order(teams: Iterable[uuid.UUID] = (), *, without: uuid.UUID | None = None) -> list[Place]:
    """Every run that waits, of every team, in the order they are taken; `without` leaves one out.

    Thousands of rows are read for a page: plain types only, and one text for all that a run needs.
    """
    more = {"teams": list(teams), "without": without, "limit": MAX_QUEUE}
    with connection.cursor() as cursor:
        cursor.execute(_QUEUE, share_parameters(shares()) | more)
        return list(map(Place._make, cursor.fetchall()))


@functools.lru_cache(maxsize=1_000)
def needs_of(text: str) -> Needs:
    """What `Place.needs` says."""
    gpus, cpu, memory, labels = text.split("|", 3)
    return Needs(int(gpus), cpu == "t", int(memory), frozenset(filter(None, labels.split(","))))
