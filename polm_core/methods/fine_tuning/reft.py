"""Reinforced fine-tuning: a short supervised warm-up, then RLOO on verified answers, in one run over the same rows."""

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.data.convert import convert_rows
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.online import (
    COMPLETIONS,
    CUT_ANSWERS,
    ENTROPY,
    HACKED,
    NO_PROGRESS,
    NO_SIGNAL,
    REWARD_PARTS,
    REWARD_SPREAD,
    WRITING_SPEED,
)
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.rewards.config import OnlineConfig

if TYPE_CHECKING:
    from polm_core.training.setup import Prompts
    from polm_core.training.warm_up import Warmed

FORMATS = (Format.PROMPT_ANSWER,)


class ReftConfig(OnlineConfig):
    """Settings of reinforced fine-tuning."""

    compares_with_reference: ClassVar[bool] = True

    max_steps: int = setting(0, group=MAIN, unit="steps", ge=0, le=10_000_000)
    """Optimiser steps of both stages together; 0 lets the epochs decide how many follow the warm-up."""

    epochs: float = setting(1.0, group=MAIN, unit="epochs", gt=0, le=1000)
    """Passes over the prompts after the warm-up; not used when the steps are given."""

    learning_rate: float = setting(1e-6, group=MAIN, source="RLOO, arXiv 2402.14740", gt=0, le=1)
    """Peak step size of the optimiser after the warm-up. Adapters take about ten times what full training takes."""

    sft_steps: int = setting(50, group=MAIN, unit="steps", ge=1, le=10_000_000)
    """Steps of the supervised warm-up, which imitates each row's solution, or its answer where there is none. Enough
    for answers to be right now and then: what is never right cannot be reinforced."""

    sft_learning_rate: float = setting(1e-5, group=MAIN, source="ReFT, arXiv 2401.08967", gt=0, le=1)
    """Peak step size of the optimiser in the warm-up, which has a schedule of its own."""

    beta: float = setting(0.05, group=MAIN, source="ReFT, arXiv 2401.08967", step=0.01, ge=0, le=100)
    """What each nat of distance from where the warm-up ended costs in reward; 0 lets the model go anywhere."""

    @field_validator("sft_steps")
    @classmethod
    def _check_stages(cls, steps: int, info: ValidationInfo) -> int:
        total = info.data.get("max_steps", 0)
        if 0 < total <= steps:
            raise ValueError(f"must be below max_steps, {total}, the steps of both stages together, not {steps}")
        return steps

    @property
    def steps_before_epochs(self) -> int:
        return self.sft_steps

    def rollouts(self, steps: int, prompts: int) -> int:
        return steps - self.sft_steps

    def steps_after_warm_up(self, prompts: int) -> int:
        """Optimiser steps of the second stage, on so many prompts."""
        if self.max_steps:
            return self.max_steps - self.sft_steps
        return math.ceil(self.epochs * (prompts // self.prompts_per_rollout))


def run(config: ReftConfig, context: RunContext) -> dict[str, float]:
    """Train in both stages, or in what is left of them, and return the final metrics."""
    from polm_core.training.loop import resumed_step
    from polm_core.training.setup import read_prompts

    prompts = read_prompts(config, context, FORMATS)
    warmed = None
    if resumed_step(context) <= config.sft_steps:
        warmed = warm_up(config, context, prompts)
        if context.ending is not None:
            return dict(context.latest)
    return reinforce(config, context, prompts, warmed)


def warm_up(config: ReftConfig, context: RunContext, prompts: "Prompts") -> "Warmed":
    """Imitate the solutions; the weights that this ends with."""
    from trl import SFTConfig, SFTTrainer

    from polm_core.methods.fine_tuning.sft import tokenised
    from polm_core.training.arguments import training_arguments
    from polm_core.training.held_out import evaluating_answers
    from polm_core.training.loop import train
    from polm_core.training.reporting import Stage
    from polm_core.training.rollouts import needed_prompts
    from polm_core.training.setup import bring_model
    from polm_core.training.warm_up import Warmed, trained_weights

    model, adapter = bring_model(config, context)
    arguments = training_arguments(config, context.run_dir)
    arguments |= {"max_steps": config.sft_steps, "learning_rate": config.sft_learning_rate}
    target = Format.CONVERSATION if config.chat_template else Format.PROMPT_COMPLETION
    rows = list(convert_rows(needed_prompts(prompts.split.train), prompts.split.format, target))
    longest = config.max_length + config.max_completion_length
    trainer = evaluating_answers(SFTTrainer, prompts.held_out, prompts.rewards, config)(
        model=model,
        args=SFTConfig(**arguments, max_length=None, loss_type="chunked_nll"),
        train_dataset=tokenised(prompts.tokenizer, rows, target, "answers", limit=longest),
        processing_class=prompts.tokenizer,
        peft_config=adapter,
    )
    trainer.eval_dataset = prompts.held_out
    stage = Stage("warming up", after=config.steps_after_warm_up(len(prompts.train)))
    train(trainer, context, config, prompts.split, stage=stage)
    return Warmed(trained_weights(trainer.model), trainer.state.num_input_tokens_seen)


def reinforce(config: ReftConfig, context: RunContext, prompts: "Prompts", warmed: "Warmed | None") -> dict[str, float]:
    """Go on from the warm-up by RLOO; the final metrics. A run that resumes has the warm-up's weights with it."""
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    from polm_core.training.held_out import evaluating_answers
    from polm_core.training.loop import train
    from polm_core.training.reporting import Stage
    from polm_core.training.rollouts import online_arguments, writing_rollouts
    from polm_core.training.setup import bring_model
    from polm_core.training.warm_up import KeepsWarmUp, hold_to, load_warmed, put_weights

    warmed = warmed or load_warmed(context.spec.resume)
    stage = Stage("training", before=config.sft_steps, tokens=warmed.tokens)
    model, adapter = bring_model(config, context)
    arguments = online_arguments(config, context.run_dir)
    arguments |= {"max_steps": config.steps_after_warm_up(len(prompts.train)), "beta": 0.0}
    rollouts = writing_rollouts(RLOOTrainer, context, config, before=stage.before)
    trainer = evaluating_answers(rollouts, prompts.held_out, prompts.rewards, config)(
        model=model,
        reward_funcs=prompts.rewards,
        # Without beta the trainer makes no reference, which is the warm-up's end and not what it is given here.
        args=RLOOConfig(**arguments),
        train_dataset=Dataset.from_list(prompts.train),
        processing_class=prompts.tokenizer,
        peft_config=adapter,
    )
    trainer.eval_dataset = prompts.held_out
    put_weights(trainer.model, warmed.weights)
    if config.beta:
        hold_to(trainer, config)
        trainer.beta = config.beta
    trainer.add_callback(KeepsWarmUp(warmed))
    return train(trainer, context, config, prompts.split, stage=stage)


METHOD = Method(
    slug="reft",
    title="Reinforced fine-tuning",
    paradigm=Paradigm.FINE_TUNING,
    branch="Reinforced fine-tuning",
    summary="Imitates worked solutions for a few steps, then writes its own and learns from those that end right.",
    when="Answers can be checked, and the model gets too few of them right to learn from rewards alone.",
    paper=Paper("ReFT: Reasoning with Reinforced Fine-Tuning", "2401.08967"),
    objective="In sft_steps steps minimises the negative log-likelihood of the worked solutions. Then maximises, by "
    "REINFORCE with a leave-one-out baseline, the expected reward of answers of its own, less beta times the KL "
    "divergence from where the warm-up ended.",
    formula="first: L = -Σ_t log π(y_t|x, y_<t)\n"
    "then: L = -A_i · log π(y_i|x)\nA_i = R_i - 1/(k-1) Σ_{j ≠ i} R_j\n"
    "R = Σ_m weight_m · r_m(x, y) - beta · log(π(y|x) / π_warm(y|x))\n"
    "k = num_generations, π_warm = the model at the end of the warm-up",
    watch=(
        "The reward on held-out prompts at the end of the warm-up: if it is still near 0, give the warm-up more "
        "steps; if it is near its best, there is little left to reinforce.",
        HACKED,
        NO_PROGRESS,
        CUT_ANSWERS,
    ),
    formats=FORMATS,
    config=ReftConfig,
    run=run,
    charts=(
        ChartSpec(
            "Reward",
            ("reward", "eval/reward"),
            "reward",
            "The mean weighted reward of the answers. On held-out prompts it should rise in the warm-up, and go on "
            "rising after it, when the model learns from answers of its own.",
        ),
        REWARD_PARTS,
        REWARD_SPREAD,
        NO_SIGNAL,
        ChartSpec(
            "Divergence",
            ("kl",),
            "nats per token",
            "How far the model is from where the warm-up ended. Steep growth means it games the reward: raise beta.",
            bound=1.0,
        ),
        COMPLETIONS,
        WRITING_SPEED,
        ENTROPY,
        ChartSpec(
            "Loss",
            ("loss",),
            "nats per token, then reward",
            "Nats per token in the warm-up, where it falls. After it the loss swings around 0 and says nothing about "
            "progress: read the reward.",
        ),
        ChartSpec(
            "Learning rate",
            ("learning_rate",),
            "step size",
            "Each of the two stages has its own schedule.",
        ),
        GRADIENT_NORM,
    ),
    main_fields=(
        "max_steps",
        "batch_size",
        "learning_rate",
        "sft_steps",
        "num_generations",
        "max_completion_length",
        "adapter.type",
    ),
)
