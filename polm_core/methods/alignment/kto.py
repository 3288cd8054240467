"""Kahneman-Tversky optimisation on rated answers, with trl's KTOTrainer."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.preference import GRADIENT_NORM, LOG_PROBABILITIES, PreferenceConfig
from polm_core.training.encoding import as_ratings
from polm_core.training.preferences import needed_ratings, no_room, reference, shuffled, usable
from polm_core.training.rows import Row

logger = logging.getLogger(__name__)

LOSS = "loss"
FORMATS = (Format.RATING,)


class KtoConfig(PreferenceConfig):
    """Settings of Kahneman-Tversky optimisation."""

    compares_with_reference: ClassVar[bool] = True

    batch_size: int = setting(8, group=MAIN, unit="rows per device", source="trl", ge=2, le=4096)
    """Rows in one forward pass on one device, at least 2: answers are also held against the batch's other prompts."""

    learning_rate: float = setting(1e-6, group=MAIN, source="trl", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    loss: Literal["kto", "apo_zero_unpaired"] = setting("kto", group=LOSS, source="KTO, arXiv 2402.01306")
    """`kto` weighs gains and losses against the batch's divergence; `apo_zero_unpaired` raises good answers and lowers
    bad ones, each for itself (arXiv 2408.06266)."""

    beta: float = setting(0.1, group=MAIN, source="KTO, arXiv 2402.01306", step=0.01, gt=0, le=100)
    """How strongly the model is held to where it started: higher stays closer."""

    good_weight: float = setting(1.0, group=MAIN, source="KTO, arXiv 2402.01306", step=0.1, gt=0, le=100)
    """Weight of answers rated good: raise it when they are few, so that both kinds weigh about the same."""

    bad_weight: float = setting(1.0, group=LOSS, source="KTO, arXiv 2402.01306", step=0.1, gt=0, le=100)
    """Weight of answers rated bad."""


def run(config: KtoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl import KTOConfig, KTOTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import train
    from polm_core.training.setup import bring_model, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    rows = shuffled(needed_ratings(split.train), config.seed)
    train_set = rating_set(rows, config)
    eval_set = rating_set(shuffled(usable(split.held_out), config.seed), config)
    model, adapter = bring_model(config, context)
    arguments = KTOConfig(
        **training_arguments(config, context.run_dir),
        max_length=config.max_length,
        loss_type=config.loss,
        beta=config.beta,
        desirable_weight=config.good_weight,
        undesirable_weight=config.bad_weight,
    )
    trainer = KTOTrainer(
        model=model,
        ref_model=reference(model, adapter, config),
        args=arguments,
        train_dataset=train_set,
        eval_dataset=eval_set or None,
        processing_class=tokenizer,
        peft_config=adapter,
    )
    left = len(trainer.train_dataset)
    if not left:
        raise no_room(config.max_length)
    if left < len(rows):
        logger.warning("%d of %d rows have too long a prompt and are left out.", len(rows) - left, len(rows))
    return train(trainer, context, config, split)


def rating_set(rows: Sequence[Row], config: KtoConfig) -> Any:
    """A dataset of `prompt`, `completion` and `label`."""
    from datasets import Dataset

    return Dataset.from_list(as_ratings(rows, wrap=config.chat_template))


CHARTS = (
    ChartSpec(
        "Reward margin",
        ("rewards/margins", "eval/rewards/margins"),
        "reward",
        "How much more good answers gained in likelihood than bad ones. It should rise on held-out answers too.",
    ),
    ChartSpec(
        "Rewards",
        ("rewards/chosen", "rewards/rejected", "eval/rewards/chosen", "eval/rewards/rejected"),
        "reward",
        "Good answers should rise and bad ones fall. When both fall, raise the weight of the good ones or beta.",
    ),
    ChartSpec("Loss", ("loss", "eval/loss"), "loss per answer", "Starts at 0.5, which is chance, and falls."),
    ChartSpec(
        "Divergence",
        ("kl", "eval/kl"),
        "nats per answer",
        "How far the model is from where it started. Steep growth means it forgets: raise beta.",
        bound=10.0,
    ),
    LOG_PROBABILITIES,
    GRADIENT_NORM,
)

METHOD = Method(
    slug="kto",
    title="KTO",
    paradigm=Paradigm.ALIGNMENT,
    branch="Direct preference optimisation",
    summary="Learns from single answers with a thumbs up or down.",
    when="You have ratings of single answers, not pairs; they may be uneven in number.",
    paper=Paper("KTO: Model Alignment as Prospect Theoretic Optimization", "2402.01306"),
    objective="Maximises the value of each answer as prospect theory has it: gains and losses against a reference "
    "point z both level off, and may weigh differently. z is how far the model is from the reference on the batch's "
    "prompts.",
    formula="L = good_weight · (1 - σ(beta · (h - z))) for good answers\nL = bad_weight · (1 - σ(beta · (z - h))) for "
    "bad ones\n"
    "h = log(π(y|x) / π_ref(y|x))\n"
    "z = KL(π ‖ π_ref)",
    watch=(
        "Uneven ratings: bring good_weight times the good rows within 1 to 4/3 of bad_weight times the bad ones.",
        "Rewards of both kinds that fall: raise good_weight or beta, or lower the learning rate.",
        "Small batches: z is their mean, and noisy below 8 rows.",
    ),
    formats=FORMATS,
    config=KtoConfig,
    run=run,
    charts=CHARTS,
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "beta", "good_weight", "adapter.type"),
)
