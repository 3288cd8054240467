"""Claims, leases and how a run goes on from how its process ended."""

import datetime
import threading

import pytest
from django.db import connection
from django.utils import timezone

from polm_core.errors import disk_full
from polm_core.run_dir import Outcome, Progress, Result
from tests.support.runs import make_run
from webapp.accounts.models import Team, User
from webapp.registry.models import ModelStatus
from webapp.runs.claims import run_claim
from webapp.runs.leases import (
    ELSEWHERE_AFTER,
    LEASE,
    MAX_CRASHES,
    MAX_RESUMED,
    Claim,
    LeaseLost,
    lease_release,
    lease_renew,
    leases_correct,
    run_child_started,
    run_finish,
    run_progress,
    run_resumed,
)
from webapp.runs.models import Run, Status, Worker

CRASH = Result(outcome=Outcome.CRASHED)


def make_worker(name: str = "w1", boot_id: str = "boot-1") -> Worker:
    return Worker.objects.create(
        name=name, host=name, boot_id=boot_id, queues=["runs"], slots=20, heartbeat_at=timezone.now()
    )


@pytest.fixture
def worker(db: None) -> Worker:
    return make_worker()


def claimed(worker: Worker) -> Claim:
    claim = run_claim(worker=worker)
    assert claim is not None
    return claim


def expire(run: Run, seconds: float = 1) -> None:
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=seconds))


def test_claims_by_priority_then_fair_share_then_age(team: Team, worker: Worker, member: User, admin: User) -> None:
    busy = make_run(team, "busy", created_by=member, status=Status.RUNNING, lease_until=timezone.now() + LEASE)
    second_of_member = make_run(team, "member", created_by=member)
    first_of_admin = make_run(team, "admin", created_by=admin)
    urgent = make_run(team, "urgent", created_by=member, priority=5)
    taken = [claimed(worker).run_id for _ in range(3)]
    assert taken == [urgent.pk, first_of_admin.pk, second_of_member.pk]
    assert run_claim(worker=worker) is None
    busy.refresh_from_db()
    assert busy.lease_epoch == 0


def test_a_run_whose_model_is_being_prepared_waits(team: Team, worker: Worker) -> None:
    run = make_run(team)
    run.model.status = ModelStatus.PREPARING
    run.model.save()
    assert run_claim(worker=worker) is None
    run.model.status = ModelStatus.READY
    run.model.save()
    assert claimed(worker).run_id == run.pk


def test_a_new_claim_fences_the_old_one(team: Team, worker: Worker) -> None:
    run = make_run(team)
    old = claimed(worker)
    expire(run)
    new = claimed(worker)
    assert new.epoch == old.epoch + 1
    for write in (
        lambda: lease_renew(old),
        lambda: run_progress(old, Progress(step=9)),
        lambda: run_finish(old, Result(outcome=Outcome.SUCCEEDED)),
    ):
        with pytest.raises(LeaseLost):
            write()
    run.refresh_from_db()
    assert (run.status, run.step) == (Status.STARTING, 0)
    assert lease_renew(new) == Status.STARTING


def test_a_released_run_is_taken_over_at_once(team: Team, worker: Worker) -> None:
    make_run(team)
    claim = claimed(worker)
    assert run_claim(worker=worker) is None
    run_child_started(claim, {"pid": 1, "boot_id": worker.boot_id})
    lease_release(claim)
    assert claimed(worker).epoch == claim.epoch + 1


def test_another_machine_waits_before_it_starts_afresh(team: Team, worker: Worker) -> None:
    run = make_run(team)
    claimed(worker)
    Run.objects.filter(pk=run.pk).update(child={"pid": 1, "boot_id": "boot-1"})
    elsewhere = make_worker("w2", "boot-2")
    expire(run, 5)
    assert run_claim(worker=elsewhere) is None
    expire(run, ELSEWHERE_AFTER.total_seconds() + 1)
    assert claimed(elsewhere).run_id == run.pk


def test_a_worker_whose_clock_is_wrong_keeps_leases_right(
    team: Team, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(team)
    claim = claimed(worker)
    right = timezone.now
    for hours in (3, -3):
        monkeypatch.setattr(timezone, "now", lambda hours=hours: right() + datetime.timedelta(hours=hours))
        lease_renew(claim)
        assert run_claim(worker=make_worker(f"elsewhere {hours}", "boot-2")) is None
        assert run_claim(worker=worker) is None


def test_a_lease_is_not_held_for_long_after_the_clock_was_set_back(team: Team, worker: Worker) -> None:
    run = make_run(team)
    claimed(worker)
    Run.objects.filter(pk=run.pk).update(child={"pid": 1, "boot_id": "boot-1"})
    expire(run, -3600)
    leases_correct()
    run.refresh_from_db()
    assert run.lease_until is not None
    assert run.lease_until <= timezone.now() + LEASE
    # It is an ordinary lease again: neither its own place nor another takes the run over before it ends.
    assert run_claim(worker=worker) is None
    assert run_claim(worker=make_worker("w2", "boot-2")) is None


def test_progress_turns_starting_into_running_and_keeps_wishes(team: Team, worker: Worker) -> None:
    run = make_run(team)
    claim = claimed(worker)
    run_progress(claim, Progress(step=1, total_steps=10))
    run.refresh_from_db()
    assert (run.status, run.step, run.total_steps) == (Status.RUNNING, 1, 10)
    Run.objects.filter(pk=run.pk).update(status=Status.STOPPING)
    run_progress(claim, Progress(step=2, total_steps=10))
    run.refresh_from_db()
    assert (run.status, run.step) == (Status.STOPPING, 2)


def test_where_a_run_was_resumed_from_is_kept_in_order(team: Team, worker: Worker) -> None:
    run = make_run(team)
    claim = claimed(worker)
    for step in range(MAX_RESUMED + 2):
        run_resumed(claim, step)
    run.refresh_from_db()
    assert run.resumed_from == list(range(2, MAX_RESUMED + 2))
    with pytest.raises(LeaseLost):
        run_resumed(Claim(claim.run_id, claim.epoch + 1), 7)
    run.refresh_from_db()
    assert run.resumed_from[-1] == MAX_RESUMED + 1


@pytest.mark.parametrize(
    ("asked", "outcome", "expected"),
    [
        (Status.RUNNING, Outcome.SUCCEEDED, Status.SUCCEEDED),
        (Status.STOPPING, Outcome.SUCCEEDED, Status.SUCCEEDED),
        (Status.STOPPING, Outcome.STOPPED, Status.STOPPED),
        (Status.PAUSING, Outcome.PAUSED, Status.PAUSED),
        # The machine asked for room, nobody asked for a pause: the run waits for its next turn.
        (Status.RUNNING, Outcome.PAUSED, Status.QUEUED),
        (Status.STOPPING, Outcome.PAUSED, Status.STOPPED),
        (Status.RUNNING, Outcome.FAILED, Status.FAILED),
        (Status.RUNNING, Outcome.CRASHED, Status.QUEUED),
        (Status.STOPPING, Outcome.CRASHED, Status.STOPPED),
    ],
)
def test_the_end_decides_how_a_run_goes_on(
    team: Team, worker: Worker, asked: Status, outcome: Outcome, expected: Status
) -> None:
    run = make_run(team)
    claim = claimed(worker)
    Run.objects.filter(pk=run.pk).update(status=asked)
    assert run_finish(claim, Result(outcome=outcome)) == expected
    run.refresh_from_db()
    assert run.status == expected
    assert run.lease_until is None
    assert (run.finished_at is not None) == (expected in (Status.SUCCEEDED, Status.STOPPED, Status.FAILED))


@pytest.mark.parametrize("asked", [Status.RUNNING, Status.STOPPING, Status.PAUSING])
def test_a_full_disk_pauses_a_run_with_advice(team: Team, worker: Worker, asked: Status) -> None:
    run = make_run(team)
    claim = claimed(worker)
    Run.objects.filter(pk=run.pk).update(status=asked)
    error = disk_full("The disk is full.").as_dict()
    assert run_finish(claim, Result(outcome=Outcome.FAILED, error=error)) == Status.PAUSED
    run.refresh_from_db()
    assert run.error == error
    assert (run.crashes, run.finished_at) == (0, None)


def test_crashes_are_retried_twice_and_then_explained(team: Team, worker: Worker) -> None:
    run = make_run(team)
    for _ in range(MAX_CRASHES):
        assert run_finish(claimed(worker), CRASH) == Status.QUEUED
    assert run_finish(claimed(worker), None) == Status.FAILED
    run.refresh_from_db()
    assert run.error is not None
    assert run.error["code"] == "crashed"
    assert run.error["advice"]


@pytest.mark.django_db(transaction=True)
def test_many_workers_never_claim_the_same_run(team: Team) -> None:
    runs = {make_run(team, f"run {number}").pk for number in range(12)}
    workers = [make_worker(f"w{number}") for number in range(4)]
    taken: list[object] = []

    def work(worker: Worker) -> None:
        try:
            while claim := run_claim(worker=worker):
                taken.append(claim.run_id)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(runs)
    assert set(taken) == runs
