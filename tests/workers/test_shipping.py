"""Checkpoints on their way into the artifact store."""

import pytest
from django.db import connections

from polm_core.run_dir import Manifest, RunDir
from webapp import artifacts
from webapp.registry.models import Checkpoint
from webapp.runs.leases import Claim, LeaseLost
from webapp.runs.models import Run, RunCheckpoint
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
