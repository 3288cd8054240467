"""Doing one thing to many runs of the list."""

import uuid
from collections.abc import Callable, Mapping, Sequence

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
from webapp.runs.models import Project, Run
from webapp.runs.projects import run_set_project

MAX_SELECTED = 100
# Of the runs that something could not be done to, so many are named.
NAMED = 5
_DONE = {"stop": "asked to stop", "delete": "deleted", "tag": "tagged", "move": "moved"}


@requires(Role.MEMBER)
@require_POST
def bulk(request: StudioRequest) -> HttpResponse:
    """Do one thing to every selected run: compare, stop, tag, move or delete."""
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


def _do_to_each(request: StudioRequest, action: str, chosen: Sequence[Run], posted: Mapping[str, str]) -> None:
    """Do it to every run that may have it done, and say to how many, and why not to the others."""
    if missing := _missing(action, posted):
        messages.warning(request, missing)
        return
    act = _act(request.actor, action, posted)
    refused: dict[str, list[str]] = {}
    for run in chosen:
        try:
            act(run)
        except PolmError as error:
            refused.setdefault(f"{error.message} {error.advice}".strip(), []).append(run.name)
    done = len(chosen) - sum(map(len, refused.values()))
    of = "" if done == len(chosen) else f" of {len(chosen)}"
    if done:
        messages.success(request, f"{done}{of} run{'s' * (len(chosen) != 1)} {_DONE[action]}.")
    for reason, names in refused.items():
        messages.warning(request, f"{len(names)} not {_DONE[action]} ({_some(names)}): {reason}")


def _missing(action: str, posted: Mapping[str, str]) -> str:
    if action == "tag" and not posted.get("tag", "").strip():
        return "Type a tag first."
    return "Choose a project first." if action == "move" and not posted.get("project") else ""


def _act(actor: Actor, action: str, posted: Mapping[str, str]) -> Callable[[Run], object]:
    if action == "tag":
        tag = posted["tag"].strip()
        return lambda run: services.run_update(actor=actor, run=run, tags=[*run.tags, tag])
    if action == "move":
        project = actor.get(Project, posted["project"], Role.MEMBER)
        return lambda run: run_set_project(actor=actor, run=run, project=project)
    deed = services.run_delete if action == "delete" else services.run_stop
    return lambda run: deed(actor=actor, run=run)


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
