"""Runs that live and do nothing: told, and by policy ended."""

import time
from pathlib import Path

import pytest
from pytest_django import Settings

from polm_core.run_dir import Outcome, Progress, RunDir
from webapp.metrics.health import advice_for
from webapp.runs.leases import Claim
from webapp.runs.models import Run
from webapp.runs.selectors import stalled_since
from workers.children import Child
from workers.watchdog import Watchdog, patience_with


@pytest.fixture
def watchdog(claim: Claim, run_dir: RunDir, settings: Settings) -> Watchdog:
    settings.STALL_SECONDS = "1"
    return Watchdog(claim, run_dir, Child(run_dir.root))


def signs(at: float) -> Progress:
    return Progress(step=3, total_steps=9, phase="training", alive_at=at, seconds_per_step=0.01)


def test_patience_follows_the_pace_of_the_run(settings: Settings) -> None:
    settings.STALL_SECONDS = "120"
    assert patience_with(Progress(seconds_per_step=0.5)) == 120
    assert patience_with(Progress(seconds_per_step=60)) == 1200
    assert patience_with(Progress(seconds_per_step=0.5, phase="saving")) == 600
    assert patience_with(None) == 600


def test_a_stall_is_told_and_forgotten_when_signs_return(watchdog: Watchdog, run: Run, run_dir: RunDir) -> None:
    assert watchdog.look(signs(1)) is None
    time.sleep(1.1)
    assert watchdog.look(signs(1)) is None
    run.refresh_from_db()
    assert stalled_since(run) is not None
    assert "The run has stalled" in [advice.title for advice in advice_for(run)]
    assert "No sign of life for 1 s" in run_dir.log.read_text()
    assert watchdog.look(signs(2)) is None
    run.refresh_from_db()
    assert stalled_since(run) is None
    assert "signs of life again" in run_dir.log.read_text()


@pytest.mark.parametrize(("policy", "outcome"), [("wait", None), ("retry", Outcome.CRASHED), ("stop", Outcome.FAILED)])
def test_after_a_long_stall_the_policy_decides(
    watchdog: Watchdog, settings: Settings, policy: str, outcome: Outcome | None
) -> None:
    settings.STALL_POLICY = policy
    watchdog.look(signs(1))
    watchdog._heard_at -= 2.9
    assert watchdog.look(signs(1)) is None
    watchdog._heard_at -= 0.2
    result = watchdog.look(signs(1))
    assert (result and result.outcome) == outcome
    if result is not None:
        assert result.error is not None
        assert result.error["code"] == "stalled"
        assert result.error["advice"]


def test_a_run_of_a_method_signs_at_every_pass(tmp_path: Path) -> None:
    """Within one step that has many passes, progress.json goes on telling of life."""
    torch = pytest.importorskip("torch")
    from polm_core.context import RunContext, RunSpec
    from polm_core.training.loop import tell_of_every_pass

    raw = {"method": "sft", "model": {"hub_id": "a/b"}, "dataset": {"path": "d", "format": "text"}}
    with RunContext(RunDir(tmp_path / "run"), RunSpec.model_validate(raw)) as context:
        model = torch.nn.Linear(2, 2)
        tell_of_every_pass(model, context)
        seen = set()
        for _ in range(4):
            model(torch.zeros(1, 2))
            progress = context.run_dir.read_progress()
            seen.add(progress.alive_at if progress else None)
            time.sleep(0.6)
    assert len(seen) == 4
