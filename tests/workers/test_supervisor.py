"""A run that was elsewhere meanwhile: what is left of it here is ended and cleared away."""

import datetime
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from polm_core.run_dir import Outcome, Result, RunDir
from webapp.runs.claims import run_claim
from webapp.runs.leases import Claim
from webapp.runs.models import Run, Status, Worker
from webapp.studio.identity import Identity, place
from workers.supervisor import Supervisor


@pytest.fixture
def supervisor(claim: Claim, settings: Settings, tmp_path: Path) -> Supervisor:
    settings.RUNS_DIR = tmp_path
    return Supervisor(claim, Worker.objects.get(), threading.Event())


@pytest.fixture
def process(supervisor: Supervisor) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is recorded as the run's."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as started:
        supervisor.run_dir.create()
        identity = Identity.of(started.pid)
        assert identity is not None
        identity.write(supervisor.run_dir.root / "child.json")
        threading.Thread(target=started.wait, daemon=True).start()
        yield started
        started.kill()


def mark(run_dir: RunDir, epoch: int) -> None:
    run_dir.create()
    (run_dir.root / ".epoch").write_text(str(epoch))


def test_the_directory_of_the_claim_before_is_gone_on_with(
    supervisor: Supervisor, process: subprocess.Popen[bytes]
) -> None:
    mark(supervisor.run_dir, supervisor.claim.epoch - 1)
    supervisor._clear_what_is_out_of_date()
    assert supervisor.child.alive()
    assert (supervisor.run_dir.root / ".epoch").read_text() == str(supervisor.claim.epoch)


@pytest.mark.parametrize("epoch", [-1, 7, None])
def test_any_other_directory_is_cleared_away_and_its_process_ended(
    supervisor: Supervisor, process: subprocess.Popen[bytes], epoch: int | None
) -> None:
    if epoch is not None:
        mark(supervisor.run_dir, epoch)
    supervisor._clear_what_is_out_of_date()
    assert process.wait(10) < 0
    assert not supervisor.run_dir.root.exists()


@pytest.mark.parametrize(("where", "ends"), [("boot-1", False), ("elsewhere", True)])
def test_a_run_taken_over_elsewhere_ends_here(
    supervisor: Supervisor, process: subprocess.Popen[bytes], run: Run, where: str, ends: bool
) -> None:
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - datetime.timedelta(hours=1))
    successor = Worker.objects.create(name="w2", host="w2", boot_id=where, heartbeat_at=timezone.now())
    assert run_claim(worker=successor) is not None
    mark(supervisor.run_dir, supervisor.claim.epoch - 1)
    supervisor.run()
    assert supervisor.run_dir.root.exists() != ends
    if ends:
        assert process.wait(10) < 0
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)


FIGURES = '{"figures": [{"metric": "accuracy", "value": 0.5, "low": 0.1, "high": 0.9, "rows": 2, "better": "higher"}]}'


@pytest.mark.parametrize(
    ("figures", "outcome", "status", "recorded"),
    [
        (FIGURES, Outcome.SUCCEEDED, Status.SUCCEEDED, ["accuracy"]),
        (FIGURES, Outcome.STOPPED, Status.STOPPED, []),
        ("{", Outcome.SUCCEEDED, Status.FAILED, []),
    ],
)
def test_what_an_evaluation_leaves_is_recorded_when_it_has_come_to_its_end(
    supervisor: Supervisor, run: Run, figures: str, outcome: Outcome, status: Status, recorded: list[str]
) -> None:
    mark(supervisor.run_dir, supervisor.claim.epoch - 1)
    supervisor.run_dir.figures.write_text(figures)
    supervisor.run_dir.write_result(Result(outcome=outcome))
    Run.objects.filter(pk=run.pk).update(child={"pid": 1, "boot_id": supervisor.worker.boot_id})
    supervisor.run()
    run.refresh_from_db()
    assert run.status == status
    assert list(run.results.values_list("metric", flat=True)) == recorded
    assert (run.error or {}).get("code") == ("evaluation.broken" if status == Status.FAILED else None)


def test_two_state_directories_of_one_machine_are_two_places(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert place(tmp_path / "one") == place(tmp_path / "one")
    assert place(tmp_path / "one") != place(tmp_path / "two")
