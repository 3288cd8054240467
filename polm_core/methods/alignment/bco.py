"""Binary classifier optimisation on rated answers, with trl's experimental BCOTrainer."""

from typing import ClassVar

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.preference import GRADIENT_NORM, LOG_PROBABILITIES, PreferenceConfig
from polm_core.training.encoding import as_ratings
from polm_core.training.preferences import hand_over, needed_ratings, rating_columns, reference, shuffled, usable

FORMATS = (Format.RATING,)


class BcoConfig(PreferenceConfig):
    """Settings of binary classifier optimisation."""

    compares_with_reference: ClassVar[bool] = True

    learning_rate: float = setting(5e-7, group=MAIN, source="trl", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    beta: float = setting(0.1, group=MAIN, source="BCO, arXiv 2404.04656", step=0.01, gt=0, le=100)
    """How strongly the model is held to where it started: higher stays closer."""


def run(config: BcoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from datasets import Dataset
    from trl.experimental.bco import BCOConfig, BCOTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import train
    from polm_core.training.setup import bring_model, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    rows = as_ratings(shuffled(needed_ratings(split.train), config.seed), wrap=config.chat_template)
    held_out = as_ratings(shuffled(usable(split.held_out), config.seed), wrap=config.chat_template)
    train_set = rating_columns(tokenizer, rows, config.max_length)
    eval_set = rating_columns(tokenizer, held_out, config.max_length)
    model, adapter = bring_model(config, context)
    trainer = BCOTrainer(
        model=model,
        ref_model=reference(model, adapter, config),
        args=BCOConfig(**training_arguments(config, context.run_dir), max_length=config.max_length, beta=config.beta),
        train_dataset=Dataset.from_list(rows[:1]),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    # trl begins with a whole number, which the evaluation before the first step cannot take the mean of.
    trainer.running.mean = 0.0
    hand_over(trainer, train_set, eval_set, limit=config.max_length)
    return train(trainer, context, config, split)


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
        "Good answers should rise and bad ones fall. When both fall, raise beta.",
    ),
    ChartSpec("Loss", ("loss", "eval/loss"), "nats per answer", "Starts at 0.69, which is chance, and falls."),
    ChartSpec(
        "Shift",
        ("delta",),
        "reward",
        "The running mean of all rewards, which is taken off before classifying. It moves slowly and then rests.",
    ),
    LOG_PROBABILITIES,
    GRADIENT_NORM,
)

METHOD = Method(
    slug="bco",
    title="BCO",
    paradigm=Paradigm.ALIGNMENT,
    branch="Direct preference optimisation",
    summary="Trains the model as a classifier of good and bad single answers.",
    when="You have ratings of single answers and KTO drifts or is unsteady.",
    paper=Paper("Binary Classifier Optimization for Large Language Model Alignment", "2404.04656"),
    objective="Minimises the cross-entropy of a classifier of good and bad answers whose logit is the answer's reward "
    "under the model, less a running mean δ of all rewards.",
    formula="L = -log σ(r - δ) for good answers\nL = -log σ(δ - r) for bad ones\nr = beta · log(π(y|x) / π_ref(y|x))",
    watch=(
        "The shift δ: it should come to rest between the rewards of both kinds. One that drifts on moves with answers "
        "that all grow less likely.",
        "Good and bad answers of different prompts: the classifier may tell the prompts apart instead. Rate both kinds "
        "of answers to each.",
        "Rewards of both kinds that fall: raise beta or lower the learning rate.",
    ),
    formats=FORMATS,
    config=BcoConfig,
    run=run,
    charts=CHARTS,
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "beta", "max_length", "adapter.type"),
)
