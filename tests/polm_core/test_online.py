"""Methods that learn from answers of their own: what they write down, compare with, and refuse."""

import json
from collections import defaultdict
from itertools import cycle, groupby
from pathlib import Path
from typing import Any, cast

import pytest

from polm_core import catalogue
from polm_core.context import RunSpec, load_spec
from polm_core.formats import Format
from polm_core.gym.library import task_rows
from polm_core.gym.tasks import TaskChoice
from polm_core.preflight import Report, preflight
from polm_core.rewards.config import OnlineConfig
from polm_core.run import EXIT_FAILED, execute
from polm_core.run_dir import RunDir
from polm_core.training.rollouts import vllm_arguments
from tests.polm_core.conftest import MakeRun, points, samples
from tests.polm_core.test_ranks import carry_out
from tests.support import tiny
from tests.support.judge import JudgeServer, answering_to

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

LENGTH = {"length": 1.0, "length_max": 10}
# The starting model is compared with itself by other kernels.
NOTHING = 1e-5


def online_run(make_run: MakeRun, method: str = "rloo", **settings: Any) -> RunDir:
    return make_run(method, **{"format": Format.PROMPT_ANSWER, "eval_steps": 0, "save_steps": 0, **settings})


def rollouts(run_dir: RunDir) -> list[dict[str, Any]]:
    return [sample for sample in samples(run_dir) if "advantage" in sample]


def error_of(run_dir: RunDir) -> dict[str, Any]:
    assert execute(run_dir.root) == EXIT_FAILED
    result = run_dir.read_result()
    assert result is not None
    assert result.error is not None
    return result.error


def report_on(run_dir: RunDir) -> Report:
    return preflight(load_spec(run_dir.config))


def test_answers_are_written_with_their_rewards_and_advantages(make_run: MakeRun) -> None:
    rewards = {"math": 0.5, **LENGTH, "no_repeats": -0.25}
    run_dir = online_run(make_run, batch_size=8, num_generations=4, logged_prompts=1, beta=0, rewards=rewards)
    assert execute(run_dir.root) == 0
    check_rollouts(rollouts(run_dir))
    assert points(run_dir, "reward/length").keys() == {1, 2, 3, 4}
    assert points(run_dir, "eval/reward/length").keys() == {0, 4}


def test_tasks_verify_answers_and_are_written_down_with_them(make_run: MakeRun) -> None:
    rows = [*task_rows(TaskChoice(task="gcd", level=1, size=12)), *task_rows(TaskChoice(task="maze", size=12))]
    rewards = {"math": 0, "reasoning_gym": 1, **LENGTH}
    run_dir = online_run(make_run, rows=rows, max_length=1500, max_steps=2, beta=0, rewards=rewards)
    assert execute(run_dir.root) == 0, run_dir.log.read_text()
    written = rollouts(run_dir)
    assert written
    assert {json.loads(sample["task"])["name"] for sample in written} <= {"gcd", "maze"}
    assert all(0 <= sample["rewards"]["reasoning_gym"] <= 1 for sample in written)
    assert points(run_dir, "reward/reasoning_gym").keys() == {1, 2}
    assert points(run_dir, "eval/reward/reasoning_gym").keys() == {0, 2}


@pytest.mark.timeout(900)
def test_answers_of_a_group_that_several_processes_wrote_are_together(make_run: MakeRun) -> None:
    rewards = {"math": 0.5, **LENGTH, "no_repeats": -0.25}
    together = {"processes": 2, "devices": 0, "batch_size": 2, "num_generations": 4}
    run_dir = online_run(make_run, **together, logged_prompts=3, beta=0, rewards=rewards)
    assert carry_out(run_dir) == 0, run_dir.log.read_text()
    check_rollouts(rollouts(run_dir))


def check_rollouts(written: list[dict[str, Any]]) -> None:
    """Four answers to one prompt in each of four steps, whose numbers follow from each other."""
    assert [sample["step"] for sample in written] == [step for step in (1, 2, 3, 4) for _ in range(4)]
    for _, group in groupby(written, key=lambda sample: (sample["step"], sample["group"])):
        answers = list(group)
        assert [answer["place"] for answer in answers] == [0, 1, 2, 3]
        assert len({(answer["prompt"], answer["reference"]) for answer in answers}) == 1
        for answer in answers:
            parts = answer["rewards"]
            assert parts.keys() == {"math", "length", "no_repeats"}
            assert answer["reward"] == pytest.approx(
                0.5 * parts["math"] + parts["length"] - 0.25 * parts["no_repeats"], abs=1e-5
            )
            others = [other["reward"] for other in answers if other is not answer]
            assert answer["advantage"] == pytest.approx(answer["reward"] - sum(others) / 3, abs=1e-5)
    assert any(answer["advantage"] for answer in written)


def test_no_more_answers_are_written_than_asked_for(make_run: MakeRun) -> None:
    run_dir = online_run(make_run, logged_prompts=0)
    assert execute(run_dir.root) == 0
    assert rollouts(run_dir) == []
    assert {sample["step"] for sample in samples(run_dir)} == {0, 4}


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_it_learns_what_is_rewarded(make_run: MakeRun, method: str) -> None:
    run_dir = online_run(
        make_run,
        method,
        rows=tiny.prompts(60),
        max_steps=40,
        batch_size=16,
        num_generations=4,
        learning_rate=3e-3,
        beta=0,
        rewards={"math": 0, "regex": 1, "regex_pattern": "[0-9]"},
    )
    assert execute(run_dir.root) == 0
    held_out = points(run_dir, "eval/reward")
    assert held_out[40] > held_out[0] + 0.3


@pytest.mark.parametrize("adapter", ["none", "pissa", "ia3"])
def test_a_run_is_compared_with_what_it_starts_from(make_run: MakeRun, tiny_model: Path, adapter: str) -> None:
    """Whatever the adapter: before the first step there is no distance, and after it there is one."""
    settings: dict[str, Any] = {"learning_rate": 3e-2, "adapter": {"type": adapter}, "rewards": {"math": 0, **LENGTH}}
    first = online_run(make_run, **settings)
    assert execute(first.root) == 0
    onward = first.last_checkpoint()
    assert onward is not None
    start: dict[str, Any] = {"path": str(onward), "name": "onward"}
    if adapter == "ia3":
        start = {"path": str(tiny_model), "adapter": str(onward), "name": "onward"}
    if adapter != "pissa":
        second = online_run(make_run, name="second", spec={"model": start}, **settings)
        assert execute(second.root) == 0
        _starts_at_its_reference(second)
    _starts_at_its_reference(first)


def test_a_merged_adapter_is_part_of_what_a_run_is_compared_with(make_run: MakeRun, tiny_model: Path) -> None:
    settings: dict[str, Any] = {"learning_rate": 3e-2, "rewards": {"math": 0, **LENGTH}}
    first = online_run(make_run, adapter={"type": "lora"}, **settings)
    assert execute(first.root) == 0
    start = {"model": {"path": str(tiny_model), "adapter": str(first.last_checkpoint()), "name": "lora"}}
    for kind in ("lora", "none"):
        second = online_run(make_run, name=f"second-{kind}", spec=start, adapter={"type": kind}, **settings)
        assert execute(second.root) == 0
        _starts_at_its_reference(second)


def _starts_at_its_reference(run_dir: RunDir) -> None:
    distance = points(run_dir, "kl")
    assert abs(points(run_dir, "eval/kl")[0]) < NOTHING
    assert abs(distance[1]) < NOTHING
    assert max(abs(distance[step]) for step in (3, 4)) > 10 * NOTHING


def test_prompts_alone_do_where_no_answer_is_compared(make_run: MakeRun) -> None:
    rows = [{"prompt": row["prompt"]} for row in tiny.prompts(24)]
    run_dir = online_run(make_run, format=Format.PROMPT, rows=rows, rewards={"math": 0, **LENGTH})
    assert report_on(run_dir).blocking == []
    assert execute(run_dir.root) == 0
    assert all("reference" not in sample for sample in rollouts(run_dir))


def test_rewards_that_compare_need_an_answer(make_run: MakeRun) -> None:
    rows = [{"prompt": row["prompt"]} for row in tiny.prompts(24)]
    run_dir = online_run(make_run, format=Format.PROMPT, rows=rows, rewards={"math": 1})
    error = error_of(run_dir)
    assert list(error["fields"]) == ["config.rewards.math"]
    (entry,) = report_on(run_dir).blocking
    assert entry.message == error["message"]
    assert "other rewards" in entry.remedy


def test_prompts_that_are_too_long_or_empty_are_left_out_and_counted(make_run: MakeRun, tmp_path: Path) -> None:
    long, empty = {"prompt": "why " * 100, "answer": "5"}, {"prompt": " ", "answer": "5"}
    run_dir = online_run(
        make_run, rows=[*tiny.prompts(20), long, empty], max_length=80, logged_prompts=9, spec={"held_out": 0}
    )
    report = report_on(run_dir)
    assert (report.rows_used, report.untrained_rows, report.empty_prompts, report.rows_total) == (20, 1, 1, 22)
    assert {"data.untrained_rows", "data.empty_prompts"} <= {entry.code for entry in report.warnings}
    assert report.blocking == []
    assert execute(run_dir.root) == 0
    assert not any(sample["prompt"].startswith(("why", " ")) for sample in rollouts(run_dir))


@pytest.mark.parametrize(
    ("rows", "settings", "code"),
    [
        ([{"prompt": " ", "answer": "5"}] * 3, {}, "data.untrained"),
        ([{"prompt": "why " * 100, "answer": "5"}] * 3, {"max_length": 50}, "data.untrained"),
        (tiny.prompts(3), {"batch_size": 16, "num_generations": 4}, "data.too_few"),
    ],
)
def test_too_little_to_answer_stands_in_the_way(
    make_run: MakeRun, rows: list[Any], settings: dict[str, Any], code: str
) -> None:
    run_dir = online_run(make_run, rows=rows, spec={"held_out": 0}, **settings)
    assert [entry.code for entry in report_on(run_dir).blocking] == [code]
    assert error_of(run_dir)["code"] == code


def test_an_epoch_takes_each_prompt_once_as_was_told(make_run: MakeRun) -> None:
    settings = {"max_steps": 0, "epochs": 1.5, "batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 4}
    run_dir = online_run(make_run, rows=tiny.prompts(23), spec={"held_out": 0}, logged_prompts=9, **settings)
    steps = report_on(run_dir).steps
    assert execute(run_dir.root) == 0
    progress = run_dir.read_progress()
    assert progress is not None
    assert steps == progress.total_steps == 17
    asked = [sample["prompt"] for sample in rollouts(run_dir) if sample["step"] <= 11]
    assert {asked.count(prompt) for prompt in asked} <= {4, 8}, "the same sum may stand in two rows"
    assert len(asked) == 88


def test_prompt_and_answer_together_are_held_against_the_model_s_length(make_run: MakeRun) -> None:
    def warned(**settings: Any) -> bool:
        report = report_on(online_run(make_run, **settings))
        return "model.positions" in {entry.code for entry in report.warnings}

    assert not warned(max_length=500, max_completion_length=12)
    assert warned(max_length=500, max_completion_length=13)


def test_a_reward_that_is_always_the_same_is_shown_and_teaches_nothing(make_run: MakeRun) -> None:
    rewards = {"math": 0, "regex": 1, "regex_pattern": "never said"}
    run_dir = online_run(make_run, beta=0, rewards=rewards)
    assert execute(run_dir.root) == 0
    assert set(points(run_dir, "frac_reward_zero_std").values()) == {1.0}
    assert set(points(run_dir, "grad_norm").values()) == {0.0}


@pytest.mark.parametrize("method", ["rloo", "reft"])
def test_prompts_without_signal_are_counted_by_their_rewards_alone(make_run: MakeRun, method: str) -> None:
    """However far each answer is from what the reference would say, which is taken off its reward."""
    more = {"sft_steps": 1} if method == "reft" else {}
    rewards = {"math": 0, "regex": 1, "regex_pattern": "^.{0,12}$"}
    run_dir = online_run(
        make_run, method, max_steps=6, learning_rate=3e-2, beta=1, logged_prompts=9, rewards=rewards, **more
    )
    assert execute(run_dir.root) == 0
    assert max(abs(distance) for distance in points(run_dir, "kl").values()) > 100 * NOTHING
    counted = points(run_dir, "frac_reward_zero_std")
    assert len(counted) >= 5
    for step, share in counted.items():
        groups = defaultdict(set)
        for sample in rollouts(run_dir):
            if sample["step"] == step:
                groups[sample["group"]].add(sample["reward"])
        assert share == sum(len(earned) == 1 for earned in groups.values()) / len(groups)
    assert max(counted.values()) > 0


def test_plain_prompts_are_asked_in_turns_or_as_they_are(make_run: MakeRun) -> None:
    rows = [{"prompt": f"{number} + 1 =", "answer": str(number + 1)} for number in range(24)]
    lengths = defaultdict(int)
    for wrapped in (True, False):
        run_dir = online_run(make_run, name=f"plain-{wrapped}", rows=rows, chat_template=wrapped)
        assert execute(run_dir.root) == 0
        lengths[wrapped] = report_on(run_dir).tokens.p50
        assert {sample["prompt"] for sample in rollouts(run_dir)} <= {row["prompt"] for row in rows}
    assert lengths[True] > lengths[False]


def test_the_whole_journey_of_a_reward_model(make_run: MakeRun) -> None:
    trained = make_run("reward-model", name="scorer", format=Format.PREFERENCE, adapter={"type": "lora"})
    assert execute(trained.root) == 0
    scorer = trained.last_checkpoint()
    assert scorer is not None
    base = load_spec(trained.config).model.path
    spec = {"reward_model": {"path": str(base), "adapter": str(scorer), "name": "scorer"}}
    run_dir = online_run(make_run, spec=spec, rewards={"math": 0, "reward_model": 1})
    assert isinstance(load_spec(run_dir.config), RunSpec)
    report = report_on(run_dir)
    assert report.blocking == []
    without = report_on(online_run(make_run, name="without", rewards={"math": 1}))
    assert report.memory_bytes > without.memory_bytes
    assert execute(run_dir.root) == 0
    given = {sample["rewards"]["reward_model"] for sample in rollouts(run_dir)}
    assert len(given) > 4


def test_a_run_learns_from_a_judge_that_is_a_model(make_run: MakeRun, tiny_model: Path) -> None:
    judge = {"judge_model": {"path": str(tiny_model), "name": "judge"}}
    run_dir = online_run(make_run, spec=judge, rewards={"math": 0, "judge": 1})
    report = report_on(run_dir)
    assert report.blocking == []
    assert report.memory_bytes > report_on(online_run(make_run, name="without", rewards={"math": 1})).memory_bytes
    assert execute(run_dir.root) == 0
    given = {sample["rewards"]["judge"] for sample in rollouts(run_dir)}
    assert len(given) > 4
    assert all(0 <= score <= 1 for score in given)
    assert points(run_dir, "reward/judge").keys() == {1, 2, 3, 4}
    assert set(points(run_dir, "reward/judge/not_judged").values()) == {0.0}


def test_what_an_endpoint_does_not_judge_is_counted_and_a_silent_one_ends_the_run(
    make_run: MakeRun, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering_to(judge_server, monkeypatch)
    replies = cycle(["5", "5", "5", "Well."])
    judge_server.reply = lambda question: next(replies)
    rewards = {"math": 0, "judge": 1, "judge_by": "endpoint"}
    run_dir = online_run(make_run, rewards=rewards, batch_size=8, max_steps=2)
    assert report_on(run_dir).blocking == []
    assert execute(run_dir.root) == 0
    shares = points(run_dir, "reward/judge/not_judged")
    assert shares.keys() == {1, 2}
    assert all(0 < share < 1 for share in shares.values())
    assert None in {sample["rewards"]["judge"] for sample in rollouts(run_dir)}
    judge_server.reply = lambda question: "Well."
    error = error_of(online_run(make_run, name="silent", rewards=rewards))
    assert error["code"] == "judge.silent"
    assert "POLM" not in error["message"]


@pytest.mark.parametrize(
    ("method", "settings", "installed", "gpu", "used"),
    [
        ("grpo", {}, True, True, True),
        ("rloo", {}, True, True, True),
        ("grpo", {"use_vllm": "off"}, True, True, False),
        ("grpo", {"adapter": {"type": "qlora"}}, True, True, False),
        ("grpo", {}, False, True, False),
        ("grpo", {}, True, False, False),
        ("ppo", {}, True, True, False),
    ],
)
def test_vllm_writes_the_answers_where_it_can(
    monkeypatch: pytest.MonkeyPatch, method: str, settings: dict[str, Any], installed: bool, gpu: bool, used: bool
) -> None:
    """Which of them write, on a machine that says it has what is needed: that they do takes a GPU."""
    monkeypatch.setattr("polm_core.training.rollouts.find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: gpu)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: int(gpu))
    config = cast(OnlineConfig, catalogue.get(method).parse(settings))
    assert bool(vllm_arguments(config)) is used
