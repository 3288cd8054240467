"""How series and comparisons are told: to the API, and to pages whose charts read them elsewhere."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import orjson
from django.http import HttpResponse
from ninja import Schema
from pydantic import Field

from webapp.errors import Invalid
from webapp.metrics import groups, selectors
from webapp.metrics.digits import rounded
from webapp.metrics.groups import Band, Group, GroupLine
from webapp.metrics.models import MetricSeries
from webapp.metrics.reading import Columns
from webapp.metrics.rollup import MAX_STEP
from webapp.metrics.selectors import SeriesView
from webapp.runs.models import Run

MAX_POINTS = 5_000
# Axes that every run has without logging them.
OWN_AXES = ("step", "relative", "wall")

Points = Annotated[int, Field(ge=1, le=MAX_POINTS, description="the most buckets to answer with")]
Step = Annotated[int | None, Field(ge=0, le=MAX_STEP)]


class SeriesOut(Schema):
    """Buckets by column. A bucket covers `width` steps from `step` on.

    `min`, `mean` and `max` are of its `count` finite values and null when it has none; `not_finite` lists the buckets
    that hold other values as [step, how many]. `time` is seconds since the epoch, `start` when the run began.
    `resumed_from` has the steps of the checkpoints that the run was resumed from, the newest last.
    """

    key: str
    total_points: int
    level: int
    width: int
    start: float
    step: list[int]
    time: list[float]
    count: list[int]
    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]
    not_finite: list[tuple[int, int]]
    resumed_from: list[int]
    x: list[float | None] | None = None


class ComparedRun(SeriesOut):
    id: uuid.UUID
    name: str
    method: str
    status: str


class ComparedGroup(SeriesOut):
    """Runs as one line: `mean` of the `members` that have a value there, and the band from `min` to `max`.

    `value` is what the `runs` have in common. `count` and `total_points` are of one run: on average, and the longest.
    A single run has no spread: the band is null there, unless it is the range.
    """

    id: str
    name: str
    value: Any
    runs: list[uuid.UUID]
    members: list[int]


class Comparison(Schema):
    """`config_diff` gives what differs, `{setting: [value of each run]}`. A run without the key has empty columns.

    With a `group` there are `groups` in place of `runs`, those without the key left out.
    """

    key: str
    x: str
    runs: list[ComparedRun]
    groups: list[ComparedGroup]
    config_diff: dict[str, list[Any]]


class ComparisonOptions(Schema):
    """What is read of the runs that are compared."""

    key: str
    points: Points = 500
    x: str = Field(
        "step", description="step, relative, wall, or a metric whose values to give as `x`: epoch, num_tokens, ..."
    )
    low: Step = Field(None, alias="from", description="first step of the window")
    high: Step = Field(None, alias="to", description="last step of the window")
    group: str = Field("", description="method, model, dataset, tag or config.<setting>: runs that agree are one line")
    band: Band = Field(Band.STD, description="around a group's mean: standard deviation, range, or 95 % interval")


def comparison(runs: Sequence[Run], asked: ComparisonOptions) -> dict[str, Any]:
    """One metric of the runs, or of their groups, without `config_diff`. Raises Invalid."""
    check_window(asked.low, asked.high)
    found = groups.group_runs(runs, asked.group) if asked.group else []
    views = selectors.series_read_many(
        [run.pk for run in runs],
        asked.key,
        points=asked.points,
        x=None if asked.x in OWN_AXES else asked.x,
        low=asked.low,
        high=asked.high,
        aligned=bool(asked.group),
    )
    return {
        "key": asked.key,
        "x": asked.x,
        "runs": [] if asked.group else [_compared(run, asked.key, views.get(run.pk)) for run in runs],
        "groups": [_grouped(group, views, asked) for group in found if any(run.pk in views for run in group.runs)],
    }


def check_window(low: int | None, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        raise Invalid("The window is empty.", fields={"from": ["must not be above `to`"]})


def series_answer(run: Run, view: SeriesView) -> dict[str, Any]:
    """A `SeriesOut` as JSON takes it."""
    columns = view.columns
    odd = np.flatnonzero(columns.not_finite)
    return {
        "key": view.series.key,
        "total_points": view.series.count,
        "level": view.level,
        "width": view.width,
        "start": _start(run, view.series),
        "step": columns.step,
        "time": np.round(columns.time, 3),
        "count": columns.count,
        "min": rounded(columns.min),
        "mean": rounded(columns.mean),
        "max": rounded(columns.max),
        "not_finite": np.column_stack([columns.step[odd], columns.not_finite[odd]]),
        "resumed_from": run.resumed_from,
        "x": None if view.x is None else rounded(view.x, 10),
    }


def json_answer(answer: dict[str, Any]) -> HttpResponse:
    """NaN becomes null."""
    content = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return HttpResponse(content, content_type="application/json")


def _compared(run: Run, key: str, view: SeriesView | None) -> dict[str, Any]:
    view = view or SeriesView(MetricSeries(run=run, key=key), Columns())
    return {"id": run.pk, "name": run.name, "method": run.method, "status": run.status, **series_answer(run, view)}


def _grouped(group: Group, views: Mapping[uuid.UUID, SeriesView], asked: ComparisonOptions) -> dict[str, Any]:
    members = [(run, views[run.pk]) for run in group.runs if run.pk in views]
    shown = [view for _, view in members]
    line = _group_line(members, asked)
    odd = np.flatnonzero(line.not_finite)
    return {
        "id": group.id,
        "name": group.name,
        "value": group.value,
        "runs": [run.pk for run in group.runs],
        "members": line.members,
        "key": asked.key,
        "total_points": max(view.series.count for view in shown),
        "level": max(view.level for view in shown),
        "width": max(view.width for view in shown),
        "start": min(_start(run, view.series) for run, view in members),
        "step": line.step,
        "time": np.round(line.time, 3),
        "count": line.count,
        "min": rounded(line.low),
        "mean": rounded(line.mean),
        "max": rounded(line.high),
        "not_finite": np.column_stack([line.step[odd], line.not_finite[odd]]),
        "resumed_from": [],
        # Times of day have ten digits before the point.
        "x": None if line.x is None else rounded(line.x, 13),
    }


def _group_line(members: Sequence[tuple[Run, SeriesView]], asked: ComparisonOptions) -> GroupLine:
    views = [view for _, view in members]
    match asked.x:
        case "step":
            return groups.line_by_step(views, asked.band)
        case "relative":
            axes = [view.columns.time - _start(run, view.series) for run, view in members]
        case "wall":
            axes = [view.columns.time for view in views]
        case _:
            axes = [np.full(len(view.columns.step), np.nan) if view.x is None else view.x for view in views]
    return groups.line_along(views, axes, asked.band, asked.points)


def _start(run: Run, series: MetricSeries) -> float:
    """When the run began: what relative time counts from."""
    known = [moment for moment in (run.started_at, series.first_wall) if moment is not None]
    return round(min(known or [run.created_at]).timestamp(), 3)
