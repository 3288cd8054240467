"""REINFORCE leave-one-out, with trl's RLOOTrainer."""

from typing import ClassVar

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.online import (
    COMPLETIONS,
    CUT_ANSWERS,
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
from polm_core.rewards.config import ROLLOUTS, OnlineConfig, VllmConfig

FORMATS = (Format.PROMPT_ANSWER, Format.PROMPT)


class RlooConfig(OnlineConfig, VllmConfig):
    """Settings of REINFORCE leave-one-out."""

    compares_with_reference: ClassVar[bool] = True

    learning_rate: float = setting(1e-6, group=MAIN, source="RLOO, arXiv 2402.14740", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    beta: float = setting(0.05, group=MAIN, source="trl", step=0.01, ge=0, le=100)
    """What each nat of distance from where the model started costs in reward; 0 lets it go anywhere."""

    normalize_advantages: bool = setting(False, group=ROLLOUTS, source="RLOO, arXiv 2402.14740")
    """Bring the advantages of a step to a mean of 0 and a deviation of 1, whatever the size of the rewards."""


def run(config: RlooConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import RLOOConfig, RLOOTrainer

    from polm_core.training.loop import train
    from polm_core.training.online import online_trainer
    from polm_core.training.rollouts import online_arguments
    from polm_core.training.setup import read_prompts

    prompts = read_prompts(config, context, FORMATS)
    arguments = RLOOConfig(
        **online_arguments(config, context.run_dir), beta=0.0, normalize_advantages=config.normalize_advantages
    )
    trainer = online_trainer(RLOOTrainer, config, context, prompts, arguments, beta=config.beta)
    return train(trainer, context, config, prompts.split)


METHOD = Method(
    slug="rloo",
    title="RLOO",
    paradigm=Paradigm.ALIGNMENT,
    branch="Reinforcement learning from human feedback",
    summary="Writes several answers to each prompt and learns from how much better each is than the others.",
    when="Answers can be checked, or you have a reward model. Lighter than PPO: there is no value model.",
    paper=Paper(
        "Back to Basics: Revisiting REINFORCE-Style Optimization for Learning from Human Feedback in LLMs", "2402.14740"
    ),
    objective="Maximises the expected reward less beta times the KL divergence from the reference, by REINFORCE: of "
    "each answer's reward the mean of the other answers to its prompt is taken off, an unbiased baseline.",
    formula="L = -A_i · log π(y_i|x)\nA_i = R_i - 1/(k-1) Σ_{j ≠ i} R_j\n"
    "R = Σ_m weight_m · r_m(x, y) - beta · log(π(y|x) / π_ref(y|x))\n"
    "k = num_generations",
    watch=(
        HACKED,
        NO_PROGRESS,
        "Divergence: rewards won far from the reference rarely mean better answers. Raise beta.",
        CUT_ANSWERS,
    ),
    formats=FORMATS,
    config=RlooConfig,
    run=run,
    charts=(
        REWARD,
        REWARD_PARTS,
        REWARD_SPREAD,
        NO_SIGNAL,
        NOT_JUDGED,
        DIVERGENCE,
        COMPLETIONS,
        WRITING_SPEED,
        ENTROPY,
        ChartSpec("Loss", ("loss",), "reward", "Swings around 0 and says nothing about progress: read the reward."),
        GRADIENT_NORM,
    ),
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
