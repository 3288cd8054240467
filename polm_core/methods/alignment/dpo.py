"""Direct preference optimisation and its relatives, with trl's DPOTrainer."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.preference import (
    ACCURACY_FIRST,
    BOTH_FALL,
    GRADIENT_NORM,
    LOG_PROBABILITIES,
    LONGER,
    PreferenceConfig,
)
from polm_core.training.encoding import as_pairs
from polm_core.training.preferences import needed, no_room, reference, usable
from polm_core.training.rows import Row

logger = logging.getLogger(__name__)

LOSS = "loss"
FORMATS = (Format.PREFERENCE,)

LossName = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]

# Losses of the difference between chosen and rejected, the only ones that other divergences are defined for.
_DIFFERENCE_LOSSES = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
_SORTING_LOSSES = {"aot", "aot_unpaired"}


class DpoConfig(PreferenceConfig):
    """Settings of direct preference optimisation."""

    compares_with_reference: ClassVar[bool] = True

    learning_rate: float = setting(1e-6, group=MAIN, source="DPO, arXiv 2305.18290, appendix B", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    loss: list[LossName] = setting(["sigmoid"], group=MAIN, source="DPO, arXiv 2305.18290", min_length=1, max_length=6)
    """What is minimised: `sigmoid` is DPO, `ipo` bounds the margin, `hinge` is SLiC, `robust` expects wrong labels,
    `apo_zero` and `apo_down` steer chosen and rejected apart, and so on. Several are summed, as in MPO."""

    loss_weights: list[float] = setting([], group=LOSS, max_length=6)
    """Weight of each loss when there are several; empty weighs all alike."""

    beta: float = setting(0.1, group=MAIN, source="DPO, arXiv 2305.18290, appendix B", step=0.01, gt=0, le=100)
    """How strongly the model is held to where it started: higher stays closer."""

    label_smoothing: float = setting(0.0, group=LOSS, step=0.01, ge=0, lt=0.5)
    """Share of pairs assumed to be labelled the wrong way round; `robust` takes 0.1, `exo_pair` needs 0.001."""

    length_weight: float = setting(1.0, group=LOSS, source="LD-DPO, arXiv 2409.06411", step=0.1, ge=0, le=1)
    """LD-DPO's alpha: weight of the tokens by which the longer answer is longer; 1 is plain DPO, lower counts length
    less."""

    weighting: bool = setting(False, group=LOSS, source="WPO, arXiv 2406.11827")
    """Weigh pairs by how likely the model itself would write them."""

    divergence: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = setting(
        "reverse_kl", group=LOSS, source="f-DPO, arXiv 2309.16240"
    )
    """How the distance to the reference is measured."""

    discopop_tau: float = setting(0.05, group=LOSS, source="DiscoPOP, arXiv 2406.08414", step=0.01, gt=0, le=100)
    """Temperature of the `discopop` loss; not used by others."""

    @field_validator("loss", mode="before")
    @classmethod
    def _one_loss(cls, value: Any) -> Any:
        """Accept a single name, or several with commas between them."""
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("loss_weights")
    @classmethod
    def _check_weights(cls, weights: list[float], info: ValidationInfo) -> list[float]:
        losses = info.data.get("loss", weights)
        if weights and len(weights) != len(losses):
            raise ValueError(f"must hold one weight for each of the {len(losses)} losses, not {len(weights)}")
        return weights

    @field_validator("label_smoothing")
    @classmethod
    def _check_smoothing(cls, smoothing: float, info: ValidationInfo) -> float:
        if "exo_pair" in info.data.get("loss", ()) and smoothing == 0:
            raise ValueError("must be above 0 for exo_pair; its paper recommends 0.001")
        return smoothing

    @field_validator("weighting")
    @classmethod
    def _check_weighting(cls, weighting: bool, info: ValidationInfo) -> bool:
        clashing = _SORTING_LOSSES.intersection(info.data.get("loss", ()))
        if weighting and clashing:
            raise ValueError(f"must be off for {', '.join(sorted(clashing))}, which sorts the pairs")
        return weighting

    @field_validator("divergence")
    @classmethod
    def _check_divergence(cls, divergence: str, info: ValidationInfo) -> str:
        others = set(info.data.get("loss", ())) - _DIFFERENCE_LOSSES
        if divergence != "reverse_kl" and others:
            raise ValueError(f"must be reverse_kl for {', '.join(sorted(others))}")
        return divergence


def run(config: DpoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import DPOConfig, DPOTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import train
    from polm_core.training.setup import bring_model, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    rows = needed(split.train)
    train_set, eval_set = preference_set(rows, config), preference_set(usable(split.held_out), config)
    model, adapter = bring_model(config, context)
    arguments = DPOConfig(
        **training_arguments(config, context.run_dir),
        max_length=config.max_length,
        loss_type=list(config.loss),
        loss_weights=config.loss_weights or None,
        beta=config.beta,
        label_smoothing=config.label_smoothing,
        ld_alpha=None if config.length_weight == 1 else config.length_weight,
        use_weighting=config.weighting,
        f_divergence_type=config.divergence,
        discopop_tau=config.discopop_tau,
    )
    trainer = DPOTrainer(
        model=model,
        ref_model=reference(model, adapter, config),
        args=arguments,
        train_dataset=train_set,
        eval_dataset=eval_set or None,
        processing_class=tokenizer,
        peft_config=adapter,
    )
    _check_left(trainer.train_dataset, len(rows), config)
    return train(trainer, context, config, split)


def preference_set(rows: Sequence[Row], config: DpoConfig) -> Any:
    """A dataset of `prompt`, `chosen` and `rejected`."""
    from datasets import Dataset

    return Dataset.from_list(as_pairs(rows, wrap=config.chat_template))


def _check_left(train_set: Any, rows: int, config: DpoConfig) -> None:
    """The trainer drops pairs whose prompt alone fills `max_length`: tell how many, and fail when that is all."""
    if not train_set:
        raise no_room(config.max_length)
    if len(train_set) < rows:
        logger.warning("%d of %d pairs have too long a prompt and are left out.", rows - len(train_set), rows)


REWARD_MARGIN = ChartSpec(
    "Reward margin",
    ("rewards/margins", "eval/rewards/margins"),
    "reward",
    "How much more the model prefers the chosen answer than it did at the start. It should rise on both.",
)
REWARD_ACCURACY = ChartSpec(
    "Reward accuracy",
    ("rewards/accuracies", "eval/rewards/accuracies"),
    "share of pairs",
    "Share of pairs whose chosen answer is preferred. 0.5 is chance; on held-out pairs it is what was learned.",
)
REWARDS = ChartSpec(
    "Rewards",
    ("rewards/chosen", "rewards/rejected", "eval/rewards/chosen", "eval/rewards/rejected"),
    "reward",
    "Rejected should fall. When chosen falls with it, the model moves away from both: raise beta.",
)


def charts(how_to_read_the_loss: str) -> tuple[ChartSpec, ...]:
    """The charts of every relative of DPO: they differ in what their losses mean."""
    loss = ChartSpec("Loss", ("loss", "eval/loss"), "loss per pair", how_to_read_the_loss)
    return REWARD_MARGIN, REWARD_ACCURACY, REWARDS, loss, LOG_PROBABILITIES, GRADIENT_NORM


METHOD = Method(
    slug="dpo",
    title="Direct preference optimisation",
    paradigm=Paradigm.ALIGNMENT,
    branch="Direct preference optimisation",
    summary="Makes preferred answers likelier than rejected ones, without a reward model.",
    when="You have pairs of a better and a worse answer. The usual first choice for preferences.",
    paper=Paper("Direct Preference Optimization: Your Language Model is Secretly a Reward Model", "2305.18290"),
    objective="Minimises the logistic loss of preferring the chosen answer, where an answer's reward is how much "
    "likelier it became than under the reference: the optimum of RLHF under a KL penalty, without its two stages.",
    formula="L = -log σ(beta · h)\nh = log(π(y_w|x) / π_ref(y_w|x)) - log(π(y_l|x) / π_ref(y_l|x))",
    watch=(BOTH_FALL, ACCURACY_FIRST, LONGER),
    formats=FORMATS,
    config=DpoConfig,
    run=run,
    charts=charts("Starts at 0.69, which is chance, and falls. Held-out loss that rises again means memorised pairs."),
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "beta", "loss", "adapter.type"),
)
