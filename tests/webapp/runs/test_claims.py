"""Which run a worker takes, what it holds for it, and that none is taken twice."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from polm_core.run_dir import Outcome, Result
from tests.support.factories import make_user
from tests.support.runs import make_run
from webapp.accounts.models import Team, User
from webapp.runs.claims import run_claim
from webapp.runs.leases import Claim, lease_release, run_child_started, run_finish
from webapp.runs.models import QueuePause, Run, Status, Worker

GPU_40 = {"memory_mb": 40_960.0, "memory_used_mb": 0.0, "name": "A100"}
GPU_24 = {"memory_mb": 24_564.0, "memory_used_mb": 0.0, "name": "RTX 4090"}


def gpus(*devices: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**device, "index": str(index), "uuid": f"GPU-{index}"} for index, device in enumerate(devices)]


def make_worker(name: str = "w1", **values: Any) -> Worker:
    defaults = {"host": name, "boot_id": f"boot-{name}", "queues": ["runs"], "heartbeat_at": timezone.now()}
    return Worker.objects.create(name=name, **{**defaults, **values})


def taken(worker: Worker) -> Run | None:
    claim = run_claim(worker=worker)
    return Run.objects.get(pk=claim.run_id) if claim else None


CPU_ONLY = {"gpus": 0, "cpu_will_do": True}
ONE_GPU = {"gpus": 1, "cpu_will_do": False}
TWO_GPUS = {"gpus": 2, "cpu_will_do": False}
ANYTHING = {"gpus": 1, "cpu_will_do": True}


@pytest.mark.parametrize(
    ("needs", "worker", "expected"),
    [
        (ANYTHING, {}, []),
        (ANYTHING, {"devices": gpus(GPU_24)}, ["GPU-0"]),
        (ANYTHING, {"slots": 0}, None),
        (CPU_ONLY, {}, []),
        (CPU_ONLY, {"devices": gpus(GPU_24)}, []),
        (CPU_ONLY, {"devices": gpus(GPU_24), "slots": 0}, None),
        (ONE_GPU, {}, None),
        (ONE_GPU, {"devices": gpus(GPU_40, GPU_24)}, ["GPU-1"]),
        (ONE_GPU | {"gpu_memory_gb": 40}, {"devices": gpus(GPU_24, GPU_40)}, ["GPU-1"]),
        (ONE_GPU | {"gpu_memory_gb": 80}, {"devices": gpus(GPU_24, GPU_40)}, None),
        (TWO_GPUS, {"devices": gpus(GPU_24)}, None),
        (TWO_GPUS, {"devices": gpus(GPU_24, GPU_24, GPU_24)}, ["GPU-0", "GPU-1"]),
        (TWO_GPUS | {"gpu_memory_gb": 40}, {"devices": gpus(GPU_24, GPU_40)}, None),
        (CPU_ONLY | {"labels": ["a"]}, {}, None),
        (CPU_ONLY | {"labels": ["a"]}, {"labels": ["b", "a"]}, []),
        (CPU_ONLY | {"labels": ["a", "c"]}, {"labels": ["b", "a"]}, None),
        (CPU_ONLY, {"draining": True}, None),
        # An older worker reports no ids.
        (ONE_GPU, {"devices": [{**GPU_24, "index": "3"}]}, ["3"]),
    ],
)
def test_a_worker_takes_what_fits_it(
    team: Team, needs: dict[str, Any], worker: dict[str, Any], expected: list[str] | None
) -> None:
    make_run(team, **needs)
    run = taken(make_worker(**worker))
    assert (run.devices if run else None) == expected


def test_a_run_that_does_not_fit_lets_others_pass(team: Team) -> None:
    make_run(team, "large", priority=9, **TWO_GPUS)
    small = make_run(team, "small", **ONE_GPU)
    assert taken(make_worker(devices=gpus(GPU_24))) == small


def test_a_gpu_is_held_until_its_run_ends(team: Team) -> None:
    first, second = make_run(team, "first", **ONE_GPU), make_run(team, "second", **ONE_GPU)
    worker = make_worker(devices=gpus(GPU_24))
    claim = run_claim(worker=worker)
    assert claim is not None
    assert claim.run_id == first.pk
    assert run_claim(worker=worker) is None
    # Nor through another worker of the same machine.
    assert run_claim(worker=make_worker("w2", boot_id="boot-w1", devices=gpus(GPU_24))) is None
    run_finish(claim, Result(outcome=Outcome.SUCCEEDED))
    first.refresh_from_db()
    assert first.devices == []
    assert taken(worker) == second


def test_a_cpu_slot_is_held_beside_the_gpus(team: Team) -> None:
    for name in "abc":
        make_run(team, name, **CPU_ONLY)
    make_run(team, "gpu", **ONE_GPU)
    worker = make_worker(devices=gpus(GPU_24), slots=2)
    names = [run.name for run in iter(lambda: taken(worker), None)]
    assert names == ["a", "b", "gpu"]


def test_a_run_that_is_taken_over_keeps_its_gpu(team: Team) -> None:
    run = make_run(team, **ONE_GPU)
    make_run(team, "next", **ONE_GPU)
    before = make_worker(devices=gpus(GPU_24))
    claim = run_claim(worker=before)
    assert claim is not None
    run_child_started(claim, {"pid": 1, "boot_id": before.boot_id})
    after = make_worker("w1-again", boot_id=before.boot_id, devices=gpus(GPU_24))
    assert run_claim(worker=after) is None
    lease_release(claim)
    assert taken(after) == run
    run.refresh_from_db()
    assert (run.devices, run.lease_epoch, run.worker) == (["GPU-0"], 2, after)
    assert run_claim(worker=after) is None


@pytest.mark.parametrize("hindrance", ["pause", "drain"])
def test_what_lives_here_is_taken_over_even_where_nothing_new_is(team: Team, hindrance: str) -> None:
    run = make_run(team)
    worker = make_worker()
    claim = run_claim(worker=worker)
    assert claim is not None
    run_child_started(claim, {"pid": 1, "boot_id": worker.boot_id})
    lease_release(claim)
    make_run(team, "new")
    if hindrance == "pause":
        QueuePause.objects.create()
    else:
        Worker.objects.update(draining=True)
    assert taken(worker) == run
    assert run_claim(worker=worker) is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [(Status.RUNNING, Status.QUEUED), (Status.PAUSING, Status.PAUSED), (Status.STOPPING, Status.STOPPED)],
)
def test_a_run_whose_machine_is_gone_goes_back_to_the_queue(team: Team, status: Status, expected: Status) -> None:
    long_ago = timezone.now() - timedelta(minutes=2)
    child = {"pid": 1, "boot_id": "gone"}
    run = make_run(team, status=status, child=child, lease_until=long_ago, devices=["GPU-9"], **ONE_GPU)
    assert run_claim(worker=make_worker()) is None
    run.refresh_from_db()
    assert (run.status, run.devices, run.child, run.lease_until) == (expected, [], None, None)


def test_people_take_turns(team: Team, member: User, admin: User) -> None:
    for number in range(3):
        make_run(team, f"m{number}", created_by=member)
    for number in range(3):
        make_run(team, f"a{number}", created_by=admin)
    urgent = make_run(team, "urgent", created_by=member, priority=1)
    worker = make_worker(slots=10)
    names = [run.name for run in iter(lambda: taken(worker), None)]
    # The urgent one counts against its owner.
    assert names == [urgent.name, "a0", "m0", "a1", "m1", "a2", "m2"]


def test_a_claim_takes_the_same_queries_however_much_waits(team: Team, member: User) -> None:
    worker = make_worker(slots=100)

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert run_claim(worker=worker) is not None
        return len(queries)

    make_run(team, "first", created_by=member)
    one = count()
    for number in range(40):
        make_run(team, f"run {number}", created_by=make_user(f"u{number}"), priority=number % 3)
    assert {count() for _ in range(10)} == {one}
    assert one <= 9


@pytest.mark.django_db(transaction=True)
def test_each_run_is_claimed_once_and_each_gpu_held_by_one(team: Team) -> None:
    """Eight threads on two machines with four GPUs each, while runs end and make room."""
    users = [make_user(f"u{number}", team) for number in range(4)]
    runs = {make_run(team, f"run {n}", created_by=users[n % 4], **ONE_GPU).pk for n in range(60)}
    workers = [make_worker(f"w{number}", devices=gpus(*[GPU_24] * 4)) for number in range(2)]
    claimed: list[Claim] = []
    clashes: list[str] = []
    held: set[tuple[object, str]] = set()
    guard = threading.Lock()

    def work(worker: Worker) -> None:
        try:
            while len(claimed) < len(runs):
                claim = run_claim(worker=worker)
                if claim is None:
                    continue
                (gpu,) = Run.objects.values_list("devices", flat=True).get(pk=claim.run_id)
                with guard:
                    claimed.append(claim)
                    if (worker.pk, gpu) in held:
                        clashes.append(gpu)
                    held.add((worker.pk, gpu))
                with guard:
                    held.discard((worker.pk, gpu))
                run_finish(claim, Result(outcome=Outcome.SUCCEEDED))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(workers[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(claim.run_id for claim in claimed) == sorted(runs)
    assert {claim.epoch for claim in claimed} == {1}
    assert clashes == []
