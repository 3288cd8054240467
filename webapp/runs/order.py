"""The order in which runs that wait are taken.

By priority; within a priority people take turns: a run's turn is the number of runs its creator has at work, plus the
number of their own that wait before it. Those with the same turn go by age. So nobody who queues a hundred runs keeps
others waiting, and the head of each person's line (`Run.line`) is enough to find who is next. A run that was moved by
hand keeps the turn it was moved to.
"""

import datetime
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import connection

from webapp.runs.models import ACTIVE, Run

# Every run that waits, numbered in the order in which they are taken. Of those that are asked for (`asked`), `before`
# is how many come before.
_ORDERED = """
    WITH waiting AS (
        SELECT run.id, run.priority, run.queued_at, run.method, run.model_id, run.gpus, run.cpu_will_do,
            run.gpu_memory_gb, run.labels,
            CASE WHEN run.total_steps > 0 THEN greatest(run.total_steps - run.step, 0)
                ELSE (run.config ->> 'max_steps')::bigint END AS steps,
            run.team_id = ANY (%(teams)s::uuid[]) OR run.id IS NOT DISTINCT FROM %(run)s::uuid AS asked,
            COALESCE(run.turn, COALESCE(share.held, 0) + row_number() OVER (
                PARTITION BY run.priority, run.line ORDER BY run.turn, run.queued_at, run.id) - 1) AS turn
        FROM runs_run run
        LEFT JOIN unnest(%(lines)s::uuid[], %(held)s::int[]) AS share(line, held) ON share.line = run.line
        WHERE run.status = 'queued' AND run.id IS DISTINCT FROM %(without)s::uuid
    ),
    ordered AS MATERIALIZED (
        SELECT waiting.*, row_number() OVER place AS place,
            count(*) FILTER (WHERE asked) OVER place - asked::int AS before
        FROM waiting WINDOW place AS (ORDER BY priority DESC, turn, queued_at, id ROWS UNBOUNDED PRECEDING)
    )
"""

# Those before the first of the part, then those between one and the next, are told in groups, not one by one.
_PART = """
    SELECT line.run_id, count(*), line.method, model.status = 'preparing', line.gpus, line.cpu_will_do,
        line.gpu_memory_gb, line.labels, line.steps, (SELECT count(*) FROM ordered WHERE asked)
    FROM (
        SELECT ordered.*, greatest(before, %(offset)s) AS part,
            CASE WHEN asked AND before >= %(offset)s THEN id END AS run_id
        FROM ordered WHERE before < %(offset)s + %(limit)s
    ) line
    JOIN registry_basemodel model ON model.id = line.model_id
    GROUP BY part, line.run_id, line.method, model.status, line.gpus, line.cpu_will_do, line.gpu_memory_gb,
        line.labels, line.steps
    ORDER BY part, line.run_id NULLS FIRST
"""

# Of two runs next to each other, first the one that was asked for.
_BESIDE = """
    SELECT ordered.priority, ordered.turn, ordered.queued_at
    FROM ordered, (SELECT place FROM ordered WHERE id = %(run)s) past
    WHERE ordered.place IN (past.place, past.place + %(step)s)
    ORDER BY ordered.asked DESC
"""


@dataclass(frozen=True)
class Needs:
    """What a run asks of a worker."""

    gpus: int
    cpu_will_do: bool
    gpu_memory_gb: int
    labels: frozenset[str]


class Group(NamedTuple):
    """Runs that wait and are alike, next to each other as far as it matters; or one that was asked for (`run_id`).

    `steps` is how many each has to go: None or 0 for not known.
    """

    run_id: uuid.UUID | None
    size: int
    method: str
    preparing: bool
    needs: Needs
    steps: int | None


class Spot(NamedTuple):
    """What puts a run where it is in the order."""

    priority: int
    turn: int
    queued_at: datetime.datetime


def shares() -> Counter[uuid.UUID]:
    """How many runs at work each person has."""
    owners = Run.objects.filter(status__in=ACTIVE, created_by__isnull=False).values_list("created_by", flat=True)
    return Counter(owner for owner in owners if owner is not None)


def share_parameters(held: Counter[uuid.UUID]) -> dict[str, Any]:
    """`shares()` as the SQL takes it."""
    return {"lines": list(held), "held": list(held.values())}


def queue_part(
    *, teams: Iterable[uuid.UUID] = (), run: uuid.UUID | None = None, offset: int = 0, limit: int = 1
) -> tuple[list[Group], int]:
    """A part of what waits of these teams (or one run), in the order they are taken, and how many wait in all.

    What comes before the part, and what other teams have within it, is there too, as groups without a `run_id`.
    """
    rows = _ordered(_PART, teams=list(teams), run=run, offset=offset, limit=limit)
    groups = [
        Group(run_id, size, method, preparing, Needs(gpus, cpu, memory, frozenset(labels)), steps)
        for run_id, size, method, preparing, gpus, cpu, memory, labels, steps, _ in rows
    ]
    return groups, rows[0][-1] if rows else 0


def spots_at(past: uuid.UUID, *, ahead: bool, without: uuid.UUID) -> list[Spot]:
    """Where a run that waits is, and then the one next to it if there is one, as if `without` did not wait."""
    rows = _ordered(_BESIDE, run=past, without=without, step=-1 if ahead else 1)
    return [Spot(priority, turn, queued_at) for priority, turn, queued_at in rows]


def _ordered(query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    defaults: dict[str, Any] = {"teams": [], "run": None, "without": None}
    with connection.cursor() as cursor:
        cursor.execute(_ORDERED + query, defaults | share_parameters(shares()) | parameters)
        return list(cursor.fetchall())
