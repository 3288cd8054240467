"""What the methods have in common that make a model smaller: what is measured before and after, and how it is told."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polm_core.blocks import DATA, GENERATION, HARDWARE, GenerationConfig, OneProcessConfig, RunConfig, setting
from polm_core.context import ModelSpec, RunContext
from polm_core.errors import ModelError
from polm_core.estimate import ModelShape, model_shape
from polm_core.formats import Format
from polm_core.method import ChartSpec
from polm_core.training.encoding import LossOn, encode_rows
from polm_core.training.rows import Row, asked

FORMATS = (Format.CONVERSATION, Format.PROMPT_COMPLETION, Format.TEXT)
BRANCH = "Model compression"
BEFORE, AFTER = 0, 1
# A weight that stays as it is, in the number format that most models are stored in.
STORED_BYTES = 2


class CompressConfig(RunConfig, OneProcessConfig):
    """Settings of every method that makes a model smaller."""

    loss_on: LossOn = setting("answers", group=DATA)
    """What is measured on held-out rows: `answers` is what the assistant said alone, as fine-tuning is measured;
    `everything` the prompts too. Of plain text all counts."""

    generation: GenerationConfig = setting(GenerationConfig(), group=GENERATION)
    """Answers to held-out prompts before and after."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Processes of the run. One, for the model is changed by one."""

    @property
    def rows_to_calibrate(self) -> int:
        """Training rows that are read to find out what matters."""
        return 0

    def written_bytes(self, shape: ModelShape) -> int:
        """About what the weights take up on disk afterwards."""
        raise NotImplementedError

    def check_model(self, model: ModelSpec, shape: ModelShape) -> None:
        """Raise `ConfigError` or `ModelError` when a model cannot be made smaller by these settings."""
        from polm_core.training.loading import quantisation

        if found := quantisation(model):
            raise ModelError(
                f"{model.name} is quantised already, to {found}.",
                code="model.quantised",
                advice="Start from the model that it was made of.",
            )


def compress(measured: "Measured", write: Callable[[Path], None]) -> None:
    """Measure the model, have `write` make a smaller one of it in a folder, and measure that as it is loaded.

    What comes after that, sealing the checkpoint or training on, is left to the caller.
    """
    from polm_core.training.arguments import draft_dir
    from polm_core.training.setup import bring_writer

    config, context = measured.config, measured.context
    context.progress(total_steps=AFTER)
    before = bring_writer(config, context)
    measured.take(before, BEFORE, context.spec.model)
    folder = draft_dir(context.run_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    context.check()
    write(folder)
    measured.tokenizer.save_pretrained(folder)
    after = bring_writer(config, context, ModelSpec(path=folder, name=context.spec.model.name))
    measured.take(after, AFTER, ModelSpec(path=folder))
    measured.time(before, after)


def seal(context: RunContext) -> dict[str, float]:
    """Make what was written a checkpoint; the final metrics."""
    from polm_core.training.arguments import draft_dir
    from polm_core.training.reporting import complete_checkpoint

    context.phase("saving")
    complete_checkpoint(context, draft_dir(context.run_dir), AFTER, "language")
    context.progress(step=AFTER)
    context.phase("done")
    return dict(context.latest)


class Measured:
    """Measures what a run makes of its model, on the same rows, prompts and machine each time.

    `more` tells what else is to be known of a model. Raises what `check_model` does, and `DataError` without rows.
    """

    def __init__(
        self, config: CompressConfig, context: RunContext, more: Callable[[Any], dict[str, float]] = lambda model: {}
    ) -> None:
        from polm_core.methods.fine_tuning.sft import check_trained
        from polm_core.training.setup import read_data

        split, self.tokenizer = read_data(config, context, FORMATS)
        config.check_model(context.spec.model, model_shape(context.spec.model))
        self.config, self.context, self.more = config, context, more
        self.split = split._replace(held_out=asked(split)[: config.eval_rows])
        rows = encode_rows(self.tokenizer, self.split.held_out, split.format, config.loss_on)
        self.rows = [(row.input_ids[: config.max_length], row.trained[: config.max_length]) for row in rows]
        check_trained([row for row in self.rows if any(row[1][1:])], config.max_length)
        self.bytes_before = 0

    def take(self, model: Any, step: int, files: ModelSpec) -> None:
        """Log the held-out loss and the sizes of a model whose files are these, and have it answer."""
        from polm_core.training.footprint import disk_bytes, memory_bytes
        from polm_core.training.made import make_rows
        from polm_core.training.sampling import answering

        context, config = self.context, self.config
        context.phase("measuring what it was" if step == BEFORE else "measuring what it is")

        def losses(place: int, rows: Sequence[Row]) -> list[Row]:
            return self._losses(model, place, len(rows))

        made = make_rows(context, config, self.split.held_out, losses, batch_size=config.batch_size, turn=step)
        size = disk_bytes(files)
        self.bytes_before = self.bytes_before or size
        values = {"size/bytes": float(size), "size/memory": float(memory_bytes(model))}
        context.log_metrics(
            step, held_out_loss(made) | values | {"size/ratio": size / self.bytes_before} | self.more(model)
        )
        if write_samples := answering(context, config, self.split):
            write_samples(model, self.tokenizer, step)

    def held_out(self, model: Any) -> dict[str, float]:
        """The held-out loss of a model, and what else is to be known of it."""
        size = self.config.batch_size
        rows = [row for place in range(0, len(self.rows), size) for row in self._losses(model, place, size)]
        return held_out_loss(rows) | self.more(model)

    def time(self, before: Any, after: Any) -> None:
        """Log how fast both are."""
        from polm_core.training.footprint import speeds

        self.context.phase("timing both")
        longest = max((ids for ids, _ in self.rows), key=len)
        found = speeds({"before": before, "after": after}, longest, self.context.check)
        self.context.log_metrics(BEFORE, found["before"])
        self.context.log_metrics(AFTER, found["after"])

    def _losses(self, model: Any, place: int, count: int) -> list[Row]:
        """The mean loss of each of some rows, and of how many tokens it is the mean."""
        from polm_core.training.scoring import mean_losses

        rows = self.rows[place : place + count]
        found = mean_losses(model, rows)
        return [{"loss": loss, "tokens": sum(trained[1:])} for loss, (_, trained) in zip(found, rows, strict=True)]


def held_out_loss(rows: Sequence[Row]) -> dict[str, float]:
    """The mean loss of all tokens that count, and the perplexity that it amounts to."""
    known = [row for row in rows if row["loss"] is not None]
    loss = sum(row["loss"] * row["tokens"] for row in known) / sum(row["tokens"] for row in known)
    return {"eval/loss": loss, "eval/perplexity": math.exp(min(loss, 100.0))}


STEPS = "0 is before, 1 after"
CHARTS = (
    ChartSpec(
        "Perplexity",
        ("eval/perplexity",),
        "perplexity",
        "How unsure the model is of held-out text: as if it chose among so many tokens. The rise is what is lost.",
        x=STEPS,
    ),
    ChartSpec("Held-out loss", ("eval/loss",), "nats per token", "The logarithm of the perplexity.", x=STEPS),
    ChartSpec(
        "Size",
        ("size/bytes", "size/memory"),
        "bytes",
        "The files of the weights, and what these take up once they are loaded, in the precision that the run computes "
        "in.",
        x=STEPS,
    ),
    ChartSpec(
        "Size against before",
        ("size/ratio",),
        "share of the bytes on disk",
        "What is left of the files. 1 is no gain, whatever share of the weights is zero.",
        x=STEPS,
    ),
    ChartSpec(
        "Writing",
        ("speed/tokens_per_second",),
        "tokens/s",
        "Tokens written one after another, for one text. Smaller is not faster by itself: packed weights are unpacked "
        "for each token.",
        x=STEPS,
    ),
    ChartSpec(
        "Reading",
        ("speed/prefill_tokens_per_second",),
        "tokens/s",
        "Tokens of a prompt that are read at once. Both models are timed in turns.",
        x=STEPS,
    ),
)
