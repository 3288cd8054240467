"""Online DPO: direct preference optimisation on pairs of the model's own answers."""

from typing import Literal

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.method import Method, Paper, Paradigm
from polm_core.methods.alignment.online import (
    COMPLETIONS,
    DIVERGENCE,
    ENTROPY,
    HACKED,
    REWARD,
    REWARD_PARTS,
    WRITING_SPEED,
)
from polm_core.methods.alignment.pairs import (
    FORMATS,
    LOSS_OF_PAIRS,
    MAIN_FIELDS,
    MARGIN,
    TIES,
    TOO_FAR,
    TOO_MANY_TIES,
    PairsConfig,
)
from polm_core.methods.alignment.preference import GRADIENT_NORM


class OnlineDpoConfig(PairsConfig):
    """Settings of online DPO."""

    loss: Literal["sigmoid", "ipo", "hinge"] = setting("sigmoid", group=MAIN, source="trl")
    """What is minimised on each pair: `sigmoid` is DPO's, `ipo` IPO's, which never asks for more than a set margin, and
    `hinge` SLiC's, which stops at one."""


def run(config: OnlineDpoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from polm_core.methods.alignment.pairs_trainer import preference_loss, train_on_pairs

    return train_on_pairs(config, context, lambda pairs: preference_loss(pairs, config.beta, config.loss))


METHOD = Method(
    slug="online-dpo",
    title="Online DPO",
    paradigm=Paradigm.ALIGNMENT,
    branch="Reinforcement learning from human feedback",
    summary="Writes two answers to each prompt and learns to prefer the one that is rewarded more.",
    when="You have a reward model or checks, and DPO on ready pairs has stopped helping. Simpler than PPO, and it only "
    "asks which answer is better, not by how much.",
    paper=Paper("Direct Language Model Alignment from Online AI Feedback", "2402.04792"),
    objective="Minimises DPO's loss on pairs of the model's own answers to a prompt, the better of which by their "
    "rewards is the chosen one. Pairs are never older than the model, so it learns about what it says now.",
    formula="L = -log σ(beta · h)\nh = log(π(y_w|x) / π_ref(y_w|x)) - log(π(y_l|x) / π_ref(y_l|x))\n"
    "y_w, y_l drawn from π(·|x), with R(x, y_w) > R(x, y_l)\nR = Σ_m weight_m · r_m(x, y)",
    watch=(HACKED, TOO_MANY_TIES, TOO_FAR),
    formats=FORMATS,
    config=OnlineDpoConfig,
    run=run,
    charts=(
        REWARD,
        REWARD_PARTS,
        MARGIN,
        TIES,
        DIVERGENCE,
        COMPLETIONS,
        WRITING_SPEED,
        ENTROPY,
        LOSS_OF_PAIRS,
        GRADIENT_NORM,
    ),
    main_fields=MAIN_FIELDS,
)
