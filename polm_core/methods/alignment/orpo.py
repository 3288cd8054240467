"""Odds-ratio preference optimisation, with trl's experimental ORPOTrainer."""

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.preference import ACCURACY_FIRST, GRADIENT_NORM, LOG_PROBABILITIES, PreferenceConfig
from polm_core.training.encoding import as_pairs
from polm_core.training.preferences import hand_over, needed, pair_columns, usable

FORMATS = (Format.PREFERENCE,)


class OrpoConfig(PreferenceConfig):
    """Settings of odds-ratio preference optimisation."""

    learning_rate: float = setting(8e-6, group=MAIN, source="ORPO, arXiv 2403.07691", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    beta: float = setting(0.1, group=MAIN, source="ORPO, arXiv 2403.07691, where it is lambda", step=0.01, gt=0, le=100)
    """Weight of telling the two answers apart beside learning to write the chosen one: higher contrasts more."""


def run(config: OrpoConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import train
    from polm_core.training.setup import bring_model, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    pairs = as_pairs(needed(split.train), wrap=config.chat_template)
    held_out = as_pairs(usable(split.held_out), wrap=config.chat_template)
    train_set = pair_columns(tokenizer, pairs, config.max_length)
    eval_set = pair_columns(tokenizer, held_out, config.max_length)
    model, adapter = bring_model(config, context)
    trainer = ORPOTrainer(
        model=model,
        args=ORPOConfig(**training_arguments(config, context.run_dir), max_length=config.max_length, beta=config.beta),
        train_dataset=Dataset.from_list(pairs[:1]),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    hand_over(trainer, train_set, eval_set, limit=config.max_length)
    return train(trainer, context, config, split)


CHARTS = (
    ChartSpec(
        "Preference accuracy",
        ("rewards/accuracies", "eval/rewards/accuracies"),
        "share of pairs",
        "Share of pairs whose chosen answer is the likelier one, token for token. It should rise on held-out pairs.",
    ),
    ChartSpec(
        "Log odds ratio",
        ("log_odds_chosen", "eval/log_odds_chosen"),
        "nats",
        "How much better the odds of the chosen answer are. Above 0 it is preferred; it should rise.",
    ),
    ChartSpec(
        "Loss",
        ("loss", "eval/loss", "nll_loss", "eval/nll_loss"),
        "nats per token",
        "Writing and contrast together, and writing alone. Both should fall.",
    ),
    ChartSpec(
        "Reward margin",
        ("rewards/margins", "eval/rewards/margins"),
        "reward",
        "Beta times the difference in mean log-probability. It should rise on both.",
    ),
    LOG_PROBABILITIES,
    GRADIENT_NORM,
)

METHOD = Method(
    slug="orpo",
    title="ORPO",
    paradigm=Paradigm.ALIGNMENT,
    branch="Direct preference optimisation",
    summary="Learns to write the chosen answers and to avoid the rejected ones in one go, without a reference.",
    when="You have pairs and a model that was not fine-tuned before, or no memory for a reference.",
    paper=Paper("ORPO: Monolithic Preference Optimization without Reference Model", "2403.07691"),
    objective="Minimises the negative log-likelihood of the chosen answer plus beta times the logistic loss of the "
    "odds ratio: imitation and preference in one stage, without a reference.",
    formula="L = -log P(y_w|x) - beta · log σ(log odds(y_w|x) - log odds(y_l|x))\nodds = P / (1-P)\n"
    "log P(y|x) = 1/|y| · log π(y|x)",
    watch=(
        "The share of the two terms: while the loss of writing dominates, the log odds ratio hardly rises. Raise beta.",
        "Rejected answers that grow likelier too: they share words with the chosen ones. The ratio is what has to "
        "rise.",
        ACCURACY_FIRST,
    ),
    formats=FORMATS,
    config=OrpoConfig,
    run=run,
    charts=CHARTS,
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "beta", "max_length", "adapter.type"),
)
