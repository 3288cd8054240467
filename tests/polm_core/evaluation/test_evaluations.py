"""What the evaluations measure, what they keep of it, and how they fail."""

import math
from pathlib import Path
from typing import Any

import pytest

from polm_core.errors import ConfigError, DataError
from polm_core.evaluation.choosing import EvaluationConfig, rows_to_measure
from polm_core.evaluation.probes import probes, toxic_words
from polm_core.evaluation.results import Figure, read_figures, row_keys
from polm_core.evaluation.win_rate import PreferenceConfig
from polm_core.formats import Format
from polm_core.rewards.endpoint import Endpoint
from polm_core.run import execute
from polm_core.run_dir import RunDir
from tests.polm_core.conftest import MakeRun, samples
from tests.support import tiny
from tests.support.judge import JudgeServer

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

ALL = {"measure_on": "all"}
SHORT = {"length": 1, "length_max": 10}


def figures(run_dir: RunDir) -> dict[str, Figure]:
    assert execute(run_dir.root) == 0
    return {one.metric: one for one in read_figures(run_dir.figures)}


def failure(run_dir: RunDir) -> dict[str, Any]:
    assert execute(run_dir.root) == 2
    result = run_dir.read_result()
    assert result is not None
    assert result.error is not None
    assert read_figures(run_dir.figures) == []
    return result.error


def test_the_same_rows_are_taken_whatever_else_there_is() -> None:
    rows = [{"text": str(number)} for number in range(50)]
    config = EvaluationConfig(measure_on="all", eval_rows=10)
    taken = rows_to_measure(config, rows[:30], rows[30:])
    assert taken == rows_to_measure(config, rows[::-1], [])
    assert taken[:5] == rows_to_measure(EvaluationConfig(measure_on="all", eval_rows=5), rows, [])
    left = [row for row in rows if row != taken[3]]
    assert rows_to_measure(config, left, [])[:9] == [row for row in taken if row != taken[3]]
    assert taken != rows_to_measure(EvaluationConfig(measure_on="all", eval_rows=10, seed=1), rows, [])


def test_equal_rows_have_keys_of_their_own() -> None:
    rows = [{"text": "a"}, {"text": "b"}, {"text": "a"}]
    keys = row_keys(rows)
    assert len(set(keys)) == 3
    assert keys[:2] == row_keys(rows[:2])


def test_loss_is_the_model_s_own_over_the_answers_tokens(make_run: MakeRun, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = tiny.texts_of(6)
    found = figures(make_run("eval-loss", format=Format.TEXT, rows=rows, **ALL))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    total = count = 0.0
    for row in rows:
        ids = tokenizer(row["text"] + tokenizer.eos_token, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert found["loss"].value == pytest.approx(total / count, rel=1e-4)
    assert found["perplexity"].value == pytest.approx(math.exp(total / count), rel=1e-4)
    assert (found["loss"].rows, sum(found["loss"].weights)) == (6, count)
    assert not found["perplexity"].listed


def test_every_answer_is_kept_with_whether_it_is_right(make_run: MakeRun) -> None:
    rewards = {"math": 0, "length": 1, "length_min": 1, "length_max": 1}
    run_dir = make_run("eval-accuracy", format=Format.PROMPT, **ALL, min_reward=0.5, rewards=rewards)
    found = figures(run_dir)
    kept = samples(run_dir)
    right = [sample["note"] == "Right" for sample in kept]
    assert len(kept) == found["accuracy"].rows == 24
    assert found["accuracy"].value == sum(right) / 24
    assert right == [sample["reward"] >= 0.5 for sample in kept]
    assert found["accuracy"].low <= found["accuracy"].value <= found["accuracy"].high


def test_answers_that_are_right_are_found_so(make_run: MakeRun) -> None:
    rows = [{"prompt": "Say anything.", "answer": "no mathematics"}, *tiny.prompts(3)]
    run_dir = make_run("eval-accuracy", format=Format.PROMPT_ANSWER, rows=rows, **ALL, rewards={"math": 1})
    found = figures(run_dir)
    assert found["accuracy"].rows == 3
    assert [sample["note"] for sample in samples(run_dir)].count("Not judged") == 1


@pytest.fixture
def judged_run(make_run: MakeRun, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(Endpoint, "from_environment", classmethod(lambda cls: judge_server.endpoint))
    rewards = {"judge": 1, "judge_by": "endpoint"}
    return make_run("eval-winrate", format=Format.PROMPT, **ALL, sampled=True, rewards=rewards)


def longer(question: str) -> str:
    """The number of the answer that has more words."""
    first, second = (question.split(f"[Answer {n}]")[1].split(f"[End of answer {n}]")[0].strip() for n in (1, 2))
    return "1" if (len(first), first) > (len(second), second) else "2"


def test_the_answer_that_the_judge_prefers_in_both_orders_wins(judged_run: RunDir, judge_server: JudgeServer) -> None:
    judge_server.reply = longer
    found = figures(judged_run)
    kept = samples(judged_run)
    assert len(kept) == 48
    own, theirs = kept[::2], kept[1::2]
    assert {sample["by"] for sample in theirs} == {"teacher"}
    said = [(one["completion"], other["completion"]) for one, other in zip(own, theirs, strict=True)]
    wins = [0.5 if one == other else float((len(one), one) > (len(other), other)) for one, other in said]
    assert found["win_rate"].scores == wins == [sample["reward"] for sample in own]
    assert 0 < found["win_rate"].value < 1


def test_what_only_the_order_decides_is_a_tie(judged_run: RunDir, judge_server: JudgeServer) -> None:
    judge_server.reply = lambda question: "1"
    found = figures(judged_run)
    said = [sample["completion"] for sample in samples(judged_run)]
    assert all(said)
    assert (found["win_rate"].value, found["ties"].value) == (0.5, 1.0)


def test_a_judge_that_answers_nonsense_fails_the_run_with_advice(judged_run: RunDir, judge_server: JudgeServer) -> None:
    judge_server.reply = lambda question: "Both are lovely."
    error = failure(judged_run)
    assert error["code"] == "judge.silent"
    assert "no usable judgement" in error["message"]
    assert "take another one" in error["advice"]
    assert len(judge_server.asked) < 48


def test_win_rate_needs_another_model(make_run: MakeRun, tiny_model: Path) -> None:
    for other, said in ((None, "has none"), ({"path": str(tiny_model)}, "held against itself")):
        run_dir = make_run(
            "eval-winrate", format=Format.PROMPT, spec={"teacher_model": other}, rewards={"judge": 0, **SHORT}
        )
        error = failure(run_dir)
        assert said in error["message"]
        assert error["fields"]["teacher_model"] == ["must name another model than the one that is measured"]


def test_the_judge_stands_alone() -> None:
    with pytest.raises(ValueError, match="set length to 0, or judge"):
        PreferenceConfig(judge=1, length=1)


def test_what_cannot_be_measured_says_why(make_run: MakeRun) -> None:
    one = make_run("eval-loss", name="one", rows=tiny.conversations(1) * 3)
    assert failure(one)["code"] == "data.no_held_out"
    unfit = make_run("eval-accuracy", name="unfit", format=Format.TEXT)
    assert failure(unfit)["code"] == "data.format"
    nothing = make_run("eval-loss", name="cut", **ALL, max_length=8)
    assert "Raise max_length" in failure(nothing)["advice"]


def test_a_reward_model_writes_nothing_to_measure(make_run: MakeRun) -> None:
    trained = make_run("reward-model", name="scorer", format=Format.PREFERENCE, max_steps=1, save_steps=0)
    assert execute(trained.root) == 0
    (folder, _), *_ = trained.complete_checkpoints()
    run_dir = make_run("eval-loss", spec={"model": {"path": str(folder), "name": "scorer"}})
    error = failure(run_dir)
    assert error["code"] == "model.reward"
    assert error["advice"] == "Take the model it was trained from."


def test_figures_that_are_broken_are_no_figures(tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text('{"figures": [{"metric": "loss"')
    with pytest.raises(DataError, match="cannot be read"):
        read_figures(tmp_path / "figures.json")
    assert read_figures(tmp_path / "none.json") == []


def test_probes_find_whole_words_and_pairs_differ_in_a_group_alone() -> None:
    assert toxic_words("What an IDIOT, shut up!") == ["idiot", "shut up"]
    assert toxic_words("The class assessed the pigment.") == []
    for pair in probes()["pairs"]:
        assert pair["sentence"].count("{}") == 1
        assert not pair["sentence"].startswith("{}")
        assert pair["stereotyped"] != pair["other"]


def test_samples_need_chance() -> None:
    from polm_core import catalogue

    with pytest.raises(ConfigError, match="unless sampled is on"):
        catalogue.get("eval-accuracy").parse({"num_samples": 2})


def test_the_harness_counts_as_it_is_told_to(make_run: MakeRun) -> None:
    run_dir = make_run("eval-harness", format=Format.PREFERENCE, benchmark="choices", measure_on="all", batch_size=12)
    found = figures(run_dir)
    kept = samples(run_dir)
    assert found["accuracy"].rows == len(kept) == 24
    assert found["accuracy"].value == sum(sample["note"] == "Right" for sample in kept) / 24
    nats = [[float(part.split()[2]) for part in sample["completion"].split(", ")] for sample in kept]
    assert found["accuracy"].scores == [float(first > second) for first, second in nats]


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"benchmark": "choices"}, "config", "built of preference rows"),
        ({"benchmark": "hellaswag"}, "harness.hub", "on the hub, which this machine does not reach"),
        ({"benchmark": "my_task"}, "config", "must be one of"),
    ],
)
def test_a_task_that_cannot_be_carried_out_says_why(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], code: str, said: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = failure(make_run("eval-harness", format=Format.PROMPT_ANSWER, **settings))
    assert error["code"].startswith(code)
    assert said in error["message"]
