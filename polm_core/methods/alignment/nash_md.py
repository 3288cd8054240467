"""Nash-MD: towards answers that are preferred to those of a mixture of the model and where it started."""

from typing import TYPE_CHECKING

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.method import ChartSpec, Method, Paper, Paradigm
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
    MAIN_FIELDS,
    TIES,
    TOO_FAR,
    TOO_MANY_TIES,
    WINS,
    PairsConfig,
)
from polm_core.methods.alignment.preference import GRADIENT_NORM

if TYPE_CHECKING:
    import torch

    from polm_core.methods.alignment.pairs_trainer import Pairs


class NashMdConfig(PairsConfig):
    """Settings of Nash-MD."""

    mixture: float = setting(0.5, group=MAIN, source="trl", step=0.1, ge=0, le=1)
    """Share that where the model started has in what its answers are held against: 0 is the model itself, 1 the
    start."""


def run(config: NashMdConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from polm_core.methods.alignment.pairs_trainer import by_mixture, train_on_pairs

    return train_on_pairs(
        config,
        context,
        lambda pairs: policy_gradient(pairs, config.beta),
        other=by_mixture(config.mixture),
        learns_from_both=False,
    )


def policy_gradient(pairs: "Pairs", beta: float) -> "torch.Tensor":
    """The model's answer is worth how much likelier than not it is preferred, less its distance from the start."""
    logps = pairs.logps[:, 0]
    worth = pairs.gap.sigmoid() - 0.5 - beta * (logps - pairs.reference[:, 0])
    return -worth.detach() * logps


METHOD = Method(
    slug="nash-md",
    title="Nash-MD",
    paradigm=Paradigm.ALIGNMENT,
    branch="Reinforcement learning from human feedback",
    summary="Learns to write answers that are preferred to those of a mixture of itself and where it started.",
    when="What counts is which answer is preferred, and being best on average is not enough: it seeks answers that no "
    "other model's are preferred to.",
    paper=Paper("Nash Learning from Human Feedback", "2312.00886"),
    objective="Maximises how likely the model's answer is preferred to one of a mixture of the model and its "
    "reference, less beta times the KL divergence from the reference. Its goal is an equilibrium: answers that no "
    "other model's are preferred to.",
    formula="L = -A · log π(y_1|x)\n"
    "A = σ(R(x, y_1) - R(x, y_2)) - 1/2 - beta · log(π(y_1|x) / π_ref(y_1|x))\n"
    "y_1 drawn from π(·|x), y_2 from π(·|x)^(1 - mixture) · π_ref(·|x)^mixture\nR = Σ_m weight_m · r_m(x, y)",
    watch=(
        HACKED,
        "Rewards that are small: the probability of being preferred is the logistic of their difference, so weights "
        "of 0.1 say next to nothing. Raise the weights until preferences are clear.",
        TOO_MANY_TIES,
        TOO_FAR,
    ),
    formats=FORMATS,
    config=NashMdConfig,
    run=run,
    charts=(
        REWARD,
        WINS,
        REWARD_PARTS,
        TIES,
        DIVERGENCE,
        COMPLETIONS,
        WRITING_SPEED,
        ENTROPY,
        ChartSpec(
            "Loss", ("loss",), "loss per answer", "Swings around 0 and says nothing about progress: read the reward."
        ),
        GRADIENT_NORM,
    ),
    main_fields=MAIN_FIELDS,
)
