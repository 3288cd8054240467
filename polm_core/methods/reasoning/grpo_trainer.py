"""trl's GRPOTrainer with what our settings say, and advantages by a Beta distribution, which it does not have."""

from collections.abc import Sequence
from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer

from polm_core.methods.reasoning.grpo import GrpoConfig
from polm_core.run_dir import RunDir
from polm_core.training.rollouts import online_arguments
from polm_core.training.rows import Row

# Advantages are not multiplied by more: where a Beta distribution is near 0, its inverse has no bound.
_LARGEST_WEIGHT = 10.0


def grpo_arguments(config: GrpoConfig, run_dir: RunDir) -> GRPOConfig:
    """The trainer's settings."""
    return GRPOConfig(
        **online_arguments(config, run_dir),
        beta=0.0,
        num_iterations=config.num_iterations,
        steps_per_generation=config.gradient_accumulation_steps * config.mini_batches,
        loss_type=config.loss,
        scale_rewards="none" if config.scale_rewards == "beta" else config.scale_rewards,
        importance_sampling_level=config.importance,
        epsilon=config.clip_low,
        epsilon_high=config.clip_high,
        sapo_temperature_pos=config.sapo_temperature_pos,
        sapo_temperature_neg=config.sapo_temperature_neg,
    )


class GrpoTrainer(GRPOTrainer):
    """GRPO's trainer; with `fits_beta`, which is set once it is built, advantages are those of BNPO."""

    fits_beta = False

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.fits_beta:
            answers = self.num_generations if self.model.training else self.num_generations_eval
            advantages = beta_advantages(self.parts, self.reward_weights.tolist(), answers)
            own = self.accelerator.process_index * len(inputs)
            output["advantages"] = advantages[own : own + len(inputs)]
            notes = self._logs["advantages"]
            notes.clear()
            notes.extend(advantages.tolist())
        return output

    def _calculate_rewards(self, *inputs: Any) -> torch.Tensor:
        """Each reward of each answer, over all processes."""
        self.parts: torch.Tensor = super()._calculate_rewards(*inputs)
        return self.parts


def beta_advantages(parts: torch.Tensor, weights: Sequence[float], answers: int) -> torch.Tensor:
    """How much better each answer is than the others to its prompt, reward by reward, over the density at the prompt's
    mean of a Beta distribution (arXiv 2506.02864).

    `parts` has a row for each answer and a column for each reward, NaN where none was given; it must be between 0 and
    1. `answers` in a row are to the same prompt.
    """
    total = torch.zeros(len(parts), device=parts.device)
    for column, weight in enumerate(weights):
        rewards = parts[:, column].view(-1, answers)
        means = rewards.nanmean(dim=1)
        advantages = (rewards - means.unsqueeze(1)) * beta_weights(means).unsqueeze(1)
        total += weight * advantages.nan_to_num().flatten()
    return total


def beta_weights(means: torch.Tensor) -> torch.Tensor:
    """What to multiply the advantages at each prompt by, from the mean rewards of all prompts; NaN where there is none.

    The distribution that keeps the gradient's variance least follows from the moments of the means. Where they have
    none, such as when all are the same, nothing is weighed.
    """
    known = means[~means.isnan()]
    mean, variance = known.mean(), known.var() if len(known) > 1 else torch.tensor(0.0)
    if not 0 < mean < 1 or variance <= torch.finfo(variance.dtype).eps:
        return torch.ones_like(means).masked_fill(means.isnan(), torch.nan)
    spread = mean * (1 - mean) / variance - 1
    alpha, beta = (1 + side * spread / 3 for side in (mean, 1 - mean))
    fitted = torch.distributions.Beta(alpha.clamp(min=1), beta.clamp(min=1), validate_args=False)
    return fitted.log_prob(means.clamp(0, 1)).neg().exp().clamp(max=_LARGEST_WEIGHT)
