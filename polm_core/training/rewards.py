"""Rewards as the online trainers take them: one function each, of a batch of prompts and completions."""

import math
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

from polm_core.blocks import TrainConfig
from polm_core.context import ModelSpec, RunSpec
from polm_core.errors import ConfigError, ModelError, PolmError
from polm_core.formats import Format
from polm_core.rewards.config import AskingConfig, RewardsConfig
from polm_core.rewards.judge import Judge
from polm_core.rewards.tasks import reasoning_gym
from polm_core.rewards.verifiers import VERIFIERS, Verifier, final_part
from polm_core.training.encoding import (
    Encoded,
    Messages,
    as_messages,
    as_prompts,
    encode_answer_steps,
    encode_ratings,
    plain_text,
)
from polm_core.training.faults import as_polm_error
from polm_core.training.rows import Row

RewardFunction = Callable[..., list[float | None]]
"""Takes `prompts`, `completions` and the columns of the rows by name; answers in their order, None for no judgement."""

LEARNED, JUDGED, BY_TASK = "reward_model", "judge", "reasoning_gym"
# The codes of failures of one reward on the answers it was given, which others can still judge.
SILENT, RAISED = "judge.silent", "reward.raised"
UNJUDGED = frozenset({SILENT, RAISED})
_ROUNDING = 1e-9
# How the odds of an answer's steps become its score.
STEP_SCORES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "product": math.prod,
    "min": min,
    "last": itemgetter(-1),
}


class Scorers(Protocol):
    """The models that a description of work names to score answers."""

    reward_model: ModelSpec | None
    judge_model: ModelSpec | None


def check_rewards(rewards: RewardsConfig, spec: RunSpec, format_: Format) -> None:
    """Raise `ConfigError` when the run has not what its rewards need: rows with an answer, a reward model, a judge."""
    if rewards.comparing and format_ is not Format.PROMPT_ANSWER:
        names = " and ".join(rewards.comparing)
        problem = (
            f"must be 0 for rows without an answer to compare with: give {names} no weight, and another reward one"
        )
        raise ConfigError(
            f"The reward {names} compares with the row's answer, and {format_} rows have none.",
            fields={f"config.rewards.{name}": [problem] for name in rewards.comparing},
            advice="Take a dataset of prompts with answers, or other rewards.",
        )
    if LEARNED in rewards.weights and spec.reward_model is None:
        raise ConfigError(
            "reward_model has a weight, and the run has no reward model.",
            fields={"config.rewards.reward_model": ["must be 0 in a run without a reward model"]},
            advice="Name one beside the model that is trained, as reward_model, or give this reward no weight.",
        )
    if JUDGED in rewards.weights:
        _check_judge(rewards, spec)


def check_tasks(rewards: RewardsConfig, rows: Sequence[Row]) -> None:
    """Raise `ConfigError` when answers are to be verified by the rows' tasks, and these cannot."""
    if BY_TASK not in rewards.weights:
        return
    from polm_core.gym.library import check_installed, checked_task

    tasks = [row["task"] for row in rows if row.get("task") is not None]
    if not tasks:
        raise ConfigError(
            "reasoning_gym has a weight, and no row says which task made it, with what its scorer needs.",
            fields={"config.rewards.reasoning_gym": ["must be 0 for rows that no reasoning-gym task made"]},
            advice="Make a dataset from a task on the Datasets page, or take math or exact, which need no task.",
        )
    for task in tasks:
        checked_task(task)
    check_installed()


def unverified(rewards: RewardsConfig, rows: Sequence[Row]) -> dict[str, int]:
    """By reward that compares with the row's answer: to how many of these answers themselves it does not give its best.

    Rows have an `answer` each.
    """
    asked, answers = as_prompts(rows, wrap=False), [row["answer"] for row in rows]
    given = judged([_named(name, _verifying(name, rewards)) for name in rewards.comparing], asked, answers)
    return {name: sum(parts[name] != 1 for parts in given) for name in rewards.comparing}


def _check_judge(rewards: RewardsConfig, spec: RunSpec) -> None:
    from polm_core.training.judging import check_endpoint

    if rewards.judge_by == "endpoint":
        check_endpoint()
    elif spec.judge_model is None:
        raise ConfigError(
            "judge has a weight, and the run has no judge model.",
            fields={"config.rewards.judge": ["must be 0 in a run without a judge model"]},
            advice="Name one beside the model that is trained, as judge_model, or set judge_by to endpoint.",
        )


def reward_functions(config: AskingConfig, spec: Scorers) -> list[RewardFunction]:
    """The rewards that have a weight, in the order of `config.rewards.weights`; models they need are loaded.

    Raises what `load_scorer` and `bring_judge` do. What goes wrong in one later is a `PolmError` that names it.
    """
    return [_named(name, _reward(name, config, spec)) for name in config.rewards.weights]


def _named(name: str, function: RewardFunction) -> RewardFunction:
    def reward(**batch: Any) -> list[float | None]:
        try:
            return function(**batch)
        except PolmError:
            raise
        # A model's own files decide what goes wrong in it, such as a tokenizer that has more tokens than its weights.
        except Exception as error:
            raise as_polm_error(error) or ModelError(
                f"The reward {name} could not judge the answers: {type(error).__name__}: {error}",
                code=RAISED,
                advice="Try it on some answers in the reward workbench, take another model, or give it no weight.",
            ) from error

    reward.__name__ = name
    return reward


def _reward(name: str, config: AskingConfig, spec: Scorers) -> RewardFunction:
    if name == LEARNED:
        return _learned(config, spec)
    if name == JUDGED:
        return _judged(config, spec)
    return _verifying(name, config.rewards)


def _verifying(name: str, rewards: RewardsConfig) -> RewardFunction:
    return _by_task if name == BY_TASK else _verifier(name, VERIFIERS[name], rewards)


def judged(
    functions: Sequence[RewardFunction], rows: Sequence[Row], answers: Sequence[str]
) -> list[dict[str, float | None]]:
    """What each reward gives the answer to each row's prompt, by the reward's name."""
    columns = {name: [row.get(name) for row in rows] for name in ("answer", "task") if any(name in row for row in rows)}
    prompts = [row["prompt"] for row in rows]
    completions = [
        answer if isinstance(prompt, str) else as_messages(answer, "assistant")
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    given = {function.__name__: function(prompts=prompts, completions=completions, **columns) for function in functions}
    return [{name: values[index] for name, values in given.items()} for index in range(len(rows))]


def weighted(parts: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """The reward of an answer, from its parts; None when none of them judged it."""
    values = [weights[name] * value for name, value in parts.items() if value is not None]
    return sum(values) if values else None


def is_right(reward: float | None, least: float) -> bool:
    """Whether a weighted reward reaches `least`, rounding in its sum aside."""
    return reward is not None and reward >= least - _ROUNDING


def _verifier(name: str, verify: Verifier, rewards: RewardsConfig) -> RewardFunction:
    def reward(
        completions: Sequence[str | Messages], answer: Sequence[str] | None = None, **_: Any
    ) -> list[float | None]:
        answers = answer if answer is not None else [None] * len(completions)
        pairs = zip(completions, answers, strict=True)
        return [verify(plain_text(completion), right, rewards) for completion, right in pairs]

    return reward


def _by_task(
    completions: Sequence[str | Messages],
    answer: Sequence[str | None] | None = None,
    task: Sequence[str | None] | None = None,
    **_: Any,
) -> list[float | None]:
    answers, tasks = (column if column is not None else [None] * len(completions) for column in (answer, task))
    triples = zip(completions, answers, tasks, strict=True)
    return [reasoning_gym(plain_text(completion), right, made_by) for completion, right, made_by in triples]


def _learned(config: AskingConfig, spec: Scorers) -> RewardFunction:
    from polm_core.training.loading import is_step_judge, load_scorer, load_tokenizer, training_device
    from polm_core.training.scoring import judge_steps, score

    if spec.reward_model is None:
        raise ModelError("The run has no reward model.")
    tokenizer = load_tokenizer(spec.reward_model)
    model = load_scorer(spec.reward_model, TrainConfig(devices=config.devices)).to(training_device(config)).eval()
    longest = getattr(model.config, "max_position_embeddings", None) or math.inf
    by_steps, combine = is_step_judge(spec.reward_model), STEP_SCORES[config.rewards.step_scores]
    encode = encode_answer_steps if by_steps else encode_ratings

    def scored(texts: Sequence[Encoded]) -> list[float]:
        if by_steps:
            return [combine(odds) for odds in judge_steps(model, tokenizer, texts)]
        return score(model, tokenizer, [text.input_ids for text in texts])

    def reward(
        prompts: Sequence[str | Messages], completions: Sequence[str | Messages], **_: Any
    ) -> list[float | None]:
        """The scores; None for what says nothing, is longer than the model can read, or has no finite score."""
        rows = [
            {"prompt": prompt, "completion": completion}
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        texts = [encoded for (encoded,) in encode(tokenizer, rows)]
        given: list[float | None] = [None] * len(texts)
        readable = [
            index
            for index, text in enumerate(texts)
            if len(text.input_ids) <= longest and (any(text.trained) or not by_steps)
        ]
        for start in range(0, len(readable), config.batch_size):
            batch = readable[start : start + config.batch_size]
            for index, value in zip(batch, scored([texts[place] for place in batch]), strict=True):
                given[index] = value if math.isfinite(value) else None
        return given

    return reward


def _judged(config: AskingConfig, spec: Scorers) -> RewardFunction:
    from polm_core.training.judging import bring_judge

    rewards = config.rewards
    judge = bring_judge(
        rewards.judge_by, spec.judge_model, rewards.judge_rubric, config=config, batch_size=config.batch_size
    )

    def reward(
        prompts: Sequence[str | Messages], completions: Sequence[str | Messages], **_: Any
    ) -> list[float | None]:
        """The scores of what is said after thinking; nothing said gets 0 unasked, None is what was not judged."""
        texts = [final_part(plain_text(completion)) for completion in completions]
        given: list[float | None] = [None if text else 0.0 for text in texts]
        asked = [index for index, text in enumerate(texts) if text]
        scores = judge.scores([(plain_text(prompts[index]), texts[index]) for index in asked])
        if asked and all(score is None for score in scores):
            raise _silent(judge)
        for index, score in zip(asked, scores, strict=True):
            given[index] = score
        return given

    return reward


def _silent(judge: Judge) -> ModelError:
    return ModelError(
        f"The judge gave no judgement on any answer of a step: {judge.problem or 'its scores are not finite'}.",
        code=SILENT,
        advice="See that the judge can be reached and does as it is asked, with the reward workbench; or take another "
        "one, or give judge no weight. The run goes on from its last checkpoint.",
    )
