"""Reinforced fine-tuning: two stages on one axis of steps, and going on in the right one."""

from typing import Any

import pytest

from polm_core import catalogue
from polm_core.context import load_spec
from polm_core.errors import ConfigError
from polm_core.formats import Format
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import Outcome, RunDir, Wish
from tests.polm_core.conftest import MakeRun, points, samples, watching
from tests.polm_core.test_conformance import _weights
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

# The starting model is compared with itself by other kernels.
NOTHING = 1e-5


def reft_run(make_run: MakeRun, **settings: Any) -> RunDir:
    defaults = {"format": Format.PROMPT_ANSWER, "sft_steps": 2, "eval_steps": 0, "save_steps": 0}
    return make_run("reft", **{**defaults, **settings})


def outcome(run_dir: RunDir) -> Outcome:
    result = run_dir.read_result()
    assert result is not None
    return result.outcome


def test_both_stages_are_told_apart_and_evaluated(make_run: MakeRun) -> None:
    run_dir = reft_run(make_run, sft_learning_rate=2e-3, logged_prompts=1)
    phases: list[str] = []
    with watching(run_dir, phases.append):
        assert execute(run_dir.root) == 0
    assert phases.index("warming up") < phases.index("training")
    assert sorted(points(run_dir, "eval/reward")) == [0, 2, 4], "before, after the warm-up, at the end"
    assert sorted(points(run_dir, "loss")) == [1, 2, 3, 4]
    assert sorted(points(run_dir, "mean_token_accuracy")) == [1, 2]
    assert sorted(points(run_dir, "reward")) == sorted(points(run_dir, "kl")) == [3, 4]
    assert {sample["step"] for sample in samples(run_dir) if "advantage" in sample} == {3, 4}
    assert points(run_dir, "learning_rate")[1] == 2e-3
    seen = points(run_dir, "num_tokens")
    assert [seen[step] for step in sorted(seen)] == sorted(set(seen.values()))


@pytest.mark.parametrize("adapter", ["none", "lora", "pissa"])
def test_it_is_held_to_where_the_warm_up_ended_and_goes_on_exactly(make_run: MakeRun, adapter: str) -> None:
    settings: dict[str, Any] = {"adapter": {"type": adapter}, "sft_learning_rate": 1e-2, "learning_rate": 3e-2}
    whole = reft_run(make_run, save_steps=1, max_steps=5, **settings)
    assert execute(whole.root) == 0
    distance = points(whole, "kl")
    assert abs(distance[3]) < NOTHING
    assert max(abs(distance[step]) for step in (4, 5)) > 10 * NOTHING
    for step in (1, 4):
        again = reft_run(
            make_run,
            name=f"from-{step}",
            spec={"resume": str(whole.checkpoint(step))},
            save_steps=1,
            max_steps=5,
            **settings,
        )
        assert execute(again.root) == 0
        assert sorted(points(again, "loss")) == list(range(step + 1, 6))
        assert _weights(again) == _weights(whole)
        assert points(again, "kl")[5] == distance[5]


def test_a_pause_in_the_warm_up_ends_the_run_there(make_run: MakeRun) -> None:
    stages = {"sft_steps": 8, "max_steps": 10}
    run_dir = reft_run(make_run, **stages)
    with watching(run_dir, lambda phase: run_dir.ask(Wish.PAUSE) if phase == "warming up" else None):
        assert execute(run_dir.root) == 0
    assert outcome(run_dir) is Outcome.PAUSED
    progress = run_dir.read_progress()
    assert progress is not None
    assert progress.step < 8
    assert (progress.total_steps, progress.phase) == (10, "done")
    assert sorted(points(run_dir, "loss"))[-1] == progress.step
    onward = reft_run(make_run, name="onward", spec={"resume": str(run_dir.last_checkpoint())}, **stages)
    assert execute(onward.root) == 0
    assert sorted(points(onward, "loss")) == list(range(progress.step + 1, 11))


def test_the_epochs_count_what_follows_the_warm_up(make_run: MakeRun) -> None:
    run_dir = reft_run(make_run, rows=tiny.prompts(11), max_steps=0, epochs=0.5, spec={"held_out": 0}, sft_steps=3)
    told = preflight(load_spec(run_dir.config)).steps
    assert execute(run_dir.root) == 0
    assert max(points(run_dir, "loss")) == told == 3 + 3


def test_the_warm_up_is_shorter_than_the_run() -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("reft").parse({"max_steps": 50, "sft_steps": 50})
    assert "must be below max_steps, 50" in caught.value.fields["config.sft_steps"][0]
