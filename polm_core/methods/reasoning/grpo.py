"""Group-relative policy optimisation and its relatives, with trl's GRPOTrainer."""

from typing import ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.online import (
    COMPLETIONS,
    CUT_ANSWERS,
    CUT_OFF,
    DIVERGENCE,
    ENTROPY,
    HACKED,
    NO_PROGRESS,
    NO_SIGNAL,
    NOT_JUDGED,
    REWARD,
    REWARD_PARTS,
    REWARD_SPREAD,
    WRITING_SPEED,
)
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.rewards.config import ROLLOUTS, RepeatingConfig, VllmConfig

LOSS = "loss"
FORMATS = (Format.PROMPT_ANSWER, Format.PROMPT)

LossName = Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo"]


class GrpoConfig(RepeatingConfig, VllmConfig):
    """Settings of group-relative policy optimisation."""

    compares_with_reference: ClassVar[bool] = True

    learning_rate: float = setting(1e-6, group=MAIN, source="GRPO, arXiv 2402.03300", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    num_iterations: int = setting(1, group=ROLLOUTS, unit="passes", source="GRPO, arXiv 2402.03300", ge=1, le=100)
    """Times that the same answers are gone through before new ones are written. More learn more from each answer, and
    sooner run into the clip range."""

    beta: float = setting(0.04, group=MAIN, source="GRPO, arXiv 2402.03300", step=0.01, ge=0, le=100)
    """How strongly the model is held to where it started; 0 lets it go anywhere and needs no copy of that."""

    loss: LossName = setting("grpo", group=LOSS, source="GRPO, arXiv 2402.03300")
    """How tokens are weighed. `grpo` weighs answers alike, however long; `dapo` all tokens of a step alike, `bnpo` all
    of a forward pass; `dr_grpo` divides by the longest answer allowed. `cispo` cuts the weight of a token and not the
    token, and weighs as `dapo`; `sapo` fades tokens out in place of clipping them, and weighs as `grpo`."""

    scale_rewards: Literal["group", "batch", "none", "beta"] = setting(
        "group", group=LOSS, source="GRPO, arXiv 2402.03300"
    )
    """What advantages are divided by: `group`, the deviation of the rewards of a prompt's answers; `batch`, that of
    all answers of a step; `none`, nothing; `beta`, a Beta distribution fitted to how much the prompts earn, for rewards
    between 0 and 1, each by itself."""

    importance: Literal["token", "sequence"] = setting("token", group=LOSS, source="GRPO, arXiv 2402.03300")
    """What is compared with the model that wrote the answers, and clipped: each `token`, or the `sequence` as a whole
    by the mean over its tokens. For `sequence` take the loss grpo or sapo: others would count an answer by its
    length."""

    clip_low: float = setting(0.2, group=LOSS, source="trl", step=0.01, gt=0, le=1)
    """How much rarer a token may become, as a share, before its answer teaches no more. Without a meaning for cispo and
    sapo."""

    clip_high: float = setting(0.2, group=LOSS, source="trl", step=0.01, gt=0, le=1000)
    """How much likelier a token may become, as a share, before its answer teaches no more. For cispo, the largest
    weight of a token; without a meaning for sapo."""

    sapo_temperature_pos: float = setting(1.0, group=LOSS, source="SAPO, arXiv 2511.20347", step=0.05, gt=0, le=100)
    """How fast the `sapo` loss fades out tokens of answers that are better than the others as they change."""

    sapo_temperature_neg: float = setting(1.05, group=LOSS, source="SAPO, arXiv 2511.20347", step=0.05, gt=0, le=100)
    """The same for answers that are worse than the others, which are steadier when they fade sooner."""

    @field_validator("scale_rewards")
    @classmethod
    def _check_range(cls, scale: str, info: ValidationInfo) -> str:
        rewards = info.data.get("rewards")
        if scale == "beta" and rewards is not None and rewards.reward_model:
            raise ValueError("must not be beta with reward_model, whose scores are not between 0 and 1")
        return scale

    @field_validator("clip_high")
    @classmethod
    def _check_weight(cls, clip: float, info: ValidationInfo) -> float:
        if info.data.get("loss") == "cispo" and clip < 1:
            raise ValueError(f"must be at least 1 for cispo, whose largest weight of a token it is, not {clip:g}")
        return clip

    @property
    def passes(self) -> int:
        return self.num_iterations

    @property
    def has_reference(self) -> bool:
        return self.beta > 0


def run(config: GrpoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from polm_core.methods.reasoning.grpo_trainer import GrpoTrainer, grpo_arguments
    from polm_core.training.loop import train
    from polm_core.training.online import online_trainer
    from polm_core.training.setup import read_prompts

    prompts = read_prompts(config, context, FORMATS)
    arguments = grpo_arguments(config, context.run_dir)
    trainer = online_trainer(GrpoTrainer, config, context, prompts, arguments, beta=config.beta)
    trainer.fits_beta = config.scale_rewards == "beta"
    return train(trainer, context, config, prompts.split)


CLIPPED = ChartSpec(
    "Clipped",
    ("clip_ratio/low_mean", "clip_ratio/high_mean"),
    "share of tokens",
    "Tokens that became too much rarer (low) or likelier (high) to teach any more. 0 while each answer is learned from "
    "once; above 0.3, lower the learning rate or num_iterations.",
)
CLIPPED_ANSWERS = ChartSpec(
    "Clipped",
    ("clip_ratio/low_mean", "clip_ratio/high_mean"),
    "share of answers",
    "Answers that became too much rarer (low) or likelier (high) to teach any more. The range is narrow, so a tenth or "
    "two are usual; above 0.5, lower the learning rate.",
)
WEIGHT_CUT = ChartSpec(
    "Weight cut",
    ("cispo_clip_ratio",),
    "share of tokens",
    "Tokens of good answers whose weight was cut at clip_high; they still teach. It should stay near 0.",
)

LOSS_OF_REWARDS = ChartSpec(
    "Loss", ("loss",), "loss per token", "Swings around 0 and says nothing about progress: read the reward."
)
CLIPPED_TOO_OFTEN = "Tokens that are clipped: above 0.3, lower the learning rate or num_iterations."


def charts(*own: ChartSpec) -> tuple[ChartSpec, ...]:
    """The charts of every relative of GRPO: they differ in what they clip and whether they are held to a reference."""
    return (
        REWARD,
        REWARD_PARTS,
        REWARD_SPREAD,
        NO_SIGNAL,
        NOT_JUDGED,
        *own,
        COMPLETIONS,
        WRITING_SPEED,
        CUT_OFF,
        ENTROPY,
        LOSS_OF_REWARDS,
        GRADIENT_NORM,
    )


METHOD = Method(
    slug="grpo",
    title="GRPO",
    paradigm=Paradigm.REASONING,
    branch="Reinforcement learning for reasoning",
    summary="Writes several answers to each prompt and learns from those that checks find better than the others.",
    when="Answers can be checked, or you have a reward model, and the model should find its own way to them, as "
    "DeepSeek-R1 did. The usual first choice for reasoning.",
    paper=Paper("DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", "2402.03300"),
    objective="Maximises the expected reward, by PPO's clipped objective without a value model: an answer is worth how "
    "many deviations its reward is above the mean of the answers to its prompt. beta times the KL divergence from the "
    "reference is part of the loss, estimated without bias (arXiv 2512.02556).",
    formula="L = 1/|y_i| Σ_t -min(r_t · A_i, clip(r_t, 1 - clip_low, 1 + clip_high) · A_i) + beta · r_t · k_t\n"
    "r_t = π(y_t|x) / π_old(y_t|x)\n"
    "A_i = (R_i - mean R) / std R, over the num_generations answers y_i to a prompt\n"
    "k_t = q_t - log q_t - 1, q_t = π_ref(y_t|x) / π(y_t|x)\n"
    "R = Σ_m weight_m · r_m(x, y), π_old = the model that wrote the answers",
    watch=(
        HACKED,
        NO_PROGRESS,
        "Answers that grow long without a better reward: wrong answers lose less for each token when they are longer. "
        "The losses dr_grpo and dapo do not reward that.",
        CLIPPED_TOO_OFTEN,
        CUT_ANSWERS,
    ),
    formats=FORMATS,
    config=GrpoConfig,
    run=run,
    charts=charts(CLIPPED, DIVERGENCE),
    main_fields=(
        "max_steps",
        "batch_size",
        "learning_rate",
        "num_generations",
        "max_completion_length",
        "beta",
        "adapter.type",
    ),
    devices="Runs on a CPU. With an NVIDIA GPU and vLLM, that writes the answers; only a GPU can show how fast.",
)
