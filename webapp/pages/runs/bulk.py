"""Doing one thing to many runs of the list."""

import uuid
from collections.abc import Iterable, Mapping

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from polm_core.errors import PolmError
from webapp.accounts.access import Actor, requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import NotFound
from webapp.pages.lists import back_to
from webapp.pages.runs.inputs import storable
from webapp.runs import selectors, services
from webapp.runs.models import Run

MAX_SELECTED = 100


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
