"""What runs, what waits and why, and the workers."""

import uuid
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.runs import selectors, services

SHOWN = 100


@requires(Role.VIEWER)
@require_safe
def queue(request: StudioRequest) -> HttpResponse:
    """The whole queue of the actor's teams; as a fragment, without the frame."""
    return render(request, "runs/_queue.html" if request.htmx else "runs/queue.html", _context(request))


def _context(request: StudioRequest) -> dict[str, Any]:
    actor = request.actor
    workers = [(worker, selectors.worker_is_alive(worker)) for worker in selectors.workers_list()[:SHOWN]]
    return {
        "active": [(run, selectors.eta_seconds(run)) for run in selectors.active_runs(actor)[:SHOWN]],
        "waiting": [(one, actor.holds(Role.MEMBER, one.run.team_id)) for one in selectors.queue(actor)],
        "workers": workers,
        "trains": any(alive and worker.slots and not worker.draining for worker, alive in workers),
        "may_launch": actor.holds(Role.MEMBER),
        "is_admin": actor.holds(Role.ADMIN),
    }


@requires(Role.MEMBER)
@require_POST
def move(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Put a run that waits right ahead of another one (`past`), or right behind it."""
    services.run_move(
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
def drain(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Let a worker finish what it has and take nothing new, or have it take runs again."""
    services.worker_drain(actor=request.actor, worker_id=pk, draining=request.POST.get("draining") == "yes")
    return redirect("queue")
