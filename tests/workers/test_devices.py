"""From the GPUs of a worker's row to the environment of a real training process."""

import json
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from tests.support import factories
from tests.support.runs import make_run
from tests.support.tiny import build_model
from webapp.accounts.access import Actor
from webapp.registry.models import BaseModel, ModelSource, ModelStatus
from webapp.runs.claims import run_claim
from webapp.runs.models import Run, Status, Worker
from webapp.studio.identity import boot_id
from workers import children
from workers.supervisor import Supervisor

pytestmark = [pytest.mark.train, pytest.mark.django_db(transaction=True)]

GPU = {"index": "0", "uuid": "GPU-7", "name": "A100", "memory_mb": 40_960.0, "memory_used_mb": 0.0}
SETTINGS = {"max_steps": 100_000, "batch_size": 2, "max_length": 64, "eval_steps": 0, "save_steps": 0}


@pytest.fixture(scope="module", autouse=True)
def _stop_the_server_at_the_end() -> Iterator[None]:
    yield
    process = psutil.Process(json.loads((settings.VAR_DIR / "forkserver.pid").read_text())["pid"])
    process.terminate()
    psutil.wait_procs([process], timeout=10)


@pytest.mark.parametrize(("devices", "expected"), [([GPU], "GPU-7"), ([], "")])
def test_a_run_s_process_sees_what_the_claim_gave_it(
    monkeypatch: pytest.MonkeyPatch, devices: list[dict[str, object]], expected: str
) -> None:
    folder = settings.VAR_DIR / "models" / "tiny-devices"
    build_model(folder)
    team = factories.make_team("Red")
    version = factories.make_version(Actor(factories.make_user("max", team)))
    model = BaseModel.objects.create(
        team=team, name="tiny", source=ModelSource.PATH, path=str(folder), status=ModelStatus.READY
    )
    run = make_run(team, model=model, dataset_version=version, config=SETTINGS)
    worker = Worker.objects.create(
        name="w", host="w", boot_id=boot_id(), queues=["runs"], devices=devices, heartbeat_at=timezone.now()
    )
    claim = run_claim(worker=worker)
    assert claim is not None
    supervisor = Supervisor(claim, worker, threading.Event())

    def supervise() -> None:
        supervisor.run()
        connection.close()

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        _wait_for(lambda: Run.objects.get(pk=run.pk).step > 0)
        assert _environment(supervisor.child)["CUDA_VISIBLE_DEVICES"] == expected
        assert Run.objects.get(pk=run.pk).devices == ([expected] if expected else [])
        Run.objects.filter(pk=run.pk).update(status=Status.STOPPING)
    finally:
        thread.join(60)
        supervisor.child.kill()
    run.refresh_from_db()
    assert (run.status, run.devices) == (Status.STOPPED, [])


def _environment(child: children.Child) -> dict[str, str]:
    assert child.keeper is not None
    (trainer,) = psutil.Process(child.keeper.pid).children()
    return trainer.environ()


def _wait_for(check: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
