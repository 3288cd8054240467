"""Saving what the list of runs shows under a name, and what is done with such a view."""

import uuid

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST
from django_htmx.http import HttpResponseClientRedirect, retarget

from polm_core.errors import PolmError
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import NotFound, status_of
from webapp.pages.runs.asked import state_of
from webapp.pages.runs.inputs import storable
from webapp.runs import run_views
from webapp.runs.models import RunView


@requires(Role.VIEWER)
@require_POST
def create(request: StudioRequest) -> HttpResponse:
    """Save what the address in the form shows. A refusal is told within the dialog, which keeps what was typed."""
    posted = storable(request.POST)
    shared, default = bool(posted.get("shared")), bool(posted.get("default"))
    try:
        state = state_of(QueryDict(posted.get("address", "")))
        view = run_views.view_create(actor=request.actor, name=posted.get("name", ""), state=state, shared=shared)
    except PolmError as error:
        return _refused(request, error)
    if default:
        run_views.view_set_default(actor=request.actor, view=view)
    messages.success(request, f"The view {view.name} is saved.")
    return _show(view)


@requires(Role.VIEWER)
@require_POST
def change(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Save, rename, share or delete a view, or have one's own list begin with it."""
    view = run_views.view_get(request.actor, pk)
    posted = storable(request.POST)
    actor, action = request.actor, posted.get("action", "")
    try:
        if action == "save":
            run_views.view_update(actor=actor, view=view, state=state_of(QueryDict(posted.get("address", ""))))
            messages.success(request, f"The view {view.name} is saved.")
        elif action == "rename":
            run_views.view_update(actor=actor, view=view, name=posted.get("name", ""))
        elif action in ("share", "unshare"):
            run_views.view_update(actor=actor, view=view, shared=action == "share")
        elif action in ("default", "no-default"):
            run_views.view_set_default(actor=actor, view=view, default=action == "default")
        elif action == "delete":
            run_views.view_delete(actor=actor, view=view)
            messages.success(request, f"The view {view.name} is deleted.")
            return HttpResponseClientRedirect(f"{reverse('runs')}?view=")
        else:
            raise NotFound("There is no such action.")
    except NotFound:
        raise
    except PolmError as error:
        return _refused(request, error)
    return _show(view)


def _show(view: RunView) -> HttpResponse:
    return HttpResponseClientRedirect(f"{reverse('runs')}?view={view.pk}")


def _refused(request: StudioRequest, error: PolmError) -> HttpResponse:
    """Why not, for the place below the form that asked."""
    of_fields = [f"The {name} {said}." for name, every in error.fields.items() if name != "q" for said in every]
    problems = of_fields or [f"{error.message} {error.advice}".strip()]
    answer = render(request, "runs/_view_problem.html", {"problems": problems}, status=status_of(error))
    return retarget(answer, f"#{request.htmx.target}") if request.htmx.target else answer
