"""What evaluations have measured, over REST."""

import uuid
from typing import Any

from ninja import Router, Schema

from polm_core.evaluation.intervals import Difference
from webapp.accounts.middleware import StudioRequest
from webapp.errors import Invalid, NotFound
from webapp.evaluations.selectors import Cell, Filters, Leaderboard
from webapp.runs.models import Project

router = Router(tags=["evaluations"])


class ColumnOut(Schema):
    """What was measured alike; `settings` are those in which columns of the same name differ."""

    key: str
    method: str
    metric: str
    better: str
    dataset: uuid.UUID
    version: int
    settings: dict[str, Any]


class ChangeOut(Schema):
    """How much higher than the baseline's; `rows` were compared one by one, null where none were."""

    value: float
    low: float
    high: float
    paired: bool
    rows: int | None


class CellOut(Schema):
    column: str
    run: uuid.UUID
    value: float
    low: float
    high: float
    rows: int
    best: bool
    change: ChangeOut | None


class LineOut(Schema):
    model: uuid.UUID
    name: str
    checkpoint: uuid.UUID | None
    cells: list[CellOut]


class LeaderboardOut(Schema):
    columns: list[ColumnOut]
    rows: list[LineOut]


@router.get("/leaderboard", response=LeaderboardOut)
def leaderboard(
    request: StudioRequest, project: str = "", method: str = "", dataset: str = "", baseline: str = "", sort: str = ""
) -> dict[str, Any]:
    """The newest result of each model under each condition, best first. `project` is an id or a name; with a
    `baseline` (a model's id) each cell tells how it differs from that."""
    actor = request.actor
    found = _project(request, project) if project else None
    team = found.team if found else actor.current_team
    board = Leaderboard(actor, team, Filters(found, method, dataset), baseline=baseline, sort=sort)
    if sort and sort.removeprefix("-") not in board.orders:
        problem = f"must be one of {', '.join(board.orders)}, or that with a - before it"
        raise Invalid("There is no such order.", fields={"sort": [problem]})
    if baseline and board.baseline is None:
        raise Invalid("There is no such baseline.", fields={"baseline": ["names no model of this leaderboard"]})
    keys = [column.key for column in board.columns]
    return {
        "columns": [
            {
                "key": column.key,
                "method": column.example.run.method,
                "metric": column.metric,
                "better": column.better,
                "dataset": column.example.version.dataset_id,
                "version": column.example.version.number,
                "settings": column.settings,
            }
            for column in board.columns
        ],
        "rows": [
            {
                "model": line.model.pk,
                "name": line.model.name,
                "checkpoint": line.model.checkpoint_id,
                "cells": [_cell(key, cell) for key, cell in zip(keys, line.cells, strict=True) if cell],
            }
            for line in board.lines
        ],
    }


def _project(request: StudioRequest, ref: str) -> Project:
    """The project with that id, or of that name in the present team. Raises NotFound."""
    projects = Project.objects.select_related("team")
    try:
        return request.actor.get(projects, uuid.UUID(ref))
    except ValueError:
        found = projects.filter(team=request.actor.current_team, name__iexact=ref).first()
    if found is None:
        raise NotFound("There is no such project.")
    return found


def _cell(column: str, cell: Cell) -> dict[str, Any]:
    one = cell.result
    return {
        "column": column,
        "run": one.run_id,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "rows": one.rows,
        "best": cell.is_best,
        "change": _change(cell.change) if cell.change else None,
    }


def _change(change: Difference) -> dict[str, Any]:
    return {**change._asdict(), "paired": change.rows is not None}
