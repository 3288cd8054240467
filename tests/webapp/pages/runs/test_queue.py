"""The queue: what runs, what waits and why, moving runs past each other, draining workers."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import HTMX, text
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.errors import Conflict, NotFound
from webapp.runs.models import Run, Status, Worker
from webapp.runs.services import run_move


def make_worker(name: str = "box:1", **values: Any) -> Worker:
    defaults = {"host": "box", "heartbeat_at": timezone.now(), "queues": ["runs"], "slots": 1}
    return Worker.objects.create(name=name, **{**defaults, **values})


def order() -> list[str]:
    return list(
        Run.objects.filter(status=Status.QUEUED).order_by("-priority", "queued_at").values_list("name", flat=True)
    )


@pytest.fixture
def waiting(team: Team) -> dict[str, Run]:
    """Four runs in the order a, b, c, d; the last is of low priority."""
    runs = {name: make_run(team, name, priority=-(name == "d")) for name in "abcd"}
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
    gpu = [{"name": "A100", "memory_mb": 81920.0, "memory_used_mb": 1024.0}]
    worker = make_worker(system=system, memory_bytes=16e9, devices=gpu)
    started = timezone.now() - timedelta(seconds=60)
    make_run(team, "busy", status=Status.RUNNING, worker=worker, step=30, total_steps=60, started_at=started)
    shown = text(pages.get("/runs/queue"))
    for expected in ("busy", "step 30 of 60", "Next when a worker is free", "3 ahead", "A100", "50 %", "8 GB of 16 GB"):
        assert expected in shown
    assert "Nobody takes these runs" not in shown
    fragment = text(pages.get("/runs/queue", headers=HTMX))
    assert "<html" not in fragment


@pytest.mark.parametrize("worker", [None, {"draining": True}, {"slots": 0, "queues": ["light"]}])
def test_runs_that_nobody_takes_are_pointed_out(pages: Client, run: Run, worker: dict[str, Any] | None) -> None:
    if worker is not None:
        make_worker(**worker)
    assert "Nobody takes these runs" in text(pages.get("/runs/queue"))


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
    busy = make_run(team, "busy", status=Status.RUNNING)
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


def test_the_queue_takes_the_same_queries_however_long(
    pages: Client, team: Team, django_assert_max_num_queries: Any
) -> None:
    for number in range(50):
        make_run(team, f"run {number}", status=Status.RUNNING if number % 2 else Status.QUEUED)
        make_worker(f"box:{number}")
    with django_assert_max_num_queries(14):
        pages.get("/runs/queue", headers=HTMX)
