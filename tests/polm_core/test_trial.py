"""Rewards tried on answers that are there already: what they give, where they differ, and what goes wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polm_core import trial
from polm_core.context import DatasetSpec, ModelSpec
from polm_core.data.completions import ANSWERED, completions_of
from polm_core.errors import DataError, ModelError
from polm_core.formats import SPECS, Format
from polm_core.rewards.config import RewardsConfig
from polm_core.trial import TrialJob, TrialProgress, TrialReport, TrialRow, try_rewards
from tests.support.judge import JudgeServer, answering_to

SUMS = [
    {"prompt": "1 + 1?", "completion": "It is 2.", "reference": "2"},
    {"prompt": "1 + 2?", "completion": "It is 4, or so they say, and they ought to know", "reference": "3"},
    {"prompt": "1 + 3?", "completion": "4", "reference": "4"},
    {"prompt": "Who?", "completion": "Nobody", "reference": None},
]

Try = Callable[..., tuple[TrialReport, list[TrialRow]]]


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    """Try rewards on `SUMS`, or on other answers."""

    def make(rewards: Any, answers: list[dict[str, Any]] = SUMS, **job: Any) -> tuple[TrialReport, list[TrialRow]]:
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        weighed = RewardsConfig.model_validate(rewards)
        return try_rewards(TrialJob(**{"answers": path, "most": 100, "rewards": weighed, **job}), lambda progress: None)

    return make


def test_each_reward_is_measured_and_answers_are_ranked_by_disagreement(attempt: Try) -> None:
    report, rows = attempt(["math", {"type": "length", "length_max": 20, "weight": 0.5}])
    right, short = report.rewards
    assert (right.name, right.judged, right.mean, right.low, right.high) == ("math", 3, pytest.approx(2 / 3), 0, 1)
    assert (right.counts[0], right.counts[-1], sum(right.counts)) == (1, 2, 3)
    assert (short.judged, short.high) == (4, 1.0)
    assert [row.scores["math"] for row in rows] == [1, 0, 1, None]
    assert rows[3].reward == pytest.approx(0.5)
    assert [row.disagreement for row in rows] == [0, 0, 0, 0]
    assert report.correlations[0][1] == pytest.approx(1)
    assert report.total.judged == 4
    # What one rewards the other punishes.
    _, rows = attempt(["math", {"type": "length", "length_max": 20, "weight": -0.5}])
    assert [row.disagreement for row in rows] == [1, 1, 1, 0]


def test_a_reward_that_is_always_0_has_figures_that_show_it(attempt: Try) -> None:
    report, rows = attempt(["think_tags", {"type": "regex", "regex_pattern": "[0-9]"}])
    never = report.rewards[1]
    assert (never.mean, never.std, never.low, never.high, sum(never.counts)) == (0, 0, 0, 0, 4)
    assert report.correlations[1] == [None, None]
    assert report.correlations[0][0] == pytest.approx(1)
    assert {row.disagreement for row in rows} == {0}


@pytest.mark.parametrize("format_", ANSWERED)
def test_answers_are_found_in_every_format_that_holds_some(tmp_path: Path, format_: Format) -> None:
    row: Any = SPECS[format_].example
    found = completions_of(row, format_)
    assert len(found) == (2 if format_ is Format.PREFERENCE else 1)
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(row) + "\n") * 9)
    job = TrialJob(
        rewards=RewardsConfig.model_validate(["length"]),
        dataset=DatasetSpec(path=path, format=format_),
        every=3,
        most=4,
    )
    report, rows = try_rewards(job, lambda progress: None)
    assert report.answers == len(rows) == min(4, 3 * len(found))
    assert rows[0].completion
    assert rows[0].reference == ("5" if format_ is Format.PROMPT_ANSWER else None)


def test_progress_counts_judgements(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(SUMS[0]) + "\n" * 1)
    told: list[TrialProgress] = []
    job = TrialJob(rewards=RewardsConfig.model_validate(["math", "length"]), answers=path, most=5)
    try_rewards(job, lambda progress: told.append(progress.model_copy()))
    assert [(progress.done, progress.total) for progress in told] == [(0, 2), (1, 2), (2, 2)]


def test_without_an_answer_there_is_nothing_to_judge(attempt: Try) -> None:
    with pytest.raises(DataError, match="no answer to judge"):
        attempt(["length"], [])


def test_a_reward_model_whose_tokenizer_is_another_ones_is_named_and_others_still_judge(
    attempt: Try, tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path / "scorer"
    scorer = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    scorer.resize_token_embeddings(20)
    scorer.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    report, rows = attempt(["length", "reward_model"], reward_model=ModelSpec(path=folder))
    assert "reward_model could not judge the answers: IndexError" in report.rewards[1].problem
    assert [one.judged for one in report.rewards] == [4, 0]
    assert rows[0].scores == {"length": 1.0, "reward_model": None}
    with pytest.raises(ModelError, match="no reward model"):
        attempt(["reward_model"], reward_model=ModelSpec(path=tiny_model))


def test_a_judge_that_answers_nonsense_is_named(
    attempt: Try, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering_to(judge_server, monkeypatch)
    judge_server.reply = lambda question: "I like it."
    report, _ = attempt([{"type": "judge", "judge_by": "endpoint"}])
    assert report.rewards[0].judged == 0
    assert "replied 'I like it.'" in report.rewards[0].problem


def test_the_process_leaves_an_answer_whatever_happens(tmp_path: Path) -> None:
    path, job = tmp_path / "answers.jsonl", tmp_path / "job.json"
    path.write_text(json.dumps(SUMS[0] | {"completion": "2 \ud83d"}) + "\n")
    asked = {"rewards": {"math": 1}, "answers": str(path), "most": 5}
    job.write_text(json.dumps(asked))
    trial.main(job)
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["error"] is None
    assert answer["report"]["rewards"][0]["mean"] == 1
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 1
    job.write_text(json.dumps(asked | {"rewards": {"math": 0, "judge": 1, "judge_by": "endpoint"}}))
    trial.main(job)
    assert json.loads((tmp_path / "answer.json").read_text())["error"]["code"] == "judge.endpoint"
