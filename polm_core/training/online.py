"""The trainers of the methods that learn from their own answers at each step, most of them by a loss of their own.

trl's experimental trainers for PPO, online DPO, Nash-MD and XPO neither evaluate held-out prompts nor tell the parts of
a reward. PPO's can neither be stopped nor resumed; with an adapter, those of Nash-MD and XPO have the model in training
write the reference's answers. trl's RLOO has answers written, rewarded, compared with the reference and evaluated, and
resumes exactly. So those methods have their answers from it, and put their own loss in place of its own. GRPO and its
relatives have trl's trainer of that name, which does the same.
"""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from polm_core.context import RunContext
from polm_core.rewards.config import OnlineConfig
from polm_core.run_dir import UNUSED_ANSWERS
from polm_core.training.preferences import reference
from polm_core.training.rollouts import writing_rollouts
from polm_core.training.rows import Row
from polm_core.training.setup import Prompts, bring_model


def online_trainer(
    kind: type[RLOOTrainer | GRPOTrainer],
    config: OnlineConfig,
    context: RunContext,
    prompts: Prompts,
    arguments: RLOOConfig | GRPOConfig,
    *,
    beta: float,
) -> Any:
    """A trainer of that kind, with the model of the run, that writes its rollouts down.

    The model is held by `beta` to where it starts. `arguments` say a beta of 0: the trainer would load a reference
    anew, without what was merged into the model.
    """
    model, adapter = bring_model(config, context)
    compared = reference(model, adapter, config) if beta else None
    trainer = writing_rollouts(kind, context, config)(
        model=model,
        reward_funcs=prompts.rewards,
        args=arguments,
        train_dataset=Dataset.from_list(prompts.train),
        eval_dataset=Dataset.from_list(prompts.held_out) if prompts.held_out else None,
        processing_class=prompts.tokenizer,
        peft_config=adapter,
    )
    trainer.beta = beta
    if compared is not None:
        trainer.ref_model = trainer.accelerator.prepare_model(compared, evaluation_mode=True)
    if config.steps_per_rollout > 1:
        trainer.add_callback(KeepsAnswers(trainer, config.steps_per_rollout, context.spec.resume))
    return trainer


class KeepsAnswers(TrainerCallback):
    """Puts the answers into a checkpoint taken between two of the `steps` on them, and has a run that resumes from it
    go on with them. `resume` is the checkpoint that the run goes on from."""

    def __init__(self, trainer: Any, steps: int, resume: Path | None) -> None:
        self.trainer = trainer
        self.steps = steps
        self.resume = resume

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.resume is None:
            return
        self.trainer._step = state.global_step * args.gradient_accumulation_steps
        answers = self.resume / UNUSED_ANSWERS.format(args.process_index)
        if answers.is_file():
            self.trainer._buffered_inputs = torch.load(answers, map_location=args.device, weights_only=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.steps:
            draft = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            torch.save(self.trainer._buffered_inputs, draft / UNUSED_ANSWERS.format(args.process_index))


class OnlineTrainer(RLOOTrainer):
    """RLOO's trainer, whose batches also hold what it sums up: the log-probability of each token of an answer under
    the model that wrote it (`old_logps`) and under the reference (`reference_logps`, with a `beta`), and the weighted
    reward of each answer (`rewards`, NaN where none was given)."""

    _passes: list[torch.Tensor] | None = None

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        passes: list[torch.Tensor] = []
        self._passes = passes
        output = super()._generate_and_score_completions(inputs)
        self._passes = None
        old, *reference = passes
        own = slice(self.accelerator.process_index * len(inputs), (self.accelerator.process_index + 1) * len(inputs))
        output |= {"old_logps": old, "rewards": self.weighted(self.parts)[own]}
        return output | ({"reference_logps": reference[0]} if reference else {})

    def _get_per_token_logps_and_entropies(self, *inputs: Any, **more: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(*inputs, **more)
        if self._passes is not None:
            self._passes.append(result[0])
        return result

    def _calculate_rewards(self, *inputs: Any) -> torch.Tensor:
        """Each reward of each answer, over all processes."""
        self.parts: torch.Tensor = super()._calculate_rewards(*inputs)
        return self.parts

    def weighted(self, parts: torch.Tensor) -> torch.Tensor:
        """The sum of the weighted rewards of each answer; NaN for one that no reward judged."""
        total = (parts * self.reward_weights.to(parts.device)).nansum(dim=1)
        return total.masked_fill(parts.isnan().all(dim=1), torch.nan)

    def write_advantages(self, advantages: torch.Tensor) -> None:
        """Put what this process's answers are worth into the trainer's notes, from which the samples are written."""
        notes = self._logs["advantages"]
        notes.clear()
        notes.extend(self.accelerator.gather(advantages).tolist())

    def count(self, key: str, values: torch.Tensor) -> None:
        """Log the mean of `values`, of those that are numbers, over all processes at the next log line."""
        mode = "train" if self.model.training else "eval"
        self._metrics[mode][key].append(self.accelerator.gather(values.detach().float().reshape(-1)).nanmean().item())


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the values that `mask` keeps; 0 when it keeps none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
