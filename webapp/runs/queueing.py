"""What people do to the queue: move runs past each other, pause it, drain workers."""

import datetime
import uuid

from django.db import transaction

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.errors import Conflict, Forbidden, NotFound
from webapp.live.notify import publish
from webapp.runs.leases import announce
from webapp.runs.models import QueuePause, Run, Status, Worker
from webapp.runs.order import Spot, spots_at
from webapp.tasks import RUNS_WAKE, wake


def may_move(actor: Actor, run: Run) -> bool:
    """Members move their own runs, admins every run of their team."""
    own = run.created_by_id == actor.user.pk and actor.holds(Role.MEMBER, run.team_id)
    return own or actor.holds(Role.ADMIN, run.team_id)


def run_move(*, actor: Actor, run: Run, past: Run, ahead: bool) -> Run:
    """Put a queued run right ahead of another queued one, or right behind it, whoever's turn it would have been."""
    for one in (run, past):
        actor.require(one.team_id, Role.MEMBER, "run")
    if not may_move(actor, run):
        raise Forbidden("The run is somebody else's.", advice="Ask them or an admin of the team to move it.")
    with transaction.atomic():
        waiting = Run.objects.select_for_update().filter(status=Status.QUEUED).in_bulk([run.pk, past.pk])
        if len(waiting) < 2:
            raise Conflict("Only a run that waits can be moved, past another that waits.")
        run, past = waiting[run.pk], waiting[past.pk]
        run.priority, run.turn, run.queued_at = _place_beside(run, past, ahead=ahead)
        run.save(update_fields=["priority", "turn", "queued_at"])
        audit(actor=actor, team_id=run.team_id, verb="run.move", target=run, detail={"past": str(past.pk)})
        announce(run, status=run.status)
    return run


def _place_beside(run: Run, past: Run, *, ahead: bool) -> Spot:
    """What puts a run between `past` and the one next to that."""
    there, *neighbours = spots_at(past.pk, ahead=ahead, without=run.pk)
    step = datetime.timedelta(seconds=-1 if ahead else 1)
    for neighbour in neighbours:
        if neighbour[:2] == there[:2]:
            step = (neighbour.queued_at - there.queued_at) / 2
    return there._replace(queued_at=there.queued_at + step)


def queue_hold(*, actor: Actor) -> QueuePause:
    """Have every worker take nothing new; what runs goes on."""
    _require_admin(actor, "Pausing the queue")
    with transaction.atomic():
        pause, new = QueuePause.objects.select_related("by").get_or_create(pk=1, defaults={"by": actor.user})
        if new:
            audit(actor=actor, team_id=actor.current_team.pk, verb="queue.pause", target=pause)
            _tell_everybody()
    return pause


def queue_release(*, actor: Actor) -> None:
    """Have workers take runs again."""
    _require_admin(actor, "Letting the queue go on")
    with transaction.atomic():
        pause = QueuePause.objects.select_for_update().first()
        if pause is None:
            return
        since = {"since": pause.since}
        audit(actor=actor, team_id=actor.current_team.pk, verb="queue.resume", target=pause, detail=since)
        pause.delete()
        _tell_everybody()
        wake(RUNS_WAKE)


def _tell_everybody() -> None:
    """Pages of every team that has runs waiting show the queue anew."""
    for team in Run.objects.filter(status=Status.QUEUED).values_list("team", flat=True).distinct():
        publish(f"team:{team}", "status", {})


def worker_drain(*, actor: Actor, worker_id: uuid.UUID, draining: bool) -> Worker:
    """Have a worker finish what it has and take nothing new, or take runs again."""
    _require_admin(actor, "Draining a worker")
    with transaction.atomic():
        worker = Worker.objects.select_for_update().filter(pk=worker_id).first()
        if worker is None:
            raise NotFound("There is no such worker.")
        worker.draining = draining
        worker.save(update_fields=["draining"])
        detail = {"draining": draining}
        audit(actor=actor, team_id=actor.current_team.pk, verb="worker.drain", target=worker, detail=detail)
        if not draining:
            wake(RUNS_WAKE)
    return worker


def _require_admin(actor: Actor, deed: str) -> None:
    """Workers and their queue are shared by all teams."""
    if not actor.runs_the_studio:
        raise Forbidden(
            f"{deed} is for admins of the studio's first team: all teams share the workers.", advice="Ask one of them."
        )
