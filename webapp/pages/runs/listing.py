"""The list of runs, and doing one thing to many of them."""

from collections.abc import Iterable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from polm_core import catalogue
from polm_core.errors import PolmError
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import Invalid, NotFound
from webapp.pages.lists import entries
from webapp.pagination import page
from webapp.runs import selectors, services
from webapp.runs.models import Run, Status

PAGE = 50
MAX_SELECTED = 100


@requires(Role.VIEWER)
@require_safe
def runs(request: StudioRequest) -> HttpResponse:
    """The team's runs; as a fragment, the table alone. The address holds the whole view."""
    wanted = {name: request.GET.get(name, "").strip() for name in ("status", "method", "tag", "project", "q")}
    problem = ""
    visible = selectors.runs_visible(request.actor).filter(team=request.actor.current_team)
    try:
        found, next_cursor = page(selectors.runs_filter(visible, **wanted), PAGE, request.GET.get("cursor"))
    except Invalid as error:
        found, next_cursor, problem = [], None, f"{error.message} {error.advice}".strip()
    context = {
        "entries": entries(found),
        "next_cursor": next_cursor,
        "wanted": wanted,
        "filtered": any(wanted.values()),
        "problem": problem,
        "query": _without(request, "cursor"),
        "statuses": Status.choices,
        "methods": catalogue.METHODS,
        "tags": selectors.tags_in_use(request.actor),
        "projects": selectors.projects(request.actor),
    }
    return render(request, "runs/_table.html" if request.htmx else "runs/runs.html", context)


@requires(Role.MEMBER)
@require_POST
def bulk(request: StudioRequest) -> HttpResponse:
    """Do one thing to every selected run: compare, stop, tag or delete."""
    chosen = [selectors.run_get(request.actor, pk) for pk in request.POST.getlist("run")[:MAX_SELECTED]]
    action = request.POST.get("action", "")
    if not chosen:
        messages.warning(request, "Select one or more runs first.")
    elif action == "compare":
        return redirect(f"{reverse('compare')}?{'&'.join(f'run={run.pk}' for run in chosen)}")
    elif action in {"stop", "delete", "tag"}:
        _do_to_each(request, action, chosen)
    else:
        raise NotFound("There is no such action.")
    return redirect(back(request, reverse("runs")))


def _do_to_each(request: StudioRequest, action: str, chosen: Iterable[Run]) -> None:
    tag = request.POST.get("tag", "").strip()
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
    word = {"stop": "asked to stop", "delete": "deleted", "tag": "tagged"}[action]
    if done:
        messages.success(request, f"{done} run{'s' * (done != 1)} {word}.")
    for line in refused[:5]:
        messages.warning(request, line)


def back(request: HttpRequest, otherwise: str) -> str:
    """Where the form said to go on, if that is a page of ours."""
    wanted = request.POST.get("next", "")
    return wanted if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else otherwise


def _without(request: HttpRequest, name: str) -> str:
    query = request.GET.copy()
    query.pop(name, None)
    return query.urlencode()
