"""Indexes of documents: the list, a new one, and one with what was looked up in it."""

import uuid
from functools import partial
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import Conflict
from webapp.pagination import page
from webapp.retrieval import selectors, services
from webapp.retrieval.forms import IndexForm, QuestionForm
from webapp.retrieval.models import DocumentIndex, Lookup

INDEXES = 30


@requires(Role.VIEWER)
@require_GET
def indexes(request: StudioRequest) -> HttpResponse:
    """The team's indexes, newest first."""
    actor, team = request.actor, request.actor.current_team
    found, cursor = page(selectors.indexes_visible(actor).filter(team=team), INDEXES, request.GET.get("cursor"))
    context = {"indexes": found, "cursor": cursor, "may_change": actor.holds(Role.MEMBER, team.pk)}
    return render(request, "retrieval/indexes.html", context)


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def index_new(request: StudioRequest) -> HttpResponse:
    """Which documents are indexed; `?dataset=` chooses them."""
    actor = request.actor
    offered = selectors.datasets_to_index(actor.current_team.pk)
    if request.method == "POST":
        form = IndexForm(request.POST, offered=offered)
        made = form.attempt(partial(services.index_create, actor=actor))
        if made:
            return redirect("index", made.pk)
    else:
        form = IndexForm(offered=offered, initial={"dataset": request.GET.get("dataset", "")})
    context = {"form": form, "offered": offered}
    return render(request, "retrieval/index_new.html", context, status=422 if form.errors else 200)


@requires(Role.VIEWER)
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """One index and the question of `?lookup=`; a posted question is looked up. Fragments follow what is under way."""
    actor = request.actor
    found = selectors.index_get(actor, pk, Role.MEMBER if request.method == "POST" else Role.VIEWER)
    lookup = _lookup(request, found)
    if request.method == "POST":
        form = QuestionForm(request.POST)
        made = form.attempt(partial(services.lookup_create, actor=actor, index=found))
        if made:
            return redirect(f"{reverse('index', args=[found.pk])}?lookup={made.pk}#lookup")
    else:
        form = QuestionForm(initial=_asked(lookup))
        if request.htmx:
            return _fragment(request, found, lookup)
    context = {
        "index": found,
        "lookup": lookup,
        "form": form,
        "lookups": selectors.lookups_of(found),
        "may_change": actor.holds(Role.MEMBER, found.team_id),
    }
    return render(request, "retrieval/index.html", context, status=422 if form.errors else 200)


@requires(Role.MEMBER)
@require_POST
def index_stop(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.index_get(request.actor, pk, Role.MEMBER)
    services.index_stop(actor=request.actor, index=found)
    return redirect("index", pk)


@requires(Role.MEMBER)
@require_POST
def index_resume(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.index_get(request.actor, pk, Role.MEMBER)
    try:
        services.index_resume(actor=request.actor, index=found)
    except Conflict as error:
        messages.error(request, f"{error.message} {error.advice}")
    return redirect("index", pk)


@requires(Role.MEMBER)
@require_POST
def index_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.index_get(request.actor, pk, Role.MEMBER)
    services.index_delete(actor=request.actor, index=found)
    messages.info(request, f"{found.name} was deleted.")
    return redirect("indexes")


def _lookup(request: StudioRequest, index: DocumentIndex) -> Lookup | None:
    asked = request.GET.get("lookup")
    found = selectors.lookup_get(request.actor, asked) if asked else None
    return found if found is not None and found.index_id == index.pk else None


def _asked(lookup: Lookup | None) -> dict[str, Any]:
    """The form as the question was asked."""
    names = ("question", *QuestionForm.SETTINGS)
    return {name: getattr(lookup, name) for name in names} if lookup is not None else {}


def _fragment(request: StudioRequest, index: DocumentIndex, lookup: Lookup | None) -> HttpResponse:
    if lookup is not None:
        return render(request, "retrieval/_passages.html", {"index": index, "lookup": lookup})
    if index.is_open:
        return render(request, "retrieval/_state.html", {"index": index, "may_change": True})
    return HttpResponse(headers={"HX-Refresh": "true"})
