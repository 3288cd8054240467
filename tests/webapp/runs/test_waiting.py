"""Why a queued run waits, in words, and when it may start."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.support.api import ApiClient
from tests.support.runs import make_run
from tests.webapp.runs.test_claims import CPU_ONLY, GPU_24, GPU_40, ONE_GPU, TWO_GPUS, gpus, make_worker
from webapp.accounts.models import Team, User
from webapp.registry.models import ModelStatus
from webapp.runs.models import QueuePause, Run, Status
from webapp.runs.waiting import Waiting, waiting_of


def waiting(run: Run) -> Waiting:
    found = waiting_of(run)
    assert found is not None
    return found


def finished(team: Team, minutes: float, **values: Any) -> Run:
    now = timezone.now()
    ended = {"status": Status.SUCCEEDED, "started_at": now - timedelta(minutes=minutes), "finished_at": now}
    return make_run(team, "done", **{**ended, "step": 60, **values})


@pytest.mark.parametrize(
    ("needs", "workers", "reason", "help_"),
    [
        (CPU_ONLY, [], "no worker for training is alive", "make run"),
        (CPU_ONLY, [{"queues": ["light"]}], "no worker for training is alive", "make run"),
        (CPU_ONLY, [{"heartbeat_at": timezone.now() - timedelta(hours=1)}], "no worker for training is alive", ""),
        (TWO_GPUS, [{"devices": gpus(GPU_24)}], "asks for 2 GPUs; the largest worker has 1", "devices: 1"),
        (ONE_GPU, [{}], "asks for 1 GPU; the largest worker has none", "devices: 0"),
        (
            ONE_GPU | {"gpu_memory_gb": 80},
            [{"devices": gpus(GPU_24, GPU_40)}],
            "asks for 1 GPU with 80 GB; the largest worker has 1 GPU with 42 GB",
            "at most 42 GB",
        ),
        (CPU_ONLY | {"labels": ["x"]}, [{"labels": ["y"]}], "no worker carries the label x", "POLM_LABELS=x"),
        (
            CPU_ONLY | {"labels": ["x", "y"]},
            [{"labels": ["y"]}, {"labels": ["x"]}],
            "no worker carries all the labels x, y",
            "ask for fewer",
        ),
        (CPU_ONLY, [{"slots": 0}], "asks for the CPU; no worker has a slot for it", "POLM_SLOTS=1"),
        (CPU_ONLY, [{"draining": True}], "every worker it fits on is draining: w0", "take runs again"),
        (CPU_ONLY, [{}], "waits for a CPU slot; starts in a moment", ""),
        (ONE_GPU | {"gpu_memory_gb": 40}, [{"devices": gpus(GPU_40)}], "waits for 1 GPU with 40 GB; starts in", ""),
        (
            {"gpus": 1, "cpu_will_do": True, "labels": ["lab2"]},
            [{"devices": gpus(GPU_40), "labels": ["lab2"]}, {"labels": ["lab2", "a"]}],
            "waits for 1 GPU or a CPU slot on lab2; starts in a moment",
            "",
        ),
    ],
)
def test_a_run_says_what_it_waits_for(
    team: Team, needs: dict[str, Any], workers: list[dict[str, Any]], reason: str, help_: str
) -> None:
    run = make_run(team, **needs)
    for number, values in enumerate(workers):
        make_worker(f"w{number}", **values)
    found = waiting(run)
    assert found.reason.startswith(reason)
    assert help_ in found.advice


def test_reasons_come_in_the_order_of_what_must_change_first(team: Team, admin: User) -> None:
    run = make_run(team, labels=["x"])
    run.model.status = ModelStatus.PREPARING
    run.model.save()
    pause = QueuePause.objects.create(by=admin)
    assert waiting(run).reason == f"the queue is paused by {admin}"
    pause.delete()
    assert waiting(run).reason == "no worker for training is alive"
    worker = make_worker(draining=True)
    assert waiting(run).reason == "no worker carries the label x"
    worker.labels = ["x"]
    worker.save()
    assert waiting(run).reason == "the model base is being prepared"
    run.model.status = ModelStatus.READY
    run.model.save()
    assert waiting(run).reason == "every worker it fits on is draining: w1"
    worker.draining = False
    worker.save()
    assert waiting(run).reason == "waits for a CPU slot on x; starts in a moment"


def test_the_forecast_comes_from_the_team_s_own_runs(team: Team, other_team: Team) -> None:
    worker = make_worker(slots=2)
    for name in "ab":
        make_run(team, name, status=Status.RUNNING, worker=worker, started_at=timezone.now())
    run = make_run(team, "new", config={"max_steps": 120})
    finished(other_team, 100)
    assert waiting(run).expected_seconds is None
    assert waiting(run).reason == "waits for a CPU slot; next"
    finished(team, 50, method="dpo", step=50)
    # Another method's is better than nothing.
    assert waiting(run).expected_seconds == pytest.approx(50 * 60, rel=0.02)
    finished(team, 10)
    assert waiting(run).expected_seconds == pytest.approx(10 * 60, rel=0.02)
    # Two runs of ten minutes at work on two places, then the one ahead: of 120 steps at ten seconds.
    later = make_run(team, "later")
    found = waiting(later)
    assert found.ahead == 1
    assert found.expected_seconds == pytest.approx((10 + 10 + 20) * 60 / 2, rel=0.02)
    assert found.reason.startswith("waits for a CPU slot; 1 ahead; expected in ")


def test_only_those_that_want_the_same_are_ahead(team: Team) -> None:
    make_worker(devices=gpus(GPU_24))
    for number in range(3):
        make_run(team, f"cpu {number}", **CPU_ONLY)
    make_run(team, "impossible", **TWO_GPUS)
    first, second = make_run(team, "gpu", **ONE_GPU), make_run(team, "gpu 2", **ONE_GPU)
    assert (waiting(first).ahead, waiting(second).ahead) == (0, 1)


def test_the_api_says_the_same(api: ApiClient, admin: User, team: Team) -> None:
    make_worker(slots=1)
    runs = [make_run(team, f"run {number}") for number in range(3)]
    answer = api.get("/queue?limit=2").json()
    assert (answer["paused"], answer["total"], answer["next_cursor"]) == (None, 3, "2")
    assert [item["id"] for item in answer["items"]] == [str(run.pk) for run in runs[:2]]
    assert answer["items"][1]["reason"] == "waits for a CPU slot; 1 ahead"
    (last,) = api.get("/queue?limit=2&cursor=2").json()["items"]
    assert last["name"] == "run 2"
    assert api.get("/queue?cursor=x").status_code == 422
    QueuePause.objects.create(by=admin)
    paused = api.get("/queue").json()["paused"]
    assert paused["by"] == admin.username
    assert paused["since"]


def test_an_admin_pauses_drains_and_moves_through_the_api(api: ApiClient, api_of: Any, admin: User, team: Team) -> None:
    worker = make_worker()
    first, second = make_run(team, "first"), make_run(team, "second")
    boss = api_of(admin)
    for path in ("/queue/pause", "/queue/resume", f"/workers/{worker.pk}/drain"):
        assert api.post(path).status_code == 403
    assert boss.post("/queue/pause").json()["by"] == admin.username
    assert boss.post("/queue/pause").status_code == 200
    assert boss.post("/queue/resume").status_code == 204
    assert boss.post("/queue/resume").status_code == 204
    assert QueuePause.objects.count() == 0
    assert boss.post(f"/workers/{worker.pk}/drain").json() == {"draining": True}
    assert boss.post(f"/workers/{worker.pk}/drain", {"draining": False}).json() == {"draining": False}
    body = {"past": str(first.pk), "place": "ahead"}
    assert api.post(f"/runs/{second.pk}/move", body).status_code == 403
    assert boss.post(f"/runs/{second.pk}/move", body).status_code == 200
    assert [item["name"] for item in boss.get("/queue").json()["items"]] == ["second", "first"]
