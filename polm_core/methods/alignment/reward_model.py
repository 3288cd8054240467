"""Reward models in the Bradley-Terry form, with trl's RewardTrainer."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from polm_core.blocks import DATA, MAIN, TrainConfig, setting
from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.training.encoding import as_pairs, encode_pairs, plain_text
from polm_core.training.preferences import needed, usable
from polm_core.training.rows import Row
from polm_core.training.sampling import WriteSamples

logger = logging.getLogger(__name__)

FORMATS = (Format.PREFERENCE,)
_SHOWN_PAIRS = 4


class RewardModelConfig(TrainConfig):
    """Settings of reward models."""

    task: ClassVar[str] = "reward"
    # Half an answer says nothing about the whole.
    drops_long_rows: ClassVar[bool] = True

    learning_rate: float = setting(2e-5, group=MAIN, source="trl's examples, full training", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    centering: float = setting(0.0, group=MAIN, source="arXiv 2312.09244, uses 0.01", step=0.01, ge=0, le=10)
    """How strongly rewards are pulled towards a mean of 0, so that they compare across prompts; 0 does not."""

    chat_template: bool = setting(True, group=DATA)
    """Put plain-text prompts and answers into the model's chat turns; off trains on the bare text."""


def run(config: RewardModelConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import train
    from polm_core.training.setup import bring_reward_model, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    train_set = reward_rows(tokenizer, needed(split.train), config)
    if not train_set:
        raise DataError(
            f"Every pair has an answer that ends after {config.max_length} tokens.",
            code="data.untrained",
            advice="Raise max_length.",
        )
    held_out = usable(split.held_out)
    eval_set = reward_rows(tokenizer, held_out, config)
    model, adapter = bring_reward_model(config, context)
    arguments = RewardConfig(
        **training_arguments(config, context.run_dir),
        max_length=config.max_length,
        center_rewards_coefficient=config.centering or None,
    )
    trainer = RewardTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(train_set),
        eval_dataset=Dataset.from_list(eval_set) if eval_set else None,
        processing_class=tokenizer,
        peft_config=adapter,
    )
    return train(trainer, context, config, split, scoring(context, config, held_out))


def reward_rows(tokenizer: Any, rows: Sequence[Row], config: RewardModelConfig) -> list[dict[str, list[int]]]:
    """Each pair as the tokens of its two sequences; pairs that are too long are left out, and that is told."""
    pairs = encode_pairs(tokenizer, as_pairs(rows, wrap=config.chat_template))
    limit = config.max_length
    kept = [
        {"chosen_ids": chosen.input_ids, "rejected_ids": rejected.input_ids}
        for chosen, rejected in pairs
        if max(len(chosen.input_ids), len(rejected.input_ids)) <= limit
    ]
    if len(kept) < len(rows):
        logger.warning("%d of %d pairs are over %d tokens and are left out.", len(rows) - len(kept), len(rows), limit)
    return kept


def scoring(context: RunContext, config: RewardModelConfig, rows: Sequence[Row]) -> WriteSamples | None:
    """Has the model score both answers of the first held-out pairs."""
    shown = as_pairs(rows[:_SHOWN_PAIRS], wrap=config.chat_template)

    def write(model: Any, tokenizer: Any, step: int) -> None:
        from polm_core.training.scoring import score

        encoded = [item for pair in encode_pairs(tokenizer, shown) for item in pair]
        rewards = score(model, tokenizer, [item.input_ids[: config.max_length] for item in encoded])
        answers = [(index, pair, side) for index, pair in enumerate(shown) for side in ("chosen", "rejected")]
        for (index, pair, side), reward in zip(answers, rewards, strict=True):
            context.log_sample(
                step, plain_text(pair["prompt"]), plain_text(pair[side]), row=index, side=side, reward=reward
            )

    return write if shown else None


CHARTS = (
    ChartSpec(
        "Accuracy",
        ("accuracy", "eval/accuracy"),
        "share of pairs",
        "Share of pairs whose chosen answer gets the higher reward. 0.5 is chance; on held-out pairs it is what was "
        "learned.",
    ),
    ChartSpec(
        "Margin",
        ("margin", "eval/margin"),
        "reward",
        "How much higher the chosen answer is scored. It should rise on both; far above 5 the model is overconfident.",
    ),
    ChartSpec(
        "Loss",
        ("loss", "eval/loss"),
        "nats per pair",
        "Starts near 0.69, which is chance, and falls. Held-out loss that rises again means memorised pairs: stop.",
    ),
    ChartSpec(
        "Rewards",
        ("min_reward", "mean_reward", "max_reward"),
        "reward",
        "The spread of the scores. A mean that drifts away from 0 does no harm to pairs; centering holds it.",
    ),
    GRADIENT_NORM,
)

METHOD = Method(
    slug="reward-model",
    title="Reward model",
    paradigm=Paradigm.ALIGNMENT,
    branch="Reinforcement learning from human feedback",
    summary="Learns a score for answers from pairs of a better and a worse one.",
    when="You want to rank or filter answers, or to train a policy on what people prefer.",
    paper=Paper("Training Language Models to Follow Instructions with Human Feedback", "2203.02155"),
    objective="Minimises the Bradley-Terry loss: the score of the chosen answer is to be above that of the rejected "
    "one. A linear head on the last token gives the score.",
    formula="L = -log σ(r(x, y_w) - r(x, y_l)) + centering · (r(x, y_w) + r(x, y_l))²",
    watch=(
        "Held-out accuracy: 0.6 to 0.75 is usual for people's preferences. Near 1 the pairs give themselves away.",
        "Length: score answers of both kinds and compare. A reward model that likes length teaches it.",
        "More than an epoch or two: the loss on training pairs goes to 0, and margins say nothing any more.",
    ),
    formats=FORMATS,
    config=RewardModelConfig,
    run=run,
    charts=CHARTS,
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "max_length", "adapter.type", "centering"),
)
