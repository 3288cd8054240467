"""Evaluation by rewards: the model answers held-out prompts, and what its answers earn is what a run has gained."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from polm_core.rewards.config import AskingConfig
from polm_core.training.rewards import RewardFunction, is_right, judged, weighted
from polm_core.training.rows import Row
from polm_core.training.sampling import answers_to


def evaluating_answers(
    trainer: type,
    prompts: Sequence[Row],
    functions: Sequence[RewardFunction],
    config: AskingConfig,
    *,
    right_from: float | None = None,
) -> type:
    """A trainer like `trainer` that evaluates by the rewards of its answers to `prompts`.

    The likeliest answer to each is taken, so that evaluations compare. With `right_from` the share of answers that
    earn as much is their accuracy.
    """

    class EvaluatesAnswers(trainer):
        control: Any

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            self.model.eval()
            asked = [row["prompt"] for row in prompts]
            answers = answers_to(self.model, self.processing_class, asked, config, sampled=False, seed=config.seed)
            parts = judged(functions, prompts, answers)
            metrics = reward_means(parts, config.rewards.weights)
            if right_from is not None:
                metrics |= accuracy(parts, config.rewards.weights, right_from)
            if metrics:
                self.log(dict(metrics))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    return EvaluatesAnswers


def accuracy(
    parts: Sequence[Mapping[str, float | None]], weights: Mapping[str, float], right_from: float
) -> dict[str, float]:
    """The share of right answers, as a trainer names it; not judged ones aside."""
    known = [reward for one in parts if (reward := weighted(one, weights)) is not None]
    return {"eval_accuracy": fmean(is_right(reward, right_from) for reward in known)} if known else {}


def reward_means(parts: Sequence[Mapping[str, float | None]], weights: Mapping[str, float]) -> dict[str, float]:
    """The mean reward of answers, and that of each of its parts, as a trainer names them; not judged ones aside."""
    columns = {f"eval_rewards/{name}/mean": [one[name] for one in parts] for name in weights}
    columns["eval_reward"] = [weighted(one, weights) for one in parts]
    known = {key: [value for value in values if value is not None] for key, values in columns.items()}
    return {key: fmean(values) for key, values in known.items() if values}
