"""Checkpoints are complete or not there, and damage is noticed."""

from pathlib import Path

import pytest

from polm_core.errors import DataError
from polm_core.run_dir import Manifest, Outcome, Result, RunDir, Wish, verify_checkpoint


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path)
    run_dir.create()
    return run_dir


def sealed(run_dir: RunDir, step: int) -> Path:
    folder = run_dir.checkpoint(step)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    run_dir.seal_checkpoint(Manifest(step=step, kind="model", method="sft", base_model="tiny"))
    return folder


def test_a_checkpoint_is_there_once_it_is_sealed(run_dir: RunDir) -> None:
    for step in (10, 9, 100):
        sealed(run_dir, step)
    run_dir.checkpoint(200).mkdir()
    assert [manifest.step for _, manifest in run_dir.complete_checkpoints()] == [9, 10, 100]
    assert run_dir.last_checkpoint() == run_dir.checkpoint(100)


@pytest.mark.parametrize("damage", ["changed", "cut", "lost", "unsealed"])
def test_a_damaged_checkpoint_is_refused(run_dir: RunDir, damage: str) -> None:
    folder = sealed(run_dir, 1)
    assert verify_checkpoint(folder).step == 1
    weights = folder / "model.safetensors"
    if damage == "changed":
        weights.write_bytes(b"WEIGHTS")
    elif damage == "cut":
        weights.write_bytes(b"wei")
    elif damage == "lost":
        weights.unlink()
    else:
        (folder / "manifest.json").write_text('{"step":')
    with pytest.raises(DataError) as caught:
        verify_checkpoint(folder)
    assert caught.value.code.startswith("checkpoint.")


def test_a_wish_that_was_not_said_is_to_run(run_dir: RunDir) -> None:
    assert run_dir.wish() is Wish.RUN
    run_dir.control.write_text("dance")
    assert run_dir.wish() is Wish.RUN
    run_dir.ask(Wish.PAUSE)
    assert run_dir.wish() is Wish.PAUSE


def test_a_result_reads_back(run_dir: RunDir) -> None:
    assert run_dir.read_result() is None
    result = Result(outcome=Outcome.FAILED, metrics={"loss": 0.5}, error={"code": "x"})
    run_dir.write_result(result)
    assert run_dir.read_result() == result
    run_dir.result.write_text("{")
    assert run_dir.read_result() is None
