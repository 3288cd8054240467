"""Runs side by side: their curves over each other, the figures they end with, and the settings that differ."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from polm_core import catalogue
from polm_core.method import ChartSpec
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.metrics.selectors import config_diff, summaries
from webapp.pages.context import Frame
from webapp.runs.models import ACTIVE, Run
from webapp.runs.selectors import runs_visible

MAX_RUNS = 100
MAX_KEYS = 300
CANDIDATES = 50
FIRST_CHARTS = 8
# Runs that are followed live; a page that compares more is read again by its reader.
MAX_LIVE = 20


@dataclass(frozen=True)
class Chart:
    """One metric of all runs; `spec` tells how to read it where a method of theirs does."""

    key: str
    spec: ChartSpec | None


@dataclass(frozen=True)
class Figure:
    """What a run ended with in one metric; `change` is against the first run."""

    last: float | None
    low: float | None
    high: float | None
    change: float | None


@requires(Role.VIEWER)
@require_safe
def compare(request: StudioRequest) -> HttpResponse:
    """The comparison of the runs that the address names, or a list to choose from. The address holds the whole view."""
    runs = _chosen(request)
    candidates = runs_visible(request.actor).filter(team=request.actor.current_team)
    if project := Frame(request).project:
        candidates = candidates.filter(project=project)
    context: dict[str, Any] = {
        "runs": runs,
        "candidates": candidates.exclude(pk__in=[run.pk for run in runs])[:CANDIDATES],
        "max_runs": MAX_RUNS,
    }
    if runs:
        figures = summaries([run.pk for run in runs])
        charts = _charts(runs, figures)
        context |= {
            "charts": charts[:FIRST_CHARTS],
            "more_charts": charts[FIRST_CHARTS:],
            "values": [(chart.key, _row(chart.key, runs, figures)) for chart in charts],
            "differences": config_diff(runs).items(),
            "runs_json": [{"id": str(run.pk), "name": run.name} for run in runs],
            "live": [run for run in runs if run.status in ACTIVE][:MAX_LIVE],
        }
    return render(request, "compare/compare.html", context)


def _chosen(request: StudioRequest) -> list[Run]:
    """The runs of the address in its order; ids that name none of the actor's runs are left out."""
    ids = [pk for text in dict.fromkeys(request.GET.getlist("run")) if (pk := _key(text))][:MAX_RUNS]
    found = runs_visible(request.actor).in_bulk(ids)
    return [found[pk] for pk in ids if pk in found]


def _key(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _charts(runs: Sequence[Run], figures: dict[uuid.UUID, dict[str, Any]]) -> list[Chart]:
    """What any of the runs has logged: their methods' own charts first, the machine's figures last."""
    logged = {key for keys in figures.values() for key in keys}
    methods = {run.method for run in runs}
    known = (*catalogue.METHODS, *catalogue.EVALUATIONS)
    specs = [spec for method in known if method.slug in methods for spec in method.charts]
    readings = {key: spec for spec in reversed(specs) for key in spec.keys}
    first = [key for key in dict.fromkeys(key for spec in specs for key in spec.keys) if key in logged]
    bounds = {key for spec in specs for key in spec.band_keys}
    rest = sorted(logged.difference(first, bounds), key=lambda key: (key.startswith("system/"), key))
    return [Chart(key, readings.get(key)) for key in [*first, *rest][:MAX_KEYS]]


def _row(key: str, runs: Iterable[Run], figures: dict[uuid.UUID, dict[str, Any]]) -> list[Figure]:
    row: list[Figure] = []
    for run in runs:
        found = figures.get(run.pk, {}).get(key)
        if found is None:
            row.append(Figure(None, None, None, None))
            continue
        base = row[0].last if row else None
        change = None if base is None or found["last"] is None else found["last"] - base
        row.append(Figure(found["last"], found["min"], found["max"], change))
    return row
