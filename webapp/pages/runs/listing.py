"""The list of runs."""

from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponse, JsonResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django_htmx.http import reswap

from polm_core import catalogue
from webapp.accounts.access import Actor, requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import Invalid
from webapp.pages.lists import entries
from webapp.pages.runs import columns
from webapp.pages.runs.asked import address_of, asked_for, query_with, state_of
from webapp.pages.runs.columns import NEWEST, Column
from webapp.runs import run_views, selectors
from webapp.runs.models import ACTIVE, Run, Status
from webapp.runs.query.syntax import QueryError, conjuncts
from webapp.runs.query.tree import FIELDS
from webapp.runs.query.vocabulary import vocabulary
from webapp.runs.run_views import FILTERS, ViewState

PAGE = 50


@dataclass(frozen=True)
class Chip:
    """A filter in force; `query` is the address without it."""

    label: str
    query: str


@dataclass(frozen=True)
class Problem:
    """Why a search cannot be read, and its text around the place that is at fault."""

    message: str
    before: str = ""
    fault: str = ""
    after: str = ""


@dataclass(frozen=True)
class Heading:
    """The head of a column: `query` is the address sorted by it, `order` how it is sorted now, if it is."""

    column: Column
    query: str = ""
    order: str = ""


@requires(Role.VIEWER)
@require_safe
def runs(request: StudioRequest) -> HttpResponse:
    """The team's runs; as a fragment, the table alone. The address holds the whole view."""
    views = list(run_views.views_visible(request.actor)[: 2 * run_views.MAX_VIEWS])
    asked, view = asked_for(request, views)
    team = request.actor.current_team
    wanted = {name: asked.get(name, "").strip() for name in FILTERS} | {"q": asked.get("q", "")}
    problem = None
    try:
        found = selectors.runs_filter(selectors.runs_visible(request.actor).filter(team=team), **wanted)
    except Invalid as error:
        problem = _problem(error, wanted["q"])
        if request.htmx:
            return _only(request, problem)
        found = Run.objects.none()
    sort = columns.sort_of(asked.get("sort", NEWEST))
    shown = columns.chosen(asked.getlist("column"))
    pages = Paginator(columns.sorted_by(found, sort).values_list("pk", flat=True), PAGE)
    pages.count = found.count()  # what they are sorted by does not matter to it
    page = pages.get_page(asked.get("page"))
    # Keys alone are sorted: whole rows with all they refer to are read for one page only.
    by_key = selectors.runs_visible(request.actor).in_bulk(list(page.object_list))
    listed = [by_key[pk] for pk in page.object_list if pk in by_key]
    context = {
        "rows": columns.rows(entries(listed), shown),
        "page": page,
        "moving": any(run.status in ACTIVE for run in listed),
        "asked": asked,
        "sort": sort,
        "name": _heading(asked, sort, columns.NAME),
        "headings": [_heading(asked, sort, column) for column in shown],
        "extra": sum(column.of is not None for column in shown),
        "usual": sum(column.of is None for column in shown),
        "chips": _chips(asked, readable=problem is None),
        "problem": problem,
        "page_query": query_with(asked, page=None),
        "may_edit": request.actor.holds(Role.MEMBER, team.pk),
        "views": views,
        "view": view,
        "view_changed": view is not None and state_of(asked) != state_of(address_of(ViewState.of(view))),
        "may_change_view": view is not None and run_views.may_change(request.actor, view),
    }
    if request.htmx:
        return render(request, "runs/_table.html", context)
    return render(request, "runs/runs.html", context | _choices(request.actor))


@requires(Role.VIEWER)
@require_safe
def words(request: StudioRequest) -> JsonResponse:
    """What can be searched for in the team and shown in columns, for the box to complete and the columns' dialog."""
    known = vocabulary(request.actor)
    own = [{"name": one.name, "label": one.label} for one in columns.OWN.values() if one != columns.NAME]
    fields = [{"name": name, "kind": kind, "says": says} for name, (kind, says) in FIELDS.items()]
    return JsonResponse(
        {
            "fields": fields,
            "values": known.values,
            "metrics": known.metrics,
            "settings": known.settings,
            "columns": own,
            "usual": columns.DEFAULT,
        }
    )


def _problem(error: Invalid, text: str) -> Problem:
    if not isinstance(error, QueryError):
        return Problem(f"{error.message} {error.advice}".strip())
    start, end = error.start, error.end
    return Problem(error.message, text[:start], text[start:end], text[end:])


def _only(request: StudioRequest, problem: Problem) -> HttpResponse:
    """The problem beside the box, while the table stays as it is: a query is half typed most of the time."""
    answer = render(request, "runs/_query_problem.html", {"problem": problem, "apart": True})
    return reswap(answer, "none")


def _choices(actor: Actor) -> dict[str, Any]:
    return {
        "statuses": Status.choices,
        "methods": catalogue.METHODS,
        "tags": selectors.tags_in_use(actor),
        "projects": selectors.projects(actor),
    }


def _heading(asked: QueryDict, sort: str, column: Column) -> Heading:
    """Sorts by itself, and the other way round when it is what sorts already."""
    if not column.first:
        return Heading(column)
    if sort.removeprefix("-") != column.name:
        return Heading(column, query_with(asked, sort=column.first, page=None))
    other = column.name if sort.startswith("-") else f"-{column.name}"
    order = "descending" if sort.startswith("-") else "ascending"
    return Heading(column, query_with(asked, sort=other, page=None), order)


def _chips(asked: QueryDict, *, readable: bool) -> list[Chip]:
    """One for each filter in force and for each condition of the search."""
    chips = []
    for name in FILTERS:
        if value := asked.get(name, "").strip():
            # Without a project in the address the one chosen in the top bar holds, so "any" must be said.
            without = "" if name == "project" else None
            chips.append(Chip(f"{name}: {value}", query_with(asked, **{name: without}, page=None)))
    for said, rest in conjuncts(asked.get("q", "")) if readable else ():
        chips.append(Chip(said, query_with(asked, q=rest or None, page=None)))
    return chips
