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
from webapp.errors import Invalid
from webapp.metrics.groups import FIELDS, SETTING, group_runs
from webapp.metrics.selectors import SOURCES, config_diff, summaries
from webapp.pages.context import Frame
from webapp.registry.models import KEY_METRICS
from webapp.reports.forms import LinkForm
from webapp.reports.links import link_url, links_to
from webapp.runs.models import ACTIVE, Run
from webapp.runs.selectors import runs_visible
from webapp.ui.templatetags.studio import number

MAX_RUNS = 100
MAX_KEYS = 300
COLOURS = 10
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
    """What a run ended with in one metric, and how that differs from the first run's figures."""

    last: float | None = None
    low: float | None = None
    high: float | None = None
    last_change: "Change | None" = None
    low_change: "Change | None" = None
    high_change: "Change | None" = None


@dataclass(frozen=True)
class Change:
    """How far a figure lies from the baseline's; `percent` is of the baseline's size, None where that is 0."""

    difference: float
    percent: float | None

    def __str__(self) -> str:
        sign = "+" if self.difference > 0 else ""
        share = "" if self.percent is None else f" ({sign}{number(float(f'{self.percent:.3g}'))}%)"
        return f"{sign}{number(self.difference)}{share}"


@dataclass(frozen=True)
class GroupEntry:
    """A group in the legend."""

    id: str
    name: str
    runs: list[Run]
    colour: int


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
        differences = config_diff(runs)
        context |= drawn(runs, figures, request.GET.get("group", "")) | _sharing(request, runs)
        keys = {key for key, _ in context["values"]}
        context |= {
            "differences": differences.items(),
            "group_fields": _group_fields(differences, context["group"]),
            "metric": next((key for key in KEY_METRICS if key in keys), ""),
            "scatter_axes": (("sx", "Across"), ("sy", "Up")),
            "live": [run for run in runs if run.status in ACTIVE][:MAX_LIVE],
        }
    return render(request, "compare/compare.html", context)


def drawn(runs: Sequence[Run], figures: dict[uuid.UUID, dict[str, Any]], field: str) -> dict[str, Any]:
    """What a comparison shows of runs and their figures, grouped by `field`: legend, charts, table of values."""
    groups, problem = legend_groups(runs, field)
    charts = charts_of(runs, figures)
    return {
        "charts": charts[:FIRST_CHARTS],
        "more_charts": charts[FIRST_CHARTS:],
        "values": [(chart.key, figures_row(chart.key, runs, figures)) for chart in charts],
        "group": field if groups else "",
        "groups": groups,
        "groups_json": [{"id": group.id, "name": group.name} for group in groups],
        "runs_json": [{"id": str(run.pk), "name": run.name} for run in runs],
        "problem": problem,
    }


def _chosen(request: StudioRequest) -> list[Run]:
    """The runs of the address in its order; ids that name none of the actor's runs are left out."""
    ids = run_keys(request.GET.getlist("run"))
    found = runs_visible(request.actor).in_bulk(ids)
    return [found[pk] for pk in ids if pk in found]


def _sharing(request: StudioRequest, runs: Sequence[Run]) -> dict[str, Any]:
    if not request.actor.holds(Role.MEMBER, runs[0].team_id):
        return {"may_share": False}
    links = [(link, link_url(request, link)) for link in links_to(runs)]
    return {"may_share": True, "links": links, "link_form": LinkForm()}


def run_keys(texts: Iterable[str]) -> list[uuid.UUID]:
    """The ids of runs that an address names, each once and in its order; what is none is left out."""
    return [pk for text in dict.fromkeys(texts) if (pk := _key(text))][:MAX_RUNS]


def legend_groups(runs: Sequence[Run], field: str) -> tuple[list[GroupEntry], str]:
    """The groups for the legend, or why there are none."""
    if not field:
        return [], ""
    try:
        found = group_runs(runs, field)
    except Invalid as error:
        return [], f"{error.message} The address names {field[:100]}: it {error.fields['group'][0]}."
    return [GroupEntry(one.id, one.name, one.runs, place % COLOURS) for place, one in enumerate(found)], ""


def _group_fields(differences: Iterable[str], chosen: str) -> list[tuple[str, str]]:
    """What the runs can be grouped by: what every run has, and the settings that differ."""
    settings = [f"{SETTING}{path}" for path in differences if path not in SOURCES]
    fields = list(dict.fromkeys([*FIELDS, *settings, *([chosen] if chosen else [])]))
    return [(field, field.removeprefix(SETTING)) for field in fields]


def _key(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def charts_of(runs: Sequence[Run], figures: dict[uuid.UUID, dict[str, Any]]) -> list[Chart]:
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


def figures_row(key: str, runs: Iterable[Run], figures: dict[uuid.UUID, dict[str, Any]]) -> list[Figure]:
    """The figures of each run in one metric, held against the first's."""
    row: list[Figure] = []
    for run in runs:
        found = figures.get(run.pk, {}).get(key)
        if found is None:
            row.append(Figure())
            continue
        last, low, high = found["last"], found["min"], found["max"]
        base = row[0] if row else Figure()
        changes = _change(last, base.last), _change(low, base.low), _change(high, base.high)
        row.append(Figure(last, low, high, *changes))
    return row


def _change(value: float | None, base: float | None) -> Change | None:
    if value is None or base is None:
        return None
    return Change(value - base, 100 * (value - base) / abs(base) if base else None)
