"""Process reward models, which judge every step of an answer, with trl's PRMTrainer."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from polm_core.blocks import DATA, MAIN, TrainConfig, setting
from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.training.encoding import Encoded, encode_steps
from polm_core.training.rows import Row
from polm_core.training.sampling import WriteSamples

logger = logging.getLogger(__name__)

FORMATS = (Format.STEPWISE,)
_SHOWN_ROWS = 4
_IGNORED = -100


class PrmConfig(TrainConfig):
    """Settings of process reward models."""

    task: ClassVar[str] = "steps"

    learning_rate: float = setting(2e-5, group=MAIN, source="trl's examples, full training", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    chat_template: bool = setting(True, group=DATA)
    """Put the prompt into the model's chat turn; off trains on the bare text."""


def run(config: PrmConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from datasets import Dataset
    from trl.experimental.prm import PRMConfig, PRMTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import train
    from polm_core.training.setup import bring_step_judge, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    train_set = step_rows(tokenizer, split.train, config)
    if not train_set:
        raise DataError(
            f"No row has a step that ends within its first {config.max_length} tokens.",
            code="data.untrained",
            advice="Raise max_length.",
        )
    eval_set = step_rows(tokenizer, split.held_out, config)
    model, adapter = bring_step_judge(config, context)
    trainer = PRMTrainer(
        model=model,
        args=PRMConfig(**training_arguments(config, context.run_dir), max_length=config.max_length),
        train_dataset=Dataset.from_list(train_set),
        eval_dataset=Dataset.from_list(eval_set) if eval_set else None,
        processing_class=tokenizer,
        compute_metrics=step_metrics,
        peft_config=adapter,
    )
    return train(trainer, context, config, split, judging(context, config, split.held_out))


def step_rows(tokenizer: Any, rows: Sequence[Row], config: PrmConfig) -> list[dict[str, list[int]]]:
    """Each row as tokens, with a label on the one that ends each step: 1 for right, 0 for wrong.

    Steps that end after `max_length` tokens are cut; rows without any other are left out, and that is told.
    """
    kept = []
    for row, (encoded,) in zip(rows, encode_steps(tokenizer, rows, wrap=config.chat_template), strict=True):
        cut = _cut(encoded, config.max_length)
        labels = iter(row["labels"])
        marked = [int(next(labels)) if ends else _IGNORED for ends in cut.trained]
        if any(cut.trained):
            kept.append({"input_ids": cut.input_ids, "labels": marked})
    if len(kept) < len(rows):
        limit = config.max_length
        logger.warning(
            "%d of %d rows have no step within %d tokens and are left out.", len(rows) - len(kept), len(rows), limit
        )
    return kept


def _cut(encoded: Encoded, longest: int) -> Encoded:
    return encoded._replace(input_ids=encoded.input_ids[:longest], trained=encoded.trained[:longest])


def step_metrics(evaluated: Any) -> dict[str, float]:
    """How well held-out steps are judged.

    Of `evaluated`, `predictions` have the shape (rows, tokens, 2) and `label_ids` (rows, tokens).
    """
    judged = evaluated.label_ids != _IGNORED
    right, said = evaluated.label_ids[judged] == 1, evaluated.predictions.argmax(-1)[judged] == 1
    missed, false_alarms, found = (~right & said).sum(), (right & ~said).sum(), (~right & ~said).sum()
    accuracy = float((right == said).mean())
    return {
        "accuracy": accuracy,
        "above_majority": accuracy - max(float(right.mean()), 1 - float(right.mean())),
        # With no wrong step and none suspected there is nothing to miss.
        "wrong_f1": float(2 * found / (2 * found + missed + false_alarms)) if found + missed + false_alarms else 1.0,
    }


def judging(context: RunContext, config: PrmConfig, rows: Sequence[Row]) -> WriteSamples | None:
    """Has the model judge the steps of the first held-out rows; a row's reward is that of its worst step."""
    shown = rows[:_SHOWN_ROWS]

    def write(model: Any, tokenizer: Any, step: int) -> None:
        from polm_core.training.scoring import judge_steps

        sequences = [
            _cut(encoded, config.max_length) for (encoded,) in encode_steps(tokenizer, shown, wrap=config.chat_template)
        ]
        for index, (row, odds) in enumerate(zip(shown, judge_steps(model, tokenizer, sequences), strict=True)):
            said = [f"{chance:.2f}  {text}" for chance, text in zip(odds, row["completions"], strict=False)]
            labels = zip(row["labels"], row["completions"], strict=True)
            reference = "\n".join(f"{'right' if label else 'wrong'}  {text}" for label, text in labels)
            worst = {"reward": min(odds)} if odds else {}
            context.log_sample(step, row["prompt"], "\n".join(said), reference=reference, row=index, **worst)

    return write if shown else None


CHARTS = (
    ChartSpec(
        "Accuracy",
        ("eval/accuracy",),
        "share of steps",
        "Share of held-out steps judged rightly. Compare it with the chart beside it: where most steps are right, "
        "calling all of them right scores high too.",
    ),
    ChartSpec(
        "Above the majority",
        ("eval/above_majority",),
        "share of steps",
        "Accuracy above that of giving every step the commoner label. What was learned is what is above 0.",
    ),
    ChartSpec(
        "Wrong steps found",
        ("eval/wrong_f1",),
        "F1",
        "How well wrong steps are told, from 0 to 1: both missed ones and false alarms lower it.",
    ),
    ChartSpec(
        "Loss",
        ("loss", "eval/loss"),
        "nats per step",
        "Starts near 0.69, which is chance, and falls. Held-out loss that rises again means memorised rows: stop.",
    ),
    GRADIENT_NORM,
)

METHOD = Method(
    slug="prm",
    title="Process reward model",
    paradigm=Paradigm.REASONING,
    branch="Reinforcement learning for reasoning",
    summary="Learns to judge every step of a solution, not only its end.",
    when="You have solutions whose steps are marked right or wrong, and want to rank answers by how they were found.",
    paper=Paper("Let's Verify Step by Step", "2305.20050"),
    objective="Minimises the cross-entropy of each step's label at the token that ends the step. A linear head on that "
    "token gives the odds of right and wrong.",
    formula="L = -Σ_t [ c_t · log p_t + (1 - c_t) · log(1 - p_t) ]",
    watch=(
        "Above the majority: at 0 the model has learned how common right steps are, and nothing else.",
        "Wrong steps found: rows in which every step is right teach little. Add solutions that go wrong.",
        "Long solutions: steps after max_length are not seen, and mistakes come late.",
    ),
    formats=FORMATS,
    config=PrmConfig,
    run=run,
    charts=CHARTS,
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "max_length", "adapter.type"),
)
