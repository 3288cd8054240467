"""Rewards as the online trainers take them: one function each, of a batch of prompts and completions."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polm_core.blocks import TrainConfig
from polm_core.context import RunSpec
from polm_core.errors import ConfigError, ModelError
from polm_core.formats import Format
from polm_core.rewards.config import AnsweringConfig, RewardsConfig
from polm_core.rewards.verifiers import VERIFIERS, Verifier
from polm_core.training.encoding import Messages, as_messages, encode_ratings, plain_text
from polm_core.training.rows import Row

RewardFunction = Callable[..., list[float | None]]
"""Takes `prompts`, `completions` and the columns of the rows by name; answers in their order, None for no judgement."""

LEARNED = "reward_model"


def check_rewards(rewards: RewardsConfig, spec: RunSpec, format_: Format) -> None:
    """Raise `ConfigError` when the run has not what its rewards need: rows with an answer, or a reward model."""
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


def reward_functions(config: AnsweringConfig, spec: RunSpec) -> list[RewardFunction]:
    """The rewards that have a weight, in the order of `config.rewards.weights`; a reward model is loaded.

    Raises what `load_scorer` does.
    """
    return [
        _learned(config, spec) if name == LEARNED else _verifier(name, VERIFIERS[name], config.rewards)
        for name in config.rewards.weights
    ]


def judged(
    functions: Sequence[RewardFunction], rows: Sequence[Row], answers: Sequence[str]
) -> list[dict[str, float | None]]:
    """What each reward gives the answer to each row's prompt, by the reward's name."""
    columns = {"answer": [row["answer"] for row in rows]} if all("answer" in row for row in rows) else {}
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


def _verifier(name: str, verify: Verifier, rewards: RewardsConfig) -> RewardFunction:
    def reward(
        completions: Sequence[str | Messages], answer: Sequence[str] | None = None, **_: Any
    ) -> list[float | None]:
        answers = answer if answer is not None else [None] * len(completions)
        pairs = zip(completions, answers, strict=True)
        return [verify(plain_text(completion), right, rewards) for completion, right in pairs]

    reward.__name__ = name
    return reward


def _learned(config: AnsweringConfig, spec: RunSpec) -> RewardFunction:
    from polm_core.training.loading import load_scorer, load_tokenizer, training_device
    from polm_core.training.scoring import score

    if spec.reward_model is None:
        raise ModelError("The run has no reward model.")
    tokenizer = load_tokenizer(spec.reward_model)
    model = load_scorer(spec.reward_model, TrainConfig(devices=config.devices)).to(training_device(config)).eval()
    longest = getattr(model.config, "max_position_embeddings", None) or math.inf

    def reward(
        prompts: Sequence[str | Messages], completions: Sequence[str | Messages], **_: Any
    ) -> list[float | None]:
        """The scores; None for what is longer than the reward model can read, or has no finite score."""
        rows = [
            {"prompt": prompt, "completion": completion}
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        texts = [encoded.input_ids for (encoded,) in encode_ratings(tokenizer, rows)]
        given: list[float | None] = [None] * len(texts)
        readable = [index for index, tokens in enumerate(texts) if len(tokens) <= longest]
        for start in range(0, len(readable), config.batch_size):
            batch = readable[start : start + config.batch_size]
            for index, value in zip(batch, score(model, tokenizer, [texts[i] for i in batch]), strict=True):
                given[index] = value if math.isfinite(value) else None
        return given

    reward.__name__ = LEARNED
    return reward
