"""Proximal policy optimisation: the value model, the advantages it makes, and the clipped losses.

The answers, their rewards, the reference and the evaluation are those of `polm_core.training.online`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import RLOOConfig

from polm_core.context import RunContext
from polm_core.methods.alignment.ppo import PpoConfig
from polm_core.run_dir import VALUE_MODEL, RunDir
from polm_core.training.online import OnlineTrainer, masked_mean
from polm_core.training.rollouts import online_arguments
from polm_core.training.rows import Row
from polm_core.training.setup import bring_reward_model


def ppo_arguments(config: PpoConfig, run_dir: RunDir) -> RLOOConfig:
    """The trainer's settings. RLOO's ask for two answers to a prompt at least; PPO makes do with one."""
    answers = config.prompts_per_rollout * config.num_generations
    arguments = RLOOConfig(
        **{**online_arguments(config, run_dir), "num_generations": answers},
        beta=0.0,
        num_iterations=config.ppo_epochs,
        steps_per_generation=config.gradient_accumulation_steps * config.mini_batches,
    )
    arguments.num_generations = config.num_generations
    return arguments


class ValueModel(torch.nn.Module):
    """What a text will have earned by its end, as foretold before each of its tokens.

    `scorer` is a model with a head of one number, with its adapter on it if it has one.
    """

    def __init__(self, scorer: Any) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, answer_length: int) -> torch.Tensor:
        scorer = self.scorer.get_base_model() if hasattr(self.scorer, "peft_config") else self.scorer
        body = getattr(scorer, scorer.base_model_prefix)
        hidden = body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return scorer.score(hidden[:, -answer_length - 1 : -1]).squeeze(-1).float()

    def trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The weights that are learned, by name."""
        return ((name, weight) for name, weight in self.named_parameters() if weight.requires_grad)


def bring_value_model(config: PpoConfig, context: RunContext) -> ValueModel:
    """A second copy of what the run starts from, with a new head, trained as the policy is: whole or by an adapter."""
    scorer, adapter = bring_reward_model(config, context)
    if adapter is not None:
        scorer = get_peft_model(scorer, adapter)
    if config.gradient_checkpointing:
        scorer.gradient_checkpointing_enable()
        scorer.enable_input_require_grads()
    return ValueModel(scorer)


class PpoTrainer(OnlineTrainer):
    """Learns from advantages over what the value model foretold, which learns beside the policy.

    `value_model` and `settings` are set once it is built.
    """

    value_model: Any
    settings: PpoConfig

    def create_optimizer(self, *inputs: Any) -> Any:
        """The value model's weights are a group of their own, at their own rate."""
        optimizer = super().create_optimizer(*inputs)
        learned = [weight for weight in self.value_model.parameters() if weight.requires_grad]
        rate, decay = self.settings.value_learning_rate, self.settings.weight_decay
        optimizer.add_param_group({"params": learned, "lr": rate, "weight_decay": decay})
        return optimizer

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        config, mask, rewards = self.settings, output["completion_mask"], output["rewards"]
        # What was not judged, or not finished where that is asked for, teaches nothing.
        mask = mask * ~rewards.isnan().unsqueeze(1)
        old = output["old_logps"] * mask
        distance = (old - output["reference_logps"]) * mask if config.beta else torch.zeros_like(old)
        size = self.args.per_device_train_batch_size
        self.value_model.eval()
        with torch.no_grad():
            values = torch.cat([self._values(output, slice(at, at + size)) for at in range(0, len(mask), size)]) * mask
        earned = token_rewards(rewards.nan_to_num(), distance, mask, config.beta)
        advantages = generalised_advantages(earned, values, config.discount, config.smoothing) * mask
        self.write_advantages(advantages.sum(1) / mask.sum(1).clamp(min=1))
        self.count("objective/kl", distance.sum(1))
        self.count("objective/entropy", -old.sum(1))
        self.count("objective/rlhf_reward", earned.sum(1))
        if self.num_generations == 1:
            # Nothing is compared with an answer to the same prompt.
            self._metrics["train" if self.model.training else "eval"].pop("frac_reward_zero_std")
        return output | {
            "learned_mask": mask,
            "values": values,
            "returns": advantages + values,
            "advantages": whitened(advantages, mask) if config.whiten_advantages else advantages,
        }

    def _values(self, batch: dict[str, Any], rows: slice) -> torch.Tensor:
        ids = torch.cat([batch["prompt_ids"][rows], batch["completion_ids"][rows]], dim=1)
        mask = torch.cat([batch["prompt_mask"][rows], batch["completion_mask"][rows]], dim=1)
        return self.value_model(ids, mask, batch["completion_ids"].shape[1])

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        config, mask = self.settings, inputs["learned_mask"]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model, ids, attention, inputs["completion_ids"].shape[1], compute_entropy=True
        )
        change = (logps - inputs["old_logps"]) * mask
        ratio, advantages = change.exp(), inputs["advantages"]
        kept = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
        policy = torch.max(-advantages * ratio, -advantages * kept)

        self.value_model.train(self.model.training)
        values, before, returns = self._values(inputs, slice(None)), inputs["values"], inputs["returns"]
        near = before + (values - before).clamp(-config.value_clip_range, config.value_clip_range)
        value = 0.5 * torch.max((values - returns).square(), (near - returns).square())

        policy_loss, value_loss = masked_mean(policy, mask), masked_mean(value, mask)
        self.count("entropy", masked_mean(entropies, mask))
        self.count("loss/policy", policy_loss)
        self.count("loss/value", value_loss)
        self.count("policy/approxkl", 0.5 * masked_mean(change.square(), mask))
        self.count("policy/clipfrac", masked_mean((-advantages * kept > -advantages * ratio).float(), mask))
        self.count(
            "value/clipfrac", masked_mean(((near - returns).square() > (values - returns).square()).float(), mask)
        )
        # They share no weight, so neither has to be weighed against the other.
        return policy_loss + value_loss


def token_rewards(rewards: torch.Tensor, distance: torch.Tensor, mask: torch.Tensor, beta: float) -> torch.Tensor:
    """What each token earns: the whole answer's reward falls to its last one, and each pays for its `distance`."""
    last = (mask.sum(1) - 1).clamp(min=0).unsqueeze(1)
    return (-beta * distance).scatter_add(1, last, rewards.unsqueeze(1)) * mask


def generalised_advantages(
    earned: torch.Tensor, values: torch.Tensor, discount: float, smoothing: float
) -> torch.Tensor:
    """How much better each token did than was foretold (arXiv 1506.02438); nothing is foretold beyond the end."""
    following, advantage, found = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0]), []
    for at in reversed(range(values.shape[1])):
        surprise = earned[:, at] + discount * following - values[:, at]
        advantage = surprise + discount * smoothing * advantage
        following = values[:, at]
        found.append(advantage)
    return torch.stack(found[::-1], dim=1)


def whitened(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The values that `mask` keeps, brought to a mean of 0 and a deviation of 1."""
    centred = (values - masked_mean(values, mask)) * mask
    return centred * torch.rsqrt(masked_mean(centred.square(), mask) + 1e-8)


class ValueModelCallback(TrainerCallback):
    """Does for the value model what the trainer does for its own: cuts gradients, forgets them, saves, goes on.

    `resume` is the checkpoint that the run goes on from.
    """

    def __init__(self, trainer: PpoTrainer, resume: Path | None) -> None:
        self.trainer = trainer
        self.resume = resume

    @property
    def model(self) -> ValueModel:
        return self.trainer.accelerator.unwrap_model(self.trainer.value_model)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        from safetensors.torch import load_file

        if self.resume is None:
            return
        self.model.load_state_dict(load_file(self.resume / VALUE_MODEL), strict=False)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if args.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.trainer.value_model.parameters(), args.max_grad_norm)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.trainer.value_model.zero_grad()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        from safetensors.torch import save_file

        if state.is_world_process_zero:
            draft = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (draft / VALUE_MODEL).parent.mkdir()
            save_file(
                {name: weight.detach().contiguous() for name, weight in self.model.trained()}, draft / VALUE_MODEL
            )
