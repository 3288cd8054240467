"""The queue: what runs, what waits and why, moving runs past each other, draining workers."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import HTMX, text
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.errors import Conflict, NotFound
from webapp.runs.claims import run_claim
from webapp.runs.models import Run, Status, Worker
from webapp.runs.order import queue_part
from webapp.runs.queueing import run_move

PAST = timezone.now() - timedelta(minutes=5)


def make_worker(name: str = "box:1", **values: Any) -> Worker:
    defaults = {"host": "box", "heartbeat_at": timezone.now(), "queues": ["runs"], "slots": 1}
    return Worker.objects.create(name=name, **{**defaults, **values})


def order() -> list[str]:
    names = dict(Run.objects.values_list("pk", "name"))
    groups, _ = queue_part(teams=Team.objects.values_list("pk", flat=True), limit=1_000)
    return [names[group.run_id] for group in groups if group.run_id]


@pytest.fixture
def waiting(team: Team, member: User) -> dict[str, Run]:
    """Four runs of the member in the order a, b, c, d; the last is of low priority."""
    runs = {name: make_run(team, name, priority=-(name == "d"), created_by=member) for name in "abcd"}
    for age, run in enumerate(runs.values()):
        run.queued_at = timezone.now() - timedelta(minutes=10 - age)
        run.save()
    return runs


def test_an_empty_queue_says_what_to_do(pages: Client) -> None:
    shown = text(pages.get("/runs/queue"))
    for expected in ("Nothing is running", "Nothing waits", "No worker is alive"):
        assert expected in shown


def test_running_waiting_and_workers_are_shown(pages: Client, team: Team, waiting: dict[str, Run]) -> None:
    system = {"cpu": 0.5, "memory_used": 8e9, "cpus": 4}
    gpu = [{"index": "0", "name": "A100", "memory_mb": 81920.0, "memory_used_mb": 1024.0}]
    worker = make_worker(system=system, memory_bytes=16e9, devices=gpu)
    started = timezone.now() - timedelta(seconds=60)
    make_run(team, "busy", status=Status.RUNNING, worker=worker, step=30, total_steps=60, started_at=started)
    shown = text(pages.get("/runs/queue"))
    for expected in ("busy", "step 30 of 60", "Waits for 1 GPU; starts in a moment", "3 ahead", "A100", "50 %"):
        assert expected in shown
    fragment = text(pages.get("/runs/queue", headers=HTMX))
    assert "<html" not in fragment


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        (None, "No worker for training is alive"),
        ({"draining": True}, "Every worker it fits on is draining: box:1"),
        ({"slots": 0, "queues": ["light"]}, "No worker for training is alive"),
    ],
)
def test_runs_that_nobody_takes_are_pointed_out(
    pages: Client, run: Run, worker: dict[str, Any] | None, why: str
) -> None:
    if worker is not None:
        make_worker(**worker)
    assert why in text(pages.get("/runs/queue"))


def test_the_queue_of_others_is_not_shown(pages: Client, other_team: Team) -> None:
    make_run(other_team, "theirs")
    assert "theirs" not in text(pages.get("/runs/queue"))


@pytest.mark.parametrize(
    ("moved", "past", "place", "expected"),
    [
        ("c", "a", "ahead", "cabd"),
        ("c", "b", "ahead", "acbd"),
        ("a", "c", "behind", "bcad"),
        ("a", "d", "behind", "bcda"),
        ("d", "a", "ahead", "dabc"),
        ("a", "d", "ahead", "bcad"),
        ("a", "a", "ahead", "abcd"),
    ],
)
def test_runs_are_moved_past_each_other(
    pages: Client, waiting: dict[str, Run], moved: str, past: str, place: str, expected: str
) -> None:
    body = {"past": waiting[past].pk, "place": place}
    answer = pages.post(f"/runs/{waiting[moved].pk}/move", body, headers=HTMX)
    assert answer.status_code == (409 if moved == past else 200)
    assert "".join(order()) == expected


def test_moving_again_and_again_keeps_the_order_exact(actor: Actor, waiting: dict[str, Run]) -> None:
    for _ in range(6):
        run_move(actor=actor, run=waiting["b"], past=waiting["a"], ahead=True)
        run_move(actor=actor, run=waiting["c"], past=waiting["a"], ahead=True)
        assert "".join(order()) == "bcad"
        run_move(actor=actor, run=waiting["c"], past=waiting["b"], ahead=True)
        assert "".join(order()) == "cbad"


def test_only_runs_that_wait_are_moved(actor: Actor, team: Team, waiting: dict[str, Run]) -> None:
    busy = make_run(team, "busy", status=Status.RUNNING, created_by=actor.user)
    for run, past in ((busy, waiting["a"]), (waiting["a"], busy)):
        with pytest.raises(Conflict):
            run_move(actor=actor, run=run, past=past, ahead=True)
    assert "".join(order()) == "abcd"


def test_nobody_moves_past_runs_of_others(actor: Actor, other_team: Team, waiting: dict[str, Run]) -> None:
    theirs = make_run(other_team, "theirs")
    with pytest.raises(NotFound):
        run_move(actor=actor, run=waiting["a"], past=theirs, ahead=True)


@pytest.mark.parametrize("past", ["", "x", "00000000-0000-0000-0000-000000000000"])
def test_a_move_past_nothing_is_refused(pages: Client, waiting: dict[str, Run], past: str) -> None:
    assert pages.post(f"/runs/{waiting['a'].pk}/move", {"past": past}).status_code == 404


def test_an_admin_drains_a_worker(
    pages: Client, signed_in: Callable[[User], Client], admin: User, waiting: dict[str, Run]
) -> None:
    worker = make_worker()
    path = f"/runs/queue/workers/{worker.pk}"
    assert "Drain" not in text(pages.get("/runs/queue"))
    assert pages.post(path, {"draining": "yes"}).status_code == 403
    theirs = signed_in(admin)
    assert "Take runs again" in text(theirs.post(path, {"draining": "yes"}, follow=True))
    assert "Draining" in text(pages.get("/runs/queue"))
    assert "Take runs again" not in text(theirs.post(path, {"draining": "no"}, follow=True))


def test_members_move_their_own_runs_and_admins_all(
    pages: Client, signed_in: Callable[[User], Client], admin: User, team: Team, waiting: dict[str, Run]
) -> None:
    theirs = make_run(team, "x", created_by=admin)
    make_worker()
    path, body = f"/runs/{theirs.pk}/move", {"past": waiting["a"].pk, "place": "ahead"}
    shown = text(pages.get("/runs/queue"))
    assert f"/runs/{waiting['b'].pk}/move" in shown
    assert path not in shown
    assert pages.post(path, body).status_code == 403
    client = signed_in(admin)
    assert path in text(client.get("/runs/queue"))
    assert client.post(path, body, headers=HTMX).status_code == 200
    assert "".join(order()) == "xabcd"


def test_a_run_lands_where_it_is_dropped_whoever_s_turn_it_was(
    team: Team, member: User, admin: User, waiting: dict[str, Run]
) -> None:
    make_run(team, "busy", status=Status.RUNNING, created_by=member)
    for name in "xyz":
        make_run(team, name, created_by=admin)
    assert "".join(order()) == "xaybzcd"
    runs = {run.name: run for run in Run.objects.filter(status=Status.QUEUED)}
    boss = Actor(admin)
    run_move(actor=boss, run=runs["c"], past=runs["x"], ahead=True)
    assert "".join(order()) == "cxaybzd"
    run_move(actor=boss, run=runs["x"], past=runs["b"], ahead=False)
    assert "bx" in "".join(order())


def test_an_admin_pauses_the_queue_and_everybody_sees_who(
    pages: Client, signed_in: Callable[[User], Client], admin: User, run: Run
) -> None:
    worker = make_worker()
    assert pages.post("/runs/queue/pause", {"paused": "yes"}).status_code == 403
    client = signed_in(admin)
    shown = text(client.post("/runs/queue/pause", {"paused": "yes"}, follow=True))
    assert "Let the queue go on" in shown
    shown = text(pages.get("/runs/queue"))
    assert f"The queue is paused</span> by {admin}" in shown
    assert f"The queue is paused by {admin}" in shown
    assert run_claim(worker=worker) is None
    assert "The queue is paused" not in text(client.post("/runs/queue/pause", {"paused": "no"}, follow=True))
    assert run_claim(worker=worker) is not None


def test_a_long_queue_is_shown_by_the_page(pages: Client, team: Team, member: User) -> None:
    for number in range(51):
        make_run(team, f"run {number}", created_by=member)
    first, second = text(pages.get("/runs/queue")), text(pages.get("/runs/queue?page=2"))
    assert "run 49<" in first
    assert "run 50<" not in first
    assert "run 50<" in second
    assert "run 49<" not in second
    assert "shorter than that" in text(pages.get("/runs/queue?page=9"))


def test_the_queue_takes_the_same_queries_however_long(pages: Client, team: Team, member: User) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            pages.get("/runs/queue", headers=HTMX)
        return len(queries)

    def more(number: int) -> None:
        worker = make_worker(f"box:{number}")
        make_run(team, f"done {number}", status=Status.SUCCEEDED, started_at=PAST, finished_at=timezone.now(), step=9)
        make_run(team, f"busy {number}", status=Status.RUNNING, worker=worker, created_by=member)
        make_run(team, f"run {number}", created_by=member, labels=[f"l{number}"])

    pages.get("/runs/queue")
    more(0)
    one = count()
    for number in range(1, 30):
        more(number)
    assert count() == one
    assert one <= 14
