"""Test-time scaling: what is measured at each N, on which prompts, and that nothing which was written is lost."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from polm_core import catalogue
from polm_core.context import load_spec
from polm_core.errors import ConfigError
from polm_core.formats import Format
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import Outcome, RunDir, Wish
from tests.polm_core.conftest import MakeRun, points, samples
from tests.polm_core.test_feedback import error_of, made
from tests.polm_core.test_reft import outcome, watching
from tests.support import tiny

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

SLUG = "test-time-scaling"
CHOICES = ("majority", "weighted", "best", "any")


def scaling_run(make_run: MakeRun, **settings: Any) -> RunDir:
    defaults = {"format": Format.PROMPT_ANSWER, "num_samples": 4, "verify_by": "exact", "temperature": 1.0}
    return make_run(SLUG, **{**defaults, "max_completion_length": 3, **settings})


@pytest.fixture
def rows(make_run: MakeRun) -> list[dict[str, Any]]:
    """Prompts of which the model knows the answer to every second one: it is what it says first. The same seed has it
    say the same again."""
    asked = tiny.prompts(12)
    run_dir = scaling_run(make_run, name="asking", rows=asked, spec={"held_out": 0}, num_samples=6)
    assert execute(run_dir.root) == 0
    for row, said in zip(asked[::2], made(run_dir.root)[::2], strict=True):
        row["answer"] = next(answer["says"] for answer in said["answers"] if answer["says"])
    return asked


def test_every_choice_is_measured_at_every_n(make_run: MakeRun, rows: list[dict[str, Any]]) -> None:
    run_dir = scaling_run(make_run, rows=rows, spec={"held_out": 0}, num_samples=6, rewards={"exact": 1, "math": 0})
    assert execute(run_dir.root) == 0
    answers = [row["answers"] for row in made(run_dir.root)]
    assert (len(answers), {len(one) for one in answers}) == (12, {6})
    alone = fmean(answer["is_right"] for one in answers for answer in one)
    assert 0 < alone < 1
    for name in CHOICES:
        found = points(run_dir, f"accuracy/{name}")
        low, high = (points(run_dir, f"accuracy/{name}/{end}") for end in ("low", "high"))
        assert sorted(found) == sorted(low) == sorted(high) == [1, 2, 4, 6]
        assert found[1] == pytest.approx(alone), "one answer leaves no choice"
        assert all(low[count] <= found[count] <= high[count] for count in found)
    solved = fmean(any(answer["is_right"] for answer in one) for one in answers)
    assert points(run_dir, "accuracy/any")[6] == pytest.approx(solved)
    assert points(run_dir, "accuracy/best") == pytest.approx(points(run_dir, "accuracy/any")), "the reward knows"
    assert set(points(run_dir, "prompts").values()) == {12}
    assert min(points(run_dir, "system/generated_tokens_per_second").values()) > 0
    shown = samples(run_dir)
    assert len(shown) == 12 * 6
    assert {(one["note"], one["reward"]) for one in shown} == {("Right", 1.0), ("Wrong", 0.0)}


@pytest.mark.parametrize("step_scores", ["min", "last"])
def test_a_process_reward_model_weighs_the_votes(
    make_run: MakeRun, rows: list[dict[str, Any]], tmp_path: Path, step_scores: str
) -> None:
    judge = {"path": str(tiny.build_step_judge(tmp_path / "judge")), "name": "judge"}
    rewards = {"exact": 1, "math": 0, "reward_model": 1, "step_scores": step_scores}
    run_dir = scaling_run(
        make_run, rows=rows, spec={"held_out": 0, "reward_model": judge}, num_samples=6, rewards=rewards
    )
    report = preflight(load_spec(run_dir.config))
    assert report.blocking == []
    assert execute(run_dir.root) == 0
    answers = [row["answers"] for row in made(run_dir.root)]
    assert all(0 < answer["steps"] < 1 for one in answers for answer in one if answer["text"])
    found = points(run_dir, "accuracy/prm")
    low, high = (points(run_dir, f"accuracy/prm/{end}") for end in ("low", "high"))
    assert sorted(found) == sorted(low) == sorted(high) == [1, 2, 4, 6]
    assert found[1] == pytest.approx(points(run_dir, "accuracy/majority")[1])
    expected = fmean(_elected(one) for one in answers)
    assert found[6] == pytest.approx(expected)


def _elected(answers: list[dict[str, Any]]) -> bool:
    """Whether what has the most of the steps' scores is right, where all answers vote."""
    votes: dict[str, float] = {}
    for answer in answers:
        if answer["says"] is not None:
            votes[answer["says"]] = votes.get(answer["says"], 0.0) + (answer["steps"] or 0.0)
    best = max(votes, key=lambda said: votes[said], default=None)
    return next((answer["is_right"] for answer in answers if answer["says"] == best), False) if best else False


def test_a_model_that_writes_weighs_no_votes(make_run: MakeRun, tiny_model: Path) -> None:
    writer = {"path": str(tiny_model), "name": "writer"}
    run_dir = scaling_run(make_run, spec={"reward_model": writer}, rewards={"math": 0, "reward_model": 1})
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert entry.code == "model.no_reward"
    assert "prm" in entry.remedy
    assert error_of(run_dir)["code"] == "model.no_reward"


def test_held_out_prompts_are_asked_or_all_where_none_is(make_run: MakeRun) -> None:
    run_dir = scaling_run(make_run, spec={"held_out": 0.25}, max_length=100)
    report = preflight(load_spec(run_dir.config))
    assert report.blocking == []
    assert [entry.code for entry in report.warnings if entry.code != "resource.memory"] == []
    assert (report.rows_total, report.held_out_rows, report.rows_used, report.steps) == (24, 6, 6, 6)
    assert report.seconds > 0
    assert report.memory_bytes > 0
    assert execute(run_dir.root) == 0
    assert len(made(run_dir.root)) == 6
    few = scaling_run(make_run, name="few", spec={"held_out": 0.25}, eval_rows=2)
    assert execute(few.root) == 0
    assert len(made(few.root)) == 2


def test_a_run_that_is_stopped_measures_what_it_has_and_goes_on_with_it(make_run: MakeRun) -> None:
    settings = {"spec": {"held_out": 0}, "rows": tiny.prompts(6), "batch_size": 4}
    run_dir = scaling_run(make_run, **settings)
    with watching(run_dir, lambda phase: run_dir.ask(Wish.STOP) if phase == "answering" else None):
        assert execute(run_dir.root) == 0
    assert outcome(run_dir) is Outcome.STOPPED
    there = made(run_dir.root)
    assert 0 <= len(there) < 6
    if there:
        assert set(points(run_dir, "prompts").values()) == {len(there)}
    run_dir.control.unlink()
    assert execute(run_dir.root) == 0
    assert outcome(run_dir) is Outcome.SUCCEEDED
    assert made(run_dir.root)[: len(there)] == there
    assert points(run_dir, "prompts")[4] == 6
    whole = scaling_run(make_run, name="whole", **settings)
    assert execute(whole.root) == 0
    assert points(run_dir, "accuracy/majority") == points(whole, "accuracy/majority")


def test_prompts_without_answers_are_refused(make_run: MakeRun) -> None:
    run_dir = scaling_run(make_run, format=Format.PROMPT)
    assert [entry.code for entry in preflight(load_spec(run_dir.config)).blocking] == ["data.format"]
    assert error_of(run_dir)["code"] == "data.format"


def test_answers_that_cannot_be_compared_with_end_the_run_with_advice(make_run: MakeRun) -> None:
    rows = [{"prompt": f"Who is {name}?", "answer": "a person, that is all"} for name in ("Ada", "Ben", "Eve")]
    error = error_of(scaling_run(make_run, rows=rows, verify_by="math", spec={"held_out": 0}))
    assert error["code"] == "data.untrained"
    assert "verify_by" in error["advice"]


def test_an_adapter_writes_with_its_model(make_run: MakeRun, tiny_model: Path) -> None:
    trained = make_run("sft", name="trained", adapter={"type": "lora"}, learning_rate=5e-2)
    assert execute(trained.root) == 0
    adapter = str(trained.last_checkpoint())
    runs = {
        name: scaling_run(make_run, name=name, spec={"model": {"path": str(tiny_model), **more}, "held_out": 0.1})
        for name, more in (("plain", {}), ("adapted", {"adapter": adapter}))
    }
    assert [execute(run_dir.root) for run_dir in runs.values()] == [0, 0]
    assert made(runs["plain"].root) != made(runs["adapted"].root)


@pytest.mark.parametrize("settings", [{"processes": 2}, {"learning_rate": 0.1}, {"adapter": {"type": "lora"}}])
def test_what_trains_is_no_setting_of_it(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get(SLUG).parse(settings)
    assert next(iter(caught.value.fields)).startswith(f"config.{next(iter(settings))}")
