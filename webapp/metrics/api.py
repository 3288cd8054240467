"""Metrics over REST."""

import uuid
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Schema
from pydantic import Field

from webapp.accounts.access import Actor
from webapp.errors import Invalid, NotFound
from webapp.metrics import selectors
from webapp.metrics.answers import (
    Comparison,
    ComparisonOptions,
    Points,
    SeriesOut,
    Step,
    check_window,
    comparison,
    json_answer,
    series_answer,
)
from webapp.metrics.health import Advice, advice_for
from webapp.metrics.importance import importance
from webapp.metrics.models import MetricSeries
from webapp.runs.models import Run

router = Router(tags=["metrics"])

MAX_RUNS = 100
MAX_METRICS = 5


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


class Zoom(Schema):
    points: Points = 1000
    low: Step = Field(None, alias="from", description="first step of the window")
    high: Step = Field(None, alias="to", description="last step of the window")


class ComparisonQuery(ComparisonOptions):
    run: list[str] = Field(description=f"2 to {MAX_RUNS} run ids")


class SettingsQuery(Schema):
    run: list[str] = Field(description=f"2 to {MAX_RUNS} run ids")
    metric: list[str] = Field(min_length=1, max_length=MAX_METRICS, description="the keys of 1 to 5 metrics")
    figure: Literal["last", "min", "max"] = Field("last", description="the newest, lowest or highest value of each")


class RunName(Schema):
    id: uuid.UUID
    name: str


class ImportanceOut(Schema):
    """`explained`, 0 to 1, is the share of the variation in the metric's ranks that the setting explains by itself,
    less what chance would (Kruskal-Wallis epsilon squared); `share` is of what all settings explain. `correlation` is
    Spearman's, for numbers."""

    field: str
    explained: float
    share: float
    correlation: float | None
    runs: int


class SettingsOut(Schema):
    """Values in the order of `runs`; null where a run has none. `importance` is of the first metric, most first."""

    runs: list[RunName]
    settings: dict[str, list[Any]]
    metrics: dict[str, list[float | None]]
    importance: list[ImportanceOut]


@router.get("/runs/{run_id}/metrics", response=SeriesList, summary="The metrics a run has logged")
def metrics_list(request: HttpRequest, run_id: str) -> dict[str, Any]:
    run = _actor(request).get(Run, run_id)
    return {"items": [_summary(series) for series in selectors.series_list(run)], **selectors.refused(run)}


@router.get("/runs/{run_id}/metrics/{path:key}", response=SeriesOut, summary="One metric, at any resolution")
def metrics_read(request: HttpRequest, run_id: str, key: str, zoom: Query[Zoom]) -> HttpResponse:
    run = _actor(request).get(Run, run_id)
    check_window(zoom.low, zoom.high)
    return json_answer(
        series_answer(run, selectors.series_read(run, key, points=zoom.points, low=zoom.low, high=zoom.high))
    )


@router.get("/runs/{run_id}/advice", response=AdviceList, summary="What the health rules say about a run")
def advice_list(request: HttpRequest, run_id: str) -> dict[str, list[Advice]]:
    return {"items": advice_for(_actor(request).get(Run, run_id))}


@router.get("/compare", response=Comparison, summary="One metric of several runs")
def compare(request: HttpRequest, query: Query[ComparisonQuery]) -> HttpResponse:
    runs = _runs(_actor(request), query.run)
    return json_answer({**comparison(runs, query), "config_diff": selectors.config_diff(runs)})


@router.get("/compare/settings", response=SettingsOut, summary="What settings do to a metric over several runs")
def compare_settings(request: HttpRequest, query: Query[SettingsQuery]) -> dict[str, Any]:
    """The settings that differ beside the figures of some metrics, and how much of the first each of them explains."""
    runs = _runs(_actor(request), query.run)
    settings = selectors.config_diff(runs)
    figures = selectors.figures_of([run.pk for run in runs], query.metric, query.figure)
    return {
        "runs": runs,
        "settings": settings,
        "metrics": figures,
        "importance": importance(settings, figures[query.metric[0]]),
    }


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
    found = selectors.with_settings(Run.objects.filter(team__in=actor.team_ids())).in_bulk(keys)
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
