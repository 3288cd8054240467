"""Rejection sampling: what is kept of the answers, rounds on one axis of steps, and going on within each of them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from polm_core import catalogue
from polm_core.context import load_spec
from polm_core.errors import ConfigError
from polm_core.formats import Format
from polm_core.preflight import preflight
from polm_core.run import EXIT_FAILED, execute
from polm_core.run_dir import Outcome, RunDir, Wish
from tests.polm_core.conftest import MakeRun, points, samples
from tests.polm_core.test_conformance import _weights
from tests.polm_core.test_feedback import error_of, made
from tests.polm_core.test_reft import outcome, watching

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

SLUG = "rejection-sampling"


def sampling_run(make_run: MakeRun, **settings: Any) -> RunDir:
    defaults = {"format": Format.PROMPT_ANSWER, "eval_steps": 0, "save_steps": 0, "min_reward": 0.2}
    return make_run(SLUG, **{**defaults, **settings})


def test_right_answers_are_kept_once_and_not_too_many(make_run: MakeRun) -> None:
    run_dir = sampling_run(make_run, num_generations=6, keep=2, min_reward=0.25, spec={"held_out": 0})
    assert execute(run_dir.root) == 0
    rows, shown = made(run_dir.root), samples(run_dir)
    assert [row["round"] for row in rows] == [0] * 24 + [1] * 24
    for turn, step in ((0, 0), (1, 2)):
        for group, row in enumerate(rows[24 * turn : 24 * (turn + 1)]):
            said = [one for one in shown if (one["step"], one["group"]) == (step, group)]
            assert len(said) == 6
            right = [one["completion"] for one in said if one["completion"] and one["reward"] >= 0.25]
            assert row["right"] == len(right)
            assert row["kept"] == list(dict.fromkeys(right))[:2]
            assert ("problem" in row) == (not right)
    first = rows[:24]
    assert points(run_dir, "made/solved")[0] == pytest.approx(sum(bool(row["kept"]) for row in first) / 24)
    assert points(run_dir, "made/right")[0] == pytest.approx(sum(row["right"] for row in first) / (24 * 6))
    assert points(run_dir, "made/rows")[0] == sum(len(row["kept"]) for row in first)
    for key in ("made/solved", "made/right", "made/rows", "system/generated_tokens_per_second"):
        assert points(run_dir, key).keys() == {0, 2}, f"{key} is told of each round"
    assert min(points(run_dir, "system/generated_tokens_per_second").values()) > 0


def test_the_held_out_accuracy_is_the_share_of_right_answers(make_run: MakeRun) -> None:
    run_dir = sampling_run(make_run, spec={"held_out": 0.5}, min_reward=0.6, rounds=1)
    assert execute(run_dir.root) == 0
    accuracy, reward = points(run_dir, "eval/accuracy"), points(run_dir, "eval/reward")
    assert accuracy.keys() == reward.keys() == {0, 4}
    assert all(accuracy[step] * 12 == pytest.approx(round(accuracy[step] * 12)) for step in accuracy)
    assert all(0.6 * accuracy[step] <= reward[step] for step in accuracy)


@pytest.mark.parametrize("start_from", ["base", "last"])
def test_every_checkpoint_of_every_round_goes_on_exactly(make_run: MakeRun, start_from: str) -> None:
    settings = {"rounds": 3, "max_steps": 5, "save_steps": 1, "start_from": start_from, "adapter": {"type": "lora"}}
    whole = sampling_run(make_run, **settings)
    assert execute(whole.root) == 0
    assert points(whole, "made/rows").keys() == {0, 2, 4}
    assert sorted(points(whole, "loss")) == [1, 2, 3, 4, 5]
    for step in (2, 3):
        again = sampling_run(make_run, name=f"from-{step}", spec={"resume": str(whole.checkpoint(step))}, **settings)
        assert execute(again.root) == 0
        assert sorted(points(again, "loss")) == list(range(step + 1, 6))
        assert points(again, "made/rows").keys() == ({2, 4} if step == 2 else {4}), "as each round begins, once"
        assert made(again.root) == made(whole.root)
        assert _weights(again) == _weights(whole)


def test_a_round_begins_from_the_base_or_from_the_last(make_run: MakeRun) -> None:
    runs = [sampling_run(make_run, name=name, start_from=name, learning_rate=5e-3) for name in ("base", "last")]
    assert [execute(run_dir.root) for run_dir in runs] == [0, 0]
    assert made(runs[0].root)[:22] == made(runs[1].root)[:22]
    base, last = (points(run_dir, "loss") for run_dir in runs)
    assert base[2] == last[2]
    assert last[3] < base[3], "what was learned stays"


def test_a_pause_while_answering_loses_no_answer(make_run: MakeRun) -> None:
    whole = sampling_run(make_run)
    assert execute(whole.root) == 0
    run_dir = sampling_run(make_run, name="paused", generation_batch_size=4)
    with watching(run_dir, lambda phase: run_dir.ask(Wish.PAUSE) if phase == "answering, round 2 of 2" else None):
        assert execute(run_dir.root) == 0
    assert outcome(run_dir) is Outcome.PAUSED
    there = made(run_dir.root)
    assert 22 <= len(there) < 44
    last = run_dir.last_checkpoint()
    assert last == run_dir.checkpoint(2)
    # As the supervisor has it go on: in the same folder, from the last checkpoint.
    marked = [{**row, "marked": True} for row in there]
    head = run_dir.made.read_text().splitlines(keepends=True)[0]
    run_dir.made.write_text(head + "".join(json.dumps(row) + "\n" for row in marked))
    run_dir.control.unlink()
    text = run_dir.config.read_text()
    run_dir.config.write_text(f"{text}resume: {last}\n")
    assert execute(run_dir.root) == 0
    assert outcome(run_dir) is Outcome.SUCCEEDED
    rows = made(run_dir.root)
    assert rows[: len(there)] == marked
    assert len(rows) == 44
    assert sorted(points(run_dir, "loss")) == [1, 2, 3, 4]


def test_no_right_answer_ends_the_run_with_advice_and_keeps_what_it_has(make_run: MakeRun) -> None:
    run_dir = sampling_run(make_run, rewards={"exact": 1, "math": 0}, min_reward=1.0)
    error = error_of(run_dir)
    assert error["code"] == "data.untrained"
    assert error["message"] == (
        "None of the 22 prompts of round 1 of 2 can be trained on: they have no right answer (22)."
    )
    assert "min_reward" in error["advice"]
    assert len(made(run_dir.root)) == 22
    assert len(samples(run_dir)) == 22 * 4, "they can be read"


def test_answers_that_nothing_can_judge_are_told_apart_from_wrong_ones(make_run: MakeRun) -> None:
    rows = [{"prompt": f"Who is {name}?", "answer": "a person, that is all"} for name in ("Ada", "Ben", "Eve")]
    error = error_of(sampling_run(make_run, rows=rows, rewards={"math": 1}, spec={"held_out": 0}))
    assert "an answer that could not be judged (3)" in error["message"]


def test_prompts_without_answers_are_refused_where_rewards_need_them(make_run: MakeRun) -> None:
    run_dir = sampling_run(make_run, format=Format.PROMPT, rewards={"math": 1})
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert "compares with the row's answer" in entry.message
    assert execute(run_dir.root) == EXIT_FAILED


def test_the_epochs_count_the_rows_of_each_round(make_run: MakeRun) -> None:
    run_dir = sampling_run(make_run, max_steps=0, epochs=2, batch_size=8)
    assert preflight(load_spec(run_dir.config)).steps == 2 * 2 * 3
    assert execute(run_dir.root) == 0
    rows = made(run_dir.root)
    kept = [sum(len(row["kept"]) for row in rows if row["round"] == turn) for turn in (0, 1)]
    assert sorted(points(run_dir, "loss"))[-1] == sum(2 * math.ceil(count / 8) for count in kept)
    progress = run_dir.read_progress()
    assert progress is not None
    assert progress.step == progress.total_steps


def test_a_checkpoint_does_not_go_on_without_the_rows_that_it_was_trained_on(make_run: MakeRun, tmp_path: Path) -> None:
    whole = sampling_run(make_run, save_steps=1)
    assert execute(whole.root) == 0
    other = sampling_run(make_run, name="other", save_steps=1, seed=7, spec={"resume": str(whole.checkpoint(3))})
    error = error_of(other)
    assert error["code"] == "checkpoint.rows"
    assert "Start a new run" in error["advice"]


def test_each_round_takes_a_step() -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get(SLUG).parse({"max_steps": 2, "rounds": 3})
    assert "must be at most max_steps, 2" in caught.value.fields["config.rounds"][0]
