"""Contrastive preference optimisation and SimPO, with trl's experimental CPOTrainer."""

from typing import Literal

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm, preset
from polm_core.methods.alignment.preference import (
    ACCURACY_FIRST,
    BOTH_FALL,
    GRADIENT_NORM,
    LOG_PROBABILITIES,
    LONGER,
    PreferenceConfig,
)
from polm_core.training.encoding import as_pairs
from polm_core.training.preferences import hand_over, needed, pair_columns, usable

LOSS = "loss"
FORMATS = (Format.PREFERENCE,)


class CpoConfig(PreferenceConfig):
    """Settings of contrastive preference optimisation."""

    learning_rate: float = setting(1e-6, group=MAIN, source="trl", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    loss: Literal["sigmoid", "hinge", "ipo", "simpo"] = setting("sigmoid", group=LOSS, source="CPO, arXiv 2401.08417")
    """`sigmoid` is CPO; `hinge` and `ipo` bound the margin; `simpo` counts per token and asks for a margin."""

    beta: float = setting(0.1, group=MAIN, source="CPO, arXiv 2401.08417", step=0.01, gt=0, le=100)
    """How sharply the two answers are told apart: higher contrasts more."""

    nll_weight: float = setting(1.0, group=MAIN, source="CPO, arXiv 2401.08417", step=0.1, ge=0, le=100)
    """Weight of learning to write the chosen answer beside telling it apart; 0 leaves that out."""

    margin: float = setting(
        0.5, group=LOSS, source="SimPO, arXiv 2405.14734, where it is gamma", step=0.1, ge=0, le=100
    )
    """By how much `simpo` wants the chosen answer ahead; not used by other losses."""

    label_smoothing: float = setting(0.0, group=LOSS, step=0.01, ge=0, lt=0.5)
    """Share of pairs assumed to be labelled the wrong way round, for `sigmoid` and `simpo`."""

    @field_validator("label_smoothing")
    @classmethod
    def _check_smoothing(cls, smoothing: float, info: ValidationInfo) -> float:
        loss = info.data.get("loss")
        if smoothing and loss in ("hinge", "ipo"):
            raise ValueError(f"must be 0 for {loss}, which has no such term")
        return smoothing


def run(config: CpoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import train
    from polm_core.training.setup import bring_model, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    pairs = as_pairs(needed(split.train), wrap=config.chat_template)
    held_out = as_pairs(usable(split.held_out), wrap=config.chat_template)
    train_set = pair_columns(tokenizer, pairs, config.max_length)
    eval_set = pair_columns(tokenizer, held_out, config.max_length)
    model, adapter = bring_model(config, context)
    arguments = CPOConfig(
        **training_arguments(config, context.run_dir),
        max_length=config.max_length,
        loss_type=config.loss,
        beta=config.beta,
        cpo_alpha=config.nll_weight,
        simpo_gamma=config.margin,
        label_smoothing=config.label_smoothing,
    )
    trainer = CPOTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(pairs[:1]),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    hand_over(trainer, train_set, eval_set, limit=config.max_length)
    return train(trainer, context, config, split)


ACCURACY = ChartSpec(
    "Preference accuracy",
    ("rewards/accuracies", "eval/rewards/accuracies"),
    "share of pairs",
    "Share of pairs whose chosen answer is the likelier one. It should rise on held-out pairs.",
)
REWARDS = ChartSpec(
    "Rewards",
    ("rewards/chosen", "rewards/rejected", "eval/rewards/chosen", "eval/rewards/rejected"),
    "reward",
    "Rejected should fall. When chosen falls with it, give learning to write it more weight.",
)


def margin(how_to_read: str) -> ChartSpec:
    return ChartSpec("Reward margin", ("rewards/margins", "eval/rewards/margins"), "reward", how_to_read)


METHOD = Method(
    slug="cpo",
    title="CPO",
    paradigm=Paradigm.ALIGNMENT,
    branch="Direct preference optimisation",
    summary="Tells preferred answers from rejected ones while learning to write them, without a reference.",
    when="You have pairs whose chosen answers are worth imitating, and no memory for a reference.",
    paper=Paper(
        "Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine Translation",
        "2401.08417",
    ),
    objective="Minimises the logistic loss of the difference in log-probability plus nll_weight times the negative "
    "log-likelihood of the chosen answer: DPO with a uniform reference, held up by imitation.",
    formula="L = -log σ(beta · (log π(y_w|x) - log π(y_l|x))) - nll_weight · 1/|y_w| · log π(y_w|x)",
    watch=(
        BOTH_FALL,
        "Length: log-probabilities are sums, so the shorter answer begins as the likelier one, whatever its quality.",
        ACCURACY_FIRST,
    ),
    formats=FORMATS,
    config=CpoConfig,
    run=run,
    charts=(
        ACCURACY,
        margin("Beta times the difference in log-probability. It should rise on both and then level off."),
        ChartSpec(
            "Loss",
            ("loss", "eval/loss", "nll_loss", "eval/nll_loss"),
            "nats",
            "All of it, and the part that learns to write the chosen answer. Both should fall.",
        ),
        REWARDS,
        LOG_PROBABILITIES,
        GRADIENT_NORM,
    ),
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "beta", "nll_weight", "adapter.type"),
)

SIMPO = preset(
    METHOD,
    slug="simpo",
    title="SimPO",
    summary="Makes preferred answers likelier per token, by a margin, without a reference.",
    when="DPO makes answers longer and longer, or there is no memory for a reference.",
    paper=Paper("SimPO: Simple Preference Optimization with a Reference-Free Reward", "2405.14734"),
    objective="Minimises the logistic loss of the difference in mean log-probability per token, which has to exceed "
    "the margin: what is trained is what decides while writing, and there is no reference.",
    formula="L = -log σ(beta · (log π(y_w|x) / |y_w| - log π(y_l|x) / |y_l|) - margin)",
    watch=(
        BOTH_FALL,
        "The learning rate: without a reference nothing holds the model. Above 1e-6 in full training it often breaks.",
        LONGER,
    ),
    charts=(
        ACCURACY,
        margin("Beta times the difference in log-probability per token. It should rise past the setting margin."),
        ChartSpec(
            "Loss", ("loss", "eval/loss"), "nats per pair", "Starts above 0.69 by about half the margin, and falls."
        ),
        REWARDS,
        LOG_PROBABILITIES,
        GRADIENT_NORM,
    ),
    defaults={"loss": "simpo", "beta": 2.0, "nll_weight": 0.0, "margin": 1.0},
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "beta", "margin", "adapter.type"),
)

METHODS: tuple[Method, ...] = (METHOD, SIMPO)
