"""What runs, what waits and why, and the workers."""

import uuid
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pages.runs.inputs import whole_number
from webapp.runs import queueing, selectors, waiting

PAGE = 50
# At most as many of what runs and of the workers.
SHOWN = 100


@requires(Role.VIEWER)
@require_safe
def queue(request: StudioRequest) -> HttpResponse:
    """The queue of the actor's teams, a page at a time; as a fragment, without the frame."""
    return render(request, "runs/_queue.html" if request.htmx else "runs/queue.html", _context(request))


def _context(request: StudioRequest) -> dict[str, Any]:
    actor = request.actor
    page = max(1, min(whole_number(request.GET.get("page", "1")) or 1, 10_000))
    found = waiting.queue(actor, limit=PAGE, offset=(page - 1) * PAGE)
    return {
        "active": [(run, selectors.eta_seconds(run)) for run in selectors.active_runs(actor)[:SHOWN]],
        "waiting": [(one, queueing.may_move(actor, one.run)) for one in found.waiting],
        "total": found.total,
        "first": (page - 1) * PAGE + 1,
        "page": page,
        "more": page * PAGE < found.total,
        "pause": found.pause,
        "workers": [(one, selectors.worker_is_alive(one)) for one in selectors.workers_list()[:SHOWN]],
        "may_launch": actor.holds(Role.MEMBER),
        "is_admin": actor.runs_the_studio,
    }


@requires(Role.MEMBER)
@require_POST
def move(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Put a run that waits right ahead of another one (`past`), or right behind it."""
    queueing.run_move(
        actor=request.actor,
        run=selectors.run_get(request.actor, pk, Role.MEMBER),
        past=selectors.run_get(request.actor, request.POST.get("past"), Role.MEMBER),
        ahead=request.POST.get("place") != "behind",
    )
    if request.htmx:
        return render(request, "runs/_queue.html", _context(request))
    return redirect("queue")


@requires(Role.ADMIN)
@require_POST
def pause(request: StudioRequest) -> HttpResponse:
    """Have workers take nothing new, or take runs again."""
    if request.POST.get("paused") == "yes":
        queueing.queue_hold(actor=request.actor)
    else:
        queueing.queue_release(actor=request.actor)
    return redirect("queue")


@requires(Role.ADMIN)
@require_POST
def drain(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Let a worker finish what it has and take nothing new, or have it take runs again."""
    queueing.worker_drain(actor=request.actor, worker_id=pk, draining=request.POST.get("draining") == "yes")
    return redirect("queue")
