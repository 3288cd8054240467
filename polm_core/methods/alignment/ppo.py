"""Proximal policy optimisation, as in InstructGPT: a policy, its reference, a value model and a reward."""

from typing import ClassVar

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import MAIN, OPTIMISER, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.online import (
    COMPLETIONS,
    CUT_ANSWERS,
    ENTROPY,
    HACKED,
    NOT_JUDGED,
    REWARD,
    REWARD_PARTS,
    REWARD_SPREAD,
    WRITING_SPEED,
)
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.rewards.config import ROLLOUTS, RepeatingConfig

FORMATS = (Format.PROMPT_ANSWER, Format.PROMPT)


class PpoConfig(RepeatingConfig):
    """Settings of proximal policy optimisation."""

    compares_with_reference: ClassVar[bool] = True
    has_value_model: ClassVar[bool] = True

    learning_rate: float = setting(3e-6, group=MAIN, source="trl", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    value_learning_rate: float = setting(9e-6, group=OPTIMISER, source="OpenRLHF", gt=0, le=1)
    """Peak step size for the value model, which has more to learn: its head begins at random."""

    num_generations: int = setting(1, group=MAIN, unit="answers", source="InstructGPT, arXiv 2203.02155", ge=1, le=1024)
    """Answers to each prompt. One is enough: the value model says what was to be expected. It divides the answers of a
    step: batch_size x gradient_accumulation_steps x processes."""

    ppo_epochs: int = setting(4, group=ROLLOUTS, unit="passes", source="trl", ge=1, le=100)
    """Times that the same answers are gone through before new ones are written. More learn more from each answer, and
    sooner run into the clip range."""

    beta: float = setting(0.05, group=MAIN, source="trl", step=0.01, ge=0, le=100)
    """What each nat of distance from where the model started costs in reward; 0 lets it go anywhere."""

    clip_range: float = setting(0.2, group=ROLLOUTS, source="PPO, arXiv 1707.06347", step=0.01, gt=0, lt=1)
    """How far the probability of a token may move, as a share, before its answer teaches no more."""

    value_clip_range: float = setting(0.2, group=ROLLOUTS, source="trl", step=0.01, gt=0, le=1000)
    """How far a foretold value may move while the same answers are learned from."""

    discount: float = setting(1.0, group=ROLLOUTS, source="InstructGPT, arXiv 2203.02155", step=0.01, gt=0, le=1)
    """What a reward is worth one token earlier (gamma): 1 makes no difference between early and late tokens."""

    smoothing: float = setting(0.95, group=ROLLOUTS, source="GAE, arXiv 1506.02438", step=0.01, ge=0, le=1)
    """How far advantages look ahead (lambda): 1 takes the rewards that came, 0 what the value model foretells."""

    whiten_advantages: bool = setting(True, group=ROLLOUTS, source="trl")
    """Bring the advantages of the answers that are written at once to a mean of 0 and a deviation of 1."""

    @field_validator("mini_batches")
    @classmethod
    def _check_answers(cls, parts: int, info: ValidationInfo) -> int:
        sizes = ("batch_size", "gradient_accumulation_steps", "processes")
        if parts == 1 and all(info.data.get(name) == 1 for name in sizes):
            raise ValueError("must be at least 2 while a step takes one answer: or raise batch_size")
        return parts

    @property
    def passes(self) -> int:
        return self.ppo_epochs


def run(config: PpoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from polm_core.methods.alignment.ppo_trainer import (
        PpoTrainer,
        ValueModelCallback,
        bring_value_model,
        ppo_arguments,
    )
    from polm_core.training.loop import train
    from polm_core.training.online import online_trainer
    from polm_core.training.setup import read_prompts

    prompts = read_prompts(config, context, FORMATS)
    value_model = bring_value_model(config, context)
    arguments = ppo_arguments(config, context.run_dir)
    trainer = online_trainer(PpoTrainer, config, context, prompts, arguments, beta=config.beta)
    trainer.settings = config
    trainer.value_model = trainer.accelerator.prepare_model(value_model)
    trainer.add_callback(ValueModelCallback(trainer, context.spec.resume))
    return train(trainer, context, config, prompts.split)


METHOD = Method(
    slug="ppo",
    title="PPO",
    paradigm=Paradigm.ALIGNMENT,
    branch="Reinforcement learning from human feedback",
    summary="Writes answers, has them rewarded, and learns token by token from what a value model did not foretell.",
    when="You have a reward model, or answers can be checked, and want RLHF as InstructGPT did it. RLOO and GRPO need "
    "less memory: they have no value model.",
    paper=Paper("Training Language Models to Follow Instructions with Human Feedback", "2203.02155"),
    objective="Maximises the expected reward less beta times the KL divergence from the reference. Each token is "
    "worth how much more came after it than a value model foretold, and moves the policy only within the clip range; "
    "the value model learns to foretell what came.",
    formula="L = -min(ratio_t · A_t, clip(ratio_t, 1 - clip_range, 1 + clip_range) · A_t) + 1/2 (V_t - G_t)²\n"
    "ratio_t = π(y_t|x) / π_old(y_t|x)\n"
    "A_t = Σ_{k ≥ 0} (discount · smoothing)^k · (r_{t+k} + discount · V_{t+k+1} - V_{t+k})\n"
    "r_t = -beta · log(π_old(y_t|x) / π_ref(y_t|x)), and Σ_m weight_m · r_m(x, y) more at the last token\n"
    "V = what the value model foretells, G_t = A_t + V_t, π_old = the model that wrote the answers",
    watch=(
        HACKED,
        "Value loss that does not fall: advantages stay noise. Raise value_learning_rate, or write more answers at "
        "once.",
        "Tokens that are clipped: above 0.3, lower the learning rate or ppo_epochs.",
        "Divergence: rewards won far from the reference rarely mean better answers. Raise beta.",
        CUT_ANSWERS,
    ),
    formats=FORMATS,
    config=PpoConfig,
    run=run,
    charts=(
        REWARD,
        REWARD_PARTS,
        REWARD_SPREAD,
        NOT_JUDGED,
        ChartSpec(
            "Divergence",
            ("objective/kl", "eval/objective/kl"),
            "nats per answer",
            "How far answers are from what the model would have said at the start. Steep growth means it games the "
            "reward: raise beta.",
            bound=10.0,
        ),
        ChartSpec(
            "Value loss",
            ("loss/value", "eval/loss/value"),
            "reward squared",
            "How wrong the value model is about what answers earn. It should fall early on; while it is high, "
            "advantages are mostly noise.",
        ),
        ChartSpec(
            "Clipped",
            ("policy/clipfrac", "value/clipfrac"),
            "share of tokens",
            "Tokens that moved out of the clip range and teach no more. Above 0.3, lower the learning rate or "
            "ppo_epochs.",
        ),
        ChartSpec(
            "Change of the policy",
            ("policy/approxkl",),
            "nats per token",
            "How far the policy moved from the one that wrote the answers. Spikes over 0.1 are too big steps.",
        ),
        COMPLETIONS,
        WRITING_SPEED,
        ENTROPY,
        ChartSpec("Loss", ("loss/policy", "loss"), "loss per token", "Says nothing about progress: read the reward."),
        GRADIENT_NORM,
    ),
    main_fields=(
        "max_steps",
        "batch_size",
        "learning_rate",
        "max_completion_length",
        "ppo_epochs",
        "beta",
        "adapter.type",
    ),
)
