"""What a row's task gives completions as models write them."""

import json
from typing import Any

import pytest

from polm_core.context import DatasetSpec, ModelSpec, RunSpec
from polm_core.errors import ConfigError
from polm_core.formats import Format
from polm_core.gym.library import task_rows
from polm_core.gym.tasks import TaskChoice
from polm_core.preflight import preflight
from polm_core.rewards.config import OnlineConfig, RewardsConfig
from polm_core.rewards.tasks import reasoning_gym
from polm_core.training.encoding import as_prompts
from polm_core.training.rewards import check_rewards, check_tasks, judged, reward_functions

WEIGHED = RewardsConfig.model_validate(["reasoning_gym"])


def made(task: str, size: int = 1, **choice: Any) -> list[dict[str, Any]]:
    return list(task_rows(TaskChoice.model_validate({"task": task, "size": size, "seed": 3, **choice})))


@pytest.mark.parametrize(
    ("task", "said", "score"),
    [
        ("chain_sum", "{answer}", 1.0),
        ("chain_sum", "<think>7? No.</think> {answer}", 1.0),
        ("chain_sum", "<think>{answer}", 0.0),
        ("chain_sum", "The answer is {answer}.", 1.0),
        ("chain_sum", "First 1, then 2.\nSo it comes to **{answer}**", 1.0),
        ("chain_sum", r"\boxed{{{answer}}}", 1.0),
        ("chain_sum", "<answer> {answer} </answer>, I think", 1.0),
        ("chain_sum", "It is 0.5", 0.0),
        ("chain_sum", "", 0.0),
        ("chain_sum", "é 数 👍", 0.0),
        ("spell_backward", "Answer: {answer}", 1.0),
        ("spell_backward", "Let me see.\n\n{answer}", 1.0),
        ("spell_backward", "zzz", 0.0),
        ("mini_sudoku", "<think>hm</think>\n{answer}", 1.0),
        ("countdown", "<answer>{answer}</answer>", 1.0),
    ],
)
def test_an_answer_is_found_in_what_was_said(task: str, said: str, score: float) -> None:
    (row,) = made(task)
    given = reasoning_gym(said.format(answer=row["answer"]), row["answer"], json.dumps(row["task"]))
    assert given == pytest.approx(score, abs=0.02)


def test_rows_that_no_task_made_are_not_judged() -> None:
    assert reasoning_gym("5", "5", None) is None
    assert reasoning_gym("5", None, None) is None


def test_every_row_is_judged_by_its_own_task() -> None:
    rows = [*made("chain_sum", level=1), *made("word_ladder", level=3), {"prompt": "1 + 1?", "answer": "2"}]
    prompts = as_prompts(list(reversed(rows)), wrap=True)
    assert [row.keys() for row in prompts] == [{"prompt", "answer", "task"}] * 3
    spec = RunSpec(
        method="rloo",
        model=ModelSpec(hub_id="org/model"),
        dataset=DatasetSpec(path="rows.jsonl", format=Format.PROMPT_ANSWER),
    )
    functions = reward_functions(OnlineConfig(rewards=WEIGHED), spec)
    right = judged(functions, prompts, [row["answer"] for row in prompts])
    assert [one["reasoning_gym"] for one in right] == [None, 1.0, 1.0]
    wrong = judged(functions, prompts, ["no"] * 3)
    assert [one["reasoning_gym"] for one in wrong] == [None, 0.0, 0.0]


def test_rows_without_a_task_are_refused_before_the_run() -> None:
    rows = [{"prompt": "1 + 1?", "answer": "2"}]
    with pytest.raises(ConfigError, match="no row says which task made it") as caught:
        check_tasks(WEIGHED, rows)
    assert list(caught.value.fields) == ["config.rewards.reasoning_gym"]
    check_tasks(RewardsConfig(), rows)
    check_tasks(WEIGHED, [*rows, *made("gcd")])
    with pytest.raises(ConfigError, match="must have the metadata"):
        check_tasks(WEIGHED, [{**rows[0], "task": {"name": "gcd", "level": None}}])


def test_prompts_alone_have_nothing_to_verify_by(tiny_model: Any) -> None:
    spec = RunSpec(
        method="rloo",
        model=ModelSpec(path=tiny_model),
        dataset=DatasetSpec(path="rows.jsonl", format=Format.PROMPT),
    )
    with pytest.raises(ConfigError, match="prompt rows have none") as caught:
        check_rewards(WEIGHED, spec, Format.PROMPT)
    assert list(caught.value.fields) == ["config.rewards.reasoning_gym"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda row: row, None),
        (lambda row: {name: row[name] for name in ("prompt", "answer")}, "no row says which task made it"),
        (lambda row: row | {"task": {"name": "gcd", "level": None}}, "must have the metadata"),
        (lambda row: row | {"task": row["task"] | {"name": "gdc"}}, "did you mean gcd"),
    ],
)
def test_preflight_says_what_is_missing(tiny_model: Any, tmp_path: Any, spoil: Any, problem: str | None) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(spoil(row)) + "\n" for row in made("gcd", 40)))
    spec = RunSpec(
        method="rloo",
        model=ModelSpec(path=tiny_model),
        dataset=DatasetSpec(path=path, format=Format.PROMPT_ANSWER),
        config={"rewards": ["reasoning_gym"], "max_steps": 2},
    )
    report = preflight(spec)
    if problem is None:
        assert report.blocking == []
        return
    (entry,) = report.blocking
    assert problem in entry.message
    assert entry.remedy
