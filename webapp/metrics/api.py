"""Metrics over REST."""

import uuid
from typing import Annotated, Any

import numpy as np
import orjson
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Schema
from pydantic import Field

from webapp.accounts.access import Actor
from webapp.errors import Invalid, NotFound
from webapp.metrics import selectors
from webapp.metrics.digits import rounded
from webapp.metrics.health import Advice, advice_for
from webapp.metrics.models import MetricSeries
from webapp.metrics.reading import Columns
from webapp.metrics.rollup import MAX_STEP
from webapp.metrics.selectors import SeriesView
from webapp.runs.models import Run

router = Router(tags=["metrics"])

MAX_POINTS = 5_000
MAX_RUNS = 100

Points = Annotated[int, Field(ge=1, le=MAX_POINTS, description="the most buckets to answer with")]
Step = Annotated[int | None, Field(ge=0, le=MAX_STEP)]


class SeriesSummary(Schema):
    """`last` is null when the newest value was NaN or infinite; `not_finite` counts such values."""

    key: str
    count: int
    not_finite: int
    last_step: int | None
    last: float | None
    min: float | None
    max: float | None


class SeriesList(Schema):
    items: list[SeriesSummary]
    next_cursor: None = None
    bad_lines: int
    refused_values: int


class AdviceOut(Schema):
    """What a health rule found: `rule` is its name, `evidence` holds the figures, `remedy` what to try."""

    rule: str
    title: str
    evidence: str
    remedy: str


class AdviceList(Schema):
    items: list[AdviceOut]
    next_cursor: None = None


class SeriesOut(Schema):
    """Buckets by column. A bucket covers `width` steps from `step` on.

    `min`, `mean` and `max` are of its `count` finite values and null when it has none; `not_finite` lists the buckets
    that hold other values as [step, how many]. `time` is seconds since the epoch, `start` when the run began.
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
    x: list[float | None] | None = None


class ComparedRun(SeriesOut):
    id: uuid.UUID
    name: str
    method: str
    status: str


class Comparison(Schema):
    """`config_diff` gives what differs, `{setting: [value of each run]}`. A run without the key has empty columns."""

    key: str
    x: str
    runs: list[ComparedRun]
    config_diff: dict[str, list[Any]]


class Zoom(Schema):
    points: Points = 1000
    low: Step = Field(None, alias="from", description="first step of the window")
    high: Step = Field(None, alias="to", description="last step of the window")


class ComparisonQuery(Schema):
    run: list[str] = Field(description=f"2 to {MAX_RUNS} run ids")
    key: str
    points: Points = 500
    x: str = Field("step", description="step, or a metric whose values to give as `x`: epoch, num_tokens, ...")


@router.get("/runs/{run_id}/metrics", response=SeriesList, summary="The metrics a run has logged")
def metrics_list(request: HttpRequest, run_id: str) -> dict[str, Any]:
    run = _actor(request).get(Run, run_id)
    return {"items": [_summary(series) for series in selectors.series_list(run)], **selectors.refused(run)}


@router.get("/runs/{run_id}/metrics/{path:key}", response=SeriesOut, summary="One metric, at any resolution")
def metrics_read(request: HttpRequest, run_id: str, key: str, zoom: Query[Zoom]) -> HttpResponse:
    run = _actor(request).get(Run, run_id)
    if zoom.low is not None and zoom.high is not None and zoom.low > zoom.high:
        raise Invalid("The window is empty.", fields={"from": ["must not be above `to`"]})
    return _json(_series(run, selectors.series_read(run, key, points=zoom.points, low=zoom.low, high=zoom.high)))


@router.get("/runs/{run_id}/advice", response=AdviceList, summary="What the health rules say about a run")
def advice_list(request: HttpRequest, run_id: str) -> dict[str, list[Advice]]:
    return {"items": advice_for(_actor(request).get(Run, run_id))}


@router.get("/compare", response=Comparison, summary="One metric of several runs")
def compare(request: HttpRequest, query: Query[ComparisonQuery]) -> HttpResponse:
    runs = _runs(_actor(request), query.run)
    x = None if query.x == "step" else query.x
    views = selectors.series_read_many([run.pk for run in runs], query.key, points=query.points, x=x)
    return _json(
        {
            "key": query.key,
            "x": query.x,
            "runs": [_compared(run, query.key, views.get(run.pk)) for run in runs],
            "config_diff": selectors.config_diff(runs),
        }
    )


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


def _runs(actor: Actor, ids: list[str]) -> list[Run]:
    """The runs in the order asked for, each once; all of them the caller's to see."""
    wanted = list(dict.fromkeys(ids))
    if not 2 <= len(wanted) <= MAX_RUNS:
        raise Invalid("That many runs cannot be compared.", fields={"run": [f"give 2 to {MAX_RUNS} runs"]})
    try:
        keys = [uuid.UUID(one) for one in wanted]
    except ValueError:
        raise NotFound("There is no such run.") from None
    query = Run.objects.filter(team__in=actor.team_ids()).select_related(
        "model",
        "reward_model",
        "judge_model",
        "teacher_model",
        "dataset_version__dataset",
        "eval_dataset_version__dataset",
        "documents_version__dataset",
    )
    found = query.in_bulk(keys)
    if missing := [str(key) for key in keys if key not in found]:
        raise NotFound(f"There is no such run: {', '.join(missing[:5])}.")
    return [found[key] for key in keys]


def _summary(series: MetricSeries) -> dict[str, Any]:
    return {
        "key": series.key,
        "not_finite": series.not_finite,
        "last_step": series.last_step,
        **selectors.summary(series),
    }


def _compared(run: Run, key: str, view: SeriesView | None) -> dict[str, Any]:
    view = view or SeriesView(MetricSeries(run=run, key=key), Columns())
    return {"id": run.pk, "name": run.name, "method": run.method, "status": run.status, **_series(run, view)}


def _series(run: Run, view: SeriesView) -> dict[str, Any]:
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
        "x": None if view.x is None else rounded(view.x, 10),
    }


def _start(run: Run, series: MetricSeries) -> float:
    """When the run began: what relative time counts from."""
    known = [moment for moment in (run.started_at, series.first_wall) if moment is not None]
    return round(min(known or [run.created_at]).timestamp(), 3)


def _json(answer: dict[str, Any]) -> HttpResponse:
    # NaN becomes null.
    content = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return HttpResponse(content, content_type="application/json")
