"""What runs, what waits and why, and the workers."""

import uuid

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
    context = {
        "active": [(run, selectors.eta_seconds(run)) for run in selectors.active_runs(request.actor)[:SHOWN]],
        "waiting": selectors.queue(request.actor),
        "workers": [(worker, selectors.worker_is_alive(worker)) for worker in selectors.workers_list()[:SHOWN]],
        "is_admin": request.actor.holds(Role.ADMIN),
    }
    return render(request, "runs/_queue.html" if request.htmx else "runs/queue.html", context)


@requires(Role.MEMBER)
@require_POST
def priority(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Move a run ahead or back in the queue."""
    found = selectors.run_get(request.actor, pk, Role.MEMBER)
    step = {"up": 1, "down": -1}.get(request.POST.get("move", ""), 0)
    services.run_update(actor=request.actor, run=found, priority=found.priority + step)
    return redirect("queue")


@requires(Role.ADMIN)
@require_POST
def drain(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Let a worker finish what it has and take nothing new, or have it take runs again."""
    services.worker_drain(actor=request.actor, worker_id=pk, draining=request.POST.get("draining") == "yes")
    return redirect("queue")
