"""Held-out loss: how surprised a model is by text that it was not trained on."""

import logging
import math
from collections.abc import Iterator, Sequence

from polm_core.blocks import DATA, MAIN, setting
from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.evaluation.choosing import EvaluationConfig, rows_to_measure
from polm_core.evaluation.intervals import Scores
from polm_core.evaluation.results import Figure, figure, growing, row_keys
from polm_core.formats import Format
from polm_core.method import EVALUATION, ChartSpec, Method, Paper
from polm_core.training.encoding import LossOn, encode_rows
from polm_core.training.made import make_rows
from polm_core.training.rows import Row
from polm_core.training.scoring import mean_losses

logger = logging.getLogger(__name__)

FORMATS = (Format.CONVERSATION, Format.PROMPT_COMPLETION, Format.TEXT)
# exp of more is no number.
_HIGHEST = 700.0


class LossConfig(EvaluationConfig):
    """Settings of the evaluation by loss."""

    batch_size: int = setting(8, group=MAIN, unit="rows", source="trl", ge=1, le=4096)
    """Rows that are read at once: lower it when memory runs out."""

    loss_on: LossOn = setting("answers", group=DATA)
    """`answers` measures what the assistant said alone; `everything` the prompts too."""


def run(config: LossConfig, context: RunContext) -> dict[str, float]:
    """Read the rows, or those that are left, and return their loss and perplexity."""
    from polm_core.training.setup import bring_writer, read_data

    split, tokenizer = read_data(config, context, FORMATS)
    rows = rows_to_measure(config, split.train, split.held_out)
    model = bring_writer(config, context)
    context.phase("reading")
    context.progress(total_steps=len(rows))

    def read(place: int, some: Sequence[Row]) -> list[Row]:
        encoded = encode_rows(tokenizer, some, split.format, config.loss_on)
        cut = [(one.input_ids[: config.max_length], one.trained[: config.max_length]) for one in encoded]
        found = [
            {"key": key, "loss": loss, "tokens": sum(trained[1:])}
            for key, loss, (_, trained) in zip(keys[place:], mean_losses(model, cut), cut, strict=False)
        ]
        context.progress(step=place + len(some))
        return found

    keys = row_keys(rows)
    made = make_rows(context, config, rows, read, batch_size=config.batch_size)
    context.progress(step=len(rows))
    measured = [row for row in made if row["loss"] is not None and math.isfinite(row["loss"])]
    if len(measured) < len(made):
        logger.warning(
            "%d of %d rows have no token to measure, or no finite loss.", len(made) - len(measured), len(made)
        )
    if not measured:
        raise DataError(
            f"No row has a token to measure within its first {config.max_length} tokens.",
            code="data.untrained",
            advice="Raise max_length, or check that rows end with an answer of the assistant.",
        )
    return growing(context, measured, _figures)


def _figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """The mean over tokens, as training logs it, and what it is e's power of."""
    loss = figure(
        "loss",
        Scores([row["key"] for row in rows], [row["loss"] for row in rows], [float(row["tokens"]) for row in rows]),
        "lower",
    )
    yield loss
    bounds = {name: math.exp(min(value, _HIGHEST)) for name, value in zip(("low", "high"), loss.bounds, strict=True)}
    yield Figure(
        metric="perplexity",
        value=math.exp(min(loss.value, _HIGHEST)),
        rows=loss.rows,
        better="lower",
        listed=False,
        **bounds,
    )


METHOD = Method(
    slug="eval-loss",
    title="Held-out loss",
    paradigm=None,
    branch=EVALUATION.title,
    summary="Measures how likely the model finds held-out answers or text: loss and perplexity, with an interval.",
    when="You want to compare models on the same kind of text, cheaply: every token of every row counts, and nothing "
    "is written.",
    paper=Paper("Adding Error Bars to Evals: A Statistical Approach to Language Model Evaluations", "2411.00640"),
    objective="Optimises nothing: it estimates the mean negative log-likelihood of a token, over rows like those of "
    "the dataset. The interval is the bootstrap's over rows, as the tokens of one row are alike.",
    formula="L = -Σ_x Σ_{t ∈ T(x)} log π(y_t|x, y_{<t}) / Σ_x |T(x)|, perplexity = e^L",
    watch=(
        "Rows that the model was trained on: their loss says how well it remembers. Take held-out rows, by the seed of "
        "the training run.",
        "Models with other tokenizers: they read other tokens, so their losses per token do not compare.",
        "A low loss is no proof of right answers: measure accuracy as well, where answers can be verified.",
    ),
    formats=FORMATS,
    config=LossConfig,
    run=run,
    charts=(
        ChartSpec(
            "Loss",
            ("loss",),
            "nats per token",
            "The estimate as rows are added. It is good enough when the band is narrower than the differences that "
            "matter to you. The band is 95 % by bootstrap over rows.",
            x="rows",
            band=True,
        ),
        ChartSpec(
            "Perplexity",
            ("perplexity",),
            "tokens",
            "Between as many tokens the model is as unsure, on average, as if they were all equally likely.",
            x="rows",
            band=True,
        ),
    ),
    main_fields=("measure_on", "eval_rows", "loss_on", "max_length", "batch_size"),
    makes_checkpoints=False,
)
