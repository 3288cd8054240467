"""Rewards as trainers call them: batches, rows without answers, reward models."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polm_core.blocks import TrainConfig
from polm_core.context import DatasetSpec, ModelSpec, RunSpec
from polm_core.errors import ConfigError, ModelError
from polm_core.formats import Format
from polm_core.rewards.config import OnlineConfig
from polm_core.training.encoding import encode_steps
from polm_core.training.judging import LocalJudge
from polm_core.training.loading import load_reward_model, load_step_judge, load_tokenizer
from polm_core.training.rewards import check_rewards, reward_functions
from polm_core.training.scoring import judge_steps, score
from tests.support import tiny
from tests.support.judge import JudgeServer, answering_to

PROMPTS = [[{"role": "user", "content": f"What is {number} + 1?"}] for number in range(3)]
COMPLETIONS = [[{"role": "assistant", "content": text}] for text in ("1", "2 is right", "")]


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reward model whose chat template is not that of the model that is trained."""
    import torch
    from transformers import AutoModelForSequenceClassification

    base = tiny.build_model(tmp_path_factory.mktemp("scorer") / "base", seed=5)
    torch.manual_seed(5)
    folder = base.with_name("scorer")
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).save_pretrained(folder)
    tokenizer = load_tokenizer(ModelSpec(path=base))
    tokenizer.chat_template = (
        "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def step_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a process reward model."""
    return tiny.build_step_judge(tmp_path_factory.mktemp("steps"))


def spec(tiny_model: Path, scorer: Path | None = None, judge: Path | None = None) -> RunSpec:
    return RunSpec(
        method="rloo",
        model=ModelSpec(path=tiny_model),
        reward_model=ModelSpec(path=scorer, name="scorer") if scorer else None,
        judge_model=ModelSpec(path=judge) if judge else None,
        dataset=DatasetSpec(path=Path("rows.jsonl"), format=Format.PROMPT_ANSWER),
    )


def online(**rewards: Any) -> OnlineConfig:
    return OnlineConfig.model_validate({"batch_size": 2, "num_generations": 2, "rewards": {"math": 0, **rewards}})


def test_the_rewards_with_a_weight_are_called_by_name_in_order(tiny_model: Path) -> None:
    functions = reward_functions(online(length=1, math=1), spec(tiny_model))
    assert [function.__name__ for function in functions] == ["math", "length"]
    answers = ["1", "2", "Paris"]
    assert functions[0](prompts=PROMPTS, completions=COMPLETIONS, answer=answers, extra=1) == [1.0, 1.0, None]
    assert functions[1](prompts=PROMPTS, completions=["ab", "", "c"]) == [1.0, 0.0, 1.0]


def test_a_reward_model_scores_by_its_own_template(tiny_model: Path, reward_model: Path) -> None:
    (function,) = reward_functions(online(reward_model=1), spec(tiny_model, reward_model))
    given = function(prompts=PROMPTS, completions=COMPLETIONS)
    scorer = ModelSpec(path=reward_model)
    model, tokenizer = load_reward_model(scorer, TrainConfig()).eval(), load_tokenizer(scorer)
    texts = [f"[user]{p[0]['content']}[assistant]{c[0]['content']}" for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    expected = score(model, tokenizer, [tokenizer(text)["input_ids"] for text in texts])
    assert given == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 6) for value in expected}) == 3


def test_what_a_reward_model_cannot_judge_gets_no_score(tiny_model: Path, reward_model: Path) -> None:
    (function,) = reward_functions(online(reward_model=1), spec(tiny_model, reward_model))
    long = [{"role": "assistant", "content": "7 " * 600}]
    readable, unreadable = function(prompts=PROMPTS[:2], completions=[COMPLETIONS[0], long])
    assert readable is not None
    assert math.isfinite(readable)
    assert unreadable is None


@pytest.mark.parametrize(
    ("scores", "combined"), [("product", math.prod), ("min", min), ("last", lambda odds: odds[-1])]
)
def test_a_process_reward_model_judges_each_line(
    tiny_model: Path, step_judge: Path, scores: str, combined: Callable[[list[float]], float]
) -> None:
    steps = ["Add 2 to 1.", "1 + 2 = 3.", "So 3."]
    answers = ["\n\n".join(steps) + "\n", "3", " \n", "so " * 600]
    config = online(reward_model=1, step_scores=scores)
    (function,) = reward_functions(config, spec(tiny_model, step_judge))
    given = function(
        prompts=[PROMPTS[0]] * 4, completions=[[{"role": "assistant", "content": text}] for text in answers]
    )
    judge = ModelSpec(path=step_judge)
    tokenizer = load_tokenizer(judge)
    row = {"prompt": "What is 0 + 1?", "completions": steps}
    ((encoded,),) = encode_steps(tokenizer, [row], wrap=True)
    (odds,) = judge_steps(load_step_judge(judge, TrainConfig()).eval(), tokenizer, [encoded])
    assert len(odds) == 3
    assert given[0] == pytest.approx(combined(odds), rel=1e-5)
    assert given[1] is not None
    assert given[2:] == [None, None], "nothing is said, and too much to read"


def test_a_model_that_sorts_tokens_into_other_kinds_judges_no_steps(tmp_path: Path, tiny_model: Path) -> None:
    names = tiny.build_step_judge(tmp_path, labels=9)
    with pytest.raises(ModelError, match="sorts tokens into 9 kinds") as caught:
        reward_functions(online(reward_model=1), spec(tiny_model, names))
    assert "prm" in caught.value.advice


def test_a_model_that_writes_is_no_reward_model(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="no reward model") as caught:
        reward_functions(online(reward_model=1), spec(tiny_model, tiny_model))
    assert "reward-model" in caught.value.advice


def test_what_goes_wrong_in_a_models_own_files_names_the_reward(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    scorer = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    scorer.resize_token_embeddings(20)  # fewer than the tokenizer beside it has
    scorer.save_pretrained(tmp_path)
    load_tokenizer(ModelSpec(path=tiny_model)).save_pretrained(tmp_path)
    (function,) = reward_functions(online(reward_model=1), spec(tiny_model, tmp_path))
    with pytest.raises(ModelError, match="The reward reward_model could not judge the answers: IndexError") as caught:
        function(prompts=PROMPTS, completions=COMPLETIONS)
    assert caught.value.code == "reward.raised"


def test_rewards_that_the_run_cannot_give_are_refused(tiny_model: Path, reward_model: Path) -> None:
    rows = Format.PROMPT
    with pytest.raises(ConfigError, match="prompt rows have none") as caught:
        check_rewards(online(math=1, exact=1).rewards, spec(tiny_model), rows)
    assert sorted(caught.value.fields) == ["config.rewards.exact", "config.rewards.math"]
    with pytest.raises(ConfigError, match="no reward model") as caught:
        check_rewards(online(reward_model=1).rewards, spec(tiny_model), rows)
    assert list(caught.value.fields) == ["config.rewards.reward_model"]
    check_rewards(online(length=1, reward_model=1).rewards, spec(tiny_model, reward_model), rows)
    check_rewards(online(math=1).rewards, spec(tiny_model), Format.PROMPT_ANSWER)


def test_a_judge_scores_what_is_said_after_thinking(tiny_model: Path) -> None:
    rewards = online(judge=1, judge_rubric="Short is good.")
    (function,) = reward_functions(rewards, spec(tiny_model, judge=tiny_model))
    assert function.__name__ == "judge"
    said = [[{"role": "assistant", "content": text}] for text in ("<think>no</think>2", "2", "<think>2")]
    thought, plain, unsaid = function(prompts=[PROMPTS[0]] * 3, completions=said)
    assert thought == pytest.approx(plain)
    assert unsaid == 0.0
    judge = LocalJudge(ModelSpec(path=tiny_model), "Short is good.", config=rewards)
    assert plain == pytest.approx(judge.score("What is 0 + 1?", "2"), abs=1e-5)


def test_an_endpoint_that_judges_nothing_ends_the_run(
    tiny_model: Path, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering_to(judge_server, monkeypatch)
    (function,) = reward_functions(online(judge=1, judge_by="endpoint"), spec(tiny_model))
    judge_server.reply = lambda question: "4" if "2 is right" in question else "Fine."
    assert function(prompts=PROMPTS, completions=COMPLETIONS) == [None, 0.75, 0.0]
    judge_server.reply = lambda question: "Fine."
    with pytest.raises(ModelError, match=r"replied 'Fine\.'") as caught:
        function(prompts=PROMPTS, completions=COMPLETIONS)
    assert caught.value.code == "judge.silent"
    assert "workbench" in caught.value.advice


def test_a_judge_that_the_run_cannot_have_is_refused(
    tiny_model: Path, reward_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Format.PROMPT
    with pytest.raises(ConfigError, match="no judge model") as caught:
        check_rewards(online(judge=1).rewards, spec(tiny_model), rows)
    assert list(caught.value.fields) == ["config.rewards.judge"]
    check_rewards(online(judge=1).rewards, spec(tiny_model, judge=tiny_model), rows)
    with pytest.raises(ModelError, match="is a reward model"):
        reward_functions(online(judge=1), spec(tiny_model, judge=reward_model))
    endpoint = online(judge=1, judge_by="endpoint").rewards
    with pytest.raises(ConfigError, match="no endpoint"):
        check_rewards(endpoint, spec(tiny_model), rows)
    monkeypatch.setenv("POLM_JUDGE_URL", "https://169.254.169.254/v1")
    monkeypatch.setenv("POLM_JUDGE_MODEL", "m")
    with pytest.raises(ConfigError, match="must be a public address"):
        check_rewards(endpoint, spec(tiny_model), rows)
