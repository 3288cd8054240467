"""Checkpoints on their way into the artifact store."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from polm_core.run_dir import Manifest, RunDir
from tests.support.s3 import S3Server
from webapp import artifacts
from webapp.registry.models import Checkpoint
from webapp.runs.leases import Claim, LeaseLost
from webapp.runs.models import Project, Run, RunCheckpoint
from workers import shipping
from workers.shipping import Shipper

pytestmark = pytest.mark.django_db(transaction=True)


def save(run_dir: RunDir, step: int, *, seal: bool = True) -> None:
    folder = run_dir.checkpoint(step)
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(bytes([step % 256]) * 1000)
    (folder / "optimizer.pt").write_bytes(b"o" * 2000)
    if seal:
        run_dir.seal_checkpoint(
            Manifest(step=step, kind="adapter", method="sft", base_model="base", trainer_state=["optimizer.pt"])
        )


def ship(claim: Claim, run_dir: RunDir) -> Shipper:
    """Look until everything complete is stored, as a supervisor does at the end of a run."""
    shipper = Shipper(claim, run_dir)
    try:
        for _ in range(200):
            if shipper.done():
                return shipper
            shipper._current and shipper._current.exception()
        raise AssertionError("not everything was stored")
    finally:
        shipper.close()
        connections.close_all()


def test_a_complete_checkpoint_is_stored_and_listed(claim: Claim, run: Run, run_dir: RunDir) -> None:
    save(run_dir, 10)
    ship(claim, run_dir)
    checkpoint = Checkpoint.objects.get()
    assert RunCheckpoint.objects.get(run=run).checkpoint == checkpoint
    assert checkpoint.kind == "adapter"
    for file in checkpoint.files:
        assert artifacts.digest(f"{checkpoint.key}/{file['path']}") == file["sha256"]


def test_a_half_written_checkpoint_is_not(claim: Claim, run_dir: RunDir) -> None:
    save(run_dir, 10, seal=False)
    ship(claim, run_dir)
    assert not Checkpoint.objects.exists()


def test_only_the_newest_keeps_what_resuming_needs(claim: Claim, run_dir: RunDir) -> None:
    save(run_dir, 10)
    ship(claim, run_dir)
    save(run_dir, 20)
    ship(claim, run_dir)
    older, newer = Checkpoint.objects.order_by("step")
    assert not artifacts.exists(f"{older.key}/optimizer.pt")
    assert artifacts.exists(f"{older.key}/adapter_model.safetensors")
    assert older.bytes == 1000
    assert artifacts.exists(f"{newer.key}/optimizer.pt")
    assert not run_dir.checkpoint(10).exists()
    assert run_dir.last_checkpoint() == run_dir.checkpoint(20)


def test_shipping_twice_changes_nothing(claim: Claim, run_dir: RunDir) -> None:
    save(run_dir, 10)
    ship(claim, run_dir)
    first = Checkpoint.objects.get()
    ship(claim, run_dir)
    assert Checkpoint.objects.get() == first


def test_a_supervisor_without_its_lease_lists_nothing(claim: Claim, run_dir: RunDir) -> None:
    save(run_dir, 10)
    Run.objects.update(lease_epoch=claim.epoch + 1)
    with pytest.raises(LeaseLost):
        ship(claim, run_dir)
    assert not Checkpoint.objects.exists()


def test_checkpoints_go_into_a_bucket_alike(claim: Claim, run: Run, run_dir: RunDir, s3_store: S3Server) -> None:
    for step in (10, 20):
        save(run_dir, step)
        ship(claim, run_dir)
    older, newer = Checkpoint.objects.order_by("step")
    assert not artifacts.exists(f"{older.key}/optimizer.pt")
    for checkpoint in (older, newer):
        for file in checkpoint.files:
            assert artifacts.digest(f"{checkpoint.key}/{file['path']}") == file["sha256"]
    assert not [line for line in s3_store.requests() if line.startswith("GET") and ".safetensors" in line][2:]


def test_a_project_keeps_what_it_says(claim: Claim, run: Run, run_dir: RunDir) -> None:
    Project.objects.update(keep_last=2)
    for step in (10, 20, 30, 40):
        save(run_dir, step)
        ship(claim, run_dir)
    assert list(run.run_checkpoints.order_by("step").values_list("step", flat=True)) == [30, 40]
    assert Shipper(claim, run_dir).known == {10, 20, 30, 40}


@pytest.fixture
def full_store(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store on another disk than the run directory that takes no file over 500 bytes, for as long as the test says.

    The limit on file size stands in for a full disk.
    """
    root = Path("/dev/shm") / f"polm-full-{os.getpid()}"  # noqa: S108
    settings.ARTIFACT_URL = f"file://{root}"
    artifacts._store.cache_clear()
    monkeypatch.setattr(shipping, "RETRY", 0.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        yield root
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        shutil.rmtree(root, ignore_errors=True)
        artifacts._store.cache_clear()


def test_a_full_store_is_tried_again_until_there_is_room(claim: Claim, run_dir: RunDir, full_store: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    save(run_dir, 10)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    shipper = Shipper(claim, run_dir)
    try:
        for _ in range(3):
            assert not shipper.done()
            shipper._current and shipper._current.exception()
        assert not shipper.done()
        assert shipper.full is not None
        assert shipper.full.code == "resource.disk"
        assert not Checkpoint.objects.exists()
        assert [path for path in full_store.rglob("*") if path.suffix == ".part"] == []
        assert run_dir.last_checkpoint() == run_dir.checkpoint(10)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
        for _ in range(200):
            if shipper.done():
                break
            shipper._current and shipper._current.exception()
        assert shipper.full is None
        assert Checkpoint.objects.get().step == 10
    finally:
        shipper.close()
        connections.close_all()
