"""XPO: online DPO against answers of where the model started, with a bonus for leaving them."""

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
    WINS,
    PairsConfig,
)
from polm_core.methods.alignment.preference import GRADIENT_NORM


class XpoConfig(PairsConfig):
    """Settings of exploratory preference optimisation."""

    alpha: float = setting(1e-5, group=MAIN, source="trl", ge=0, le=10)
    """What the model gains by finding the first model's answers unlikely, which has it explore; 0 is online DPO against
    those answers."""


def run(config: XpoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from polm_core.methods.alignment.pairs_trainer import by_reference, preference_loss, train_on_pairs

    return train_on_pairs(
        config,
        context,
        lambda pairs: preference_loss(pairs, config.beta) + config.alpha * pairs.logps[:, 1],
        other=by_reference,
    )


METHOD = Method(
    slug="xpo",
    title="XPO",
    paradigm=Paradigm.ALIGNMENT,
    branch="Reinforcement learning from human feedback",
    summary="Holds its answers against those of where it started, and is drawn to answers that model would not give.",
    when="Good answers are rare in what the model says now: online DPO learns from what it happens to try, XPO tries "
    "more.",
    paper=Paper(
        "Exploratory Preference Optimization: Harnessing Implicit Q*-Approximation for Sample-Efficient RLHF",
        "2405.21046",
    ),
    objective="Minimises DPO's loss on pairs of one answer of the model and one of the reference, and with weight "
    "alpha how likely the model finds the reference's answer: that draws it to answers nobody has tried yet.",
    formula="L = -log σ(beta · h) + alpha · log π(y_2|x)\n"
    "h = log(π(y_w|x) / π_ref(y_w|x)) - log(π(y_l|x) / π_ref(y_l|x))\n"
    "y_1 drawn from π(·|x), y_2 from π_ref(·|x); y_w is the one that earns more, y_l the other",
    watch=(
        HACKED,
        TOO_MANY_TIES,
        TOO_FAR,
        "A loss without a floor: with too high an alpha the model only runs from the reference's answers. Lower it "
        "when the reward falls while the divergence grows.",
    ),
    formats=FORMATS,
    config=XpoConfig,
    run=run,
    charts=(
        REWARD,
        WINS,
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
