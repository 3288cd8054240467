"""The list of runs, and doing one thing to many of them."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F, FilteredRelation, Q, QuerySet
from django.db.models.expressions import OrderBy
from django.http import HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import reswap

from polm_core import catalogue
from polm_core.errors import PolmError
from webapp.accounts.access import Actor, requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import Invalid, NotFound
from webapp.pages.context import Frame
from webapp.pages.lists import back_to, entries
from webapp.pages.runs.inputs import storable
from webapp.runs import selectors, services
from webapp.runs.models import ACTIVE, Run, Status
from webapp.runs.query.syntax import QueryError, conjuncts
from webapp.runs.query.tree import FIELDS
from webapp.runs.query.vocabulary import vocabulary

PAGE = 50
MAX_SELECTED = 100
CHOICES = ("status", "method", "tag", "project")
SORTS = ("created", "name", "loss")
NEWEST = "-created"


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
class Column:
    """A column that sorts: `query` is the address sorted by it, `order` how it is sorted now, if it is."""

    label: str
    query: str
    order: str = ""


@requires(Role.VIEWER)
@require_safe
def runs(request: StudioRequest) -> HttpResponse:
    """The team's runs; as a fragment, the table alone. The address holds the whole view."""
    asked = storable(request.GET)
    if "project" not in asked and (project := Frame(request).project):
        asked["project"] = project.name
    team = request.actor.current_team
    wanted = {name: asked.get(name, "").strip() for name in (*CHOICES, "q")}
    problem = None
    try:
        found = selectors.runs_filter(selectors.runs_visible(request.actor).filter(team=team), **wanted)
    except Invalid as error:
        problem = _problem(error, wanted["q"])
        if request.htmx:
            return _only(request, problem)
        found = Run.objects.none()
    sort = asked.get("sort", NEWEST)
    sort = sort if sort.removeprefix("-") in SORTS else NEWEST
    pages = Paginator(_sorted(found, sort).values_list("pk", flat=True), PAGE)
    pages.count = found.count()  # what they are sorted by does not matter to it
    page = pages.get_page(asked.get("page"))
    # Keys alone are sorted: whole rows with all they refer to are read for one page only.
    rows = selectors.runs_visible(request.actor).in_bulk(list(page.object_list))
    shown = [rows[pk] for pk in page.object_list if pk in rows]
    context = {
        "entries": entries(shown),
        "page": page,
        "moving": any(run.status in ACTIVE for run in shown),
        "asked": asked,
        "sort": sort,
        "columns": {name: _column(asked, sort, name) for name in SORTS},
        "chips": _chips(asked, readable=problem is None),
        "problem": problem,
        "page_query": _with(asked, page=None),
        "may_edit": request.actor.holds(Role.MEMBER, team.pk),
    }
    if request.htmx:
        return render(request, "runs/_table.html", context)
    return render(request, "runs/runs.html", context | _choices(request.actor))


@requires(Role.VIEWER)
@require_safe
def words(request: StudioRequest) -> JsonResponse:
    """What can be searched for in the team, for the box to complete."""
    known = vocabulary(request.actor)
    fields = [{"name": name, "kind": kind, "says": says} for name, (kind, says) in FIELDS.items()]
    return JsonResponse(
        {"fields": fields, "values": known.values, "metrics": known.metrics, "settings": known.settings}
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


def _sorted(runs: QuerySet[Run], sort: str) -> QuerySet[Run]:
    """By a column; runs without a loss come last either way."""
    if sort.endswith("created"):
        return runs.order_by(sort.replace("created", "pk"))
    if sort.endswith("loss"):
        # A join: Postgres looks up a subquery for one run after the other.
        runs = runs.annotate(losses=FilteredRelation("series", condition=Q(series__key="loss")), loss=F("losses__last"))
    return runs.order_by(OrderBy(F(sort.removeprefix("-")), descending=sort.startswith("-"), nulls_last=True), "-pk")


def _column(asked: QueryDict, sort: str, name: str) -> Column:
    """Sorts by itself, and the other way round when it is what sorts already. Newest and best come first."""
    first = NEWEST if name == "created" else name
    if sort.removeprefix("-") != name:
        return Column(name.capitalize(), _with(asked, sort=first, page=None))
    other = name if sort.startswith("-") else f"-{name}"
    order = "descending" if sort.startswith("-") else "ascending"
    return Column(name.capitalize(), _with(asked, sort=other, page=None), order)


def _chips(asked: QueryDict, *, readable: bool) -> list[Chip]:
    """One for each filter in force and for each condition of the search."""
    chips = []
    for name in CHOICES:
        if value := asked.get(name, "").strip():
            # Without a project in the address the one chosen in the top bar holds, so "any" must be said.
            without = "" if name == "project" else None
            chips.append(Chip(f"{name}: {value}", _with(asked, **{name: without}, page=None)))
    for said, rest in conjuncts(asked.get("q", "")) if readable else ():
        chips.append(Chip(said, _with(asked, q=rest or None, page=None)))
    return chips


def _with(asked: QueryDict, **changes: str | None) -> str:
    """The address's query with some parameters changed; None takes one out."""
    query = asked.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value is not None:
            query[name] = value
    return query.urlencode()


@requires(Role.MEMBER)
@require_POST
def bulk(request: StudioRequest) -> HttpResponse:
    """Do one thing to every selected run: compare, stop, tag or delete."""
    posted = storable(request.POST)
    chosen = _selected(request.actor, posted)
    action = posted.get("action", "")
    if not chosen:
        messages.warning(request, "Select one or more runs first.")
    elif action == "compare":
        return redirect(f"{reverse('compare')}?{'&'.join(f'run={run.pk}' for run in chosen)}")
    elif action in _DONE:
        _do_to_each(request, action, chosen, posted)
    else:
        raise NotFound("There is no such action.")
    return redirect(back_to(request, reverse("runs")))


def _selected(actor: Actor, posted: QueryDict) -> list[Run]:
    """The runs that are ticked and visible, in the order of the list."""
    try:
        keys = {uuid.UUID(pk) for pk in posted.getlist("run")[:MAX_SELECTED]}
    except ValueError:
        raise NotFound("There is no such run.") from None
    return list(selectors.runs_visible(actor).filter(pk__in=keys))


_DONE = {"stop": "asked to stop", "delete": "deleted", "tag": "tagged"}


def _do_to_each(request: StudioRequest, action: str, chosen: Iterable[Run], posted: Mapping[str, str]) -> None:
    tag = posted.get("tag", "").strip()
    if action == "tag" and not tag:
        messages.warning(request, "Type a tag first.")
        return
    done, refused = 0, []
    for run in chosen:
        try:
            if action == "tag":
                services.run_update(actor=request.actor, run=run, tags=[*run.tags, tag])
            elif action == "delete":
                services.run_delete(actor=request.actor, run=run)
            else:
                services.run_stop(actor=request.actor, run=run)
            done += 1
        except PolmError as error:
            refused.append(f"{run.name}: {error.message}")
    if done:
        messages.success(request, f"{done} run{'s' * (done != 1)} {_DONE[action]}.")
    for line in refused[:5]:
        messages.warning(request, line)
