"""Pruning: a model without the weights or layers that matter least, and trained on, if wished, to make up for them."""

import logging
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import DATA, MAIN, OPTIMISER, SCHEDULE, setting
from polm_core.context import ModelSpec, RunContext
from polm_core.errors import ConfigError
from polm_core.estimate import ModelShape
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.efficiency.compressing import (
    AFTER,
    BRANCH,
    CHARTS,
    FORMATS,
    STEPS,
    STORED_BYTES,
    CompressConfig,
    Measured,
    compress,
    seal,
)
from polm_core.methods.fine_tuning.sft import SftConfig, fine_tune
from polm_core.run_dir import verify_checkpoint
from polm_core.training.encoding import encode_rows

logger = logging.getLogger(__name__)


class PruneConfig(CompressConfig):
    """Settings of pruning."""

    by: Literal["wanda", "magnitude", "depth"] = setting("wanda", group=MAIN, source="arXiv 2306.11695")
    """`wanda` takes out the weights that matter least for what calibration rows put through them, `magnitude` the
    smallest ones; `depth` takes out whole layers, those that change the least of what goes through them
    (arXiv 2403.03853)."""

    sparsity: float = setting(
        0.5, group=MAIN, unit="share of weights", source="arXiv 2306.11695", step=0.05, gt=0, lt=1
    )
    """Share of the weights of each linear layer that is set to zero. Not used by depth."""

    structure: Literal["unstructured", "2:4"] = setting("unstructured", group=MAIN)
    """Which weights may go: any, or two of each four, which GPUs compute faster with. Not used by depth."""

    layers: int = setting(2, group=MAIN, unit="layers", ge=1, le=1000)
    """Layers that depth takes out."""

    calibration_rows: int = setting(128, group=DATA, unit="rows", source="arXiv 2306.11695", ge=1, le=10_000)
    """Training rows that are read to find out what matters, by wanda and depth."""

    max_steps: int = setting(0, group=MAIN, unit="steps", ge=0, le=10_000_000)
    """Optimiser steps of supervised fine-tuning after pruning, on the training rows. What was set to zero is set to
    zero again after each. 0 trains nothing."""

    learning_rate: float = setting(2e-5, group=OPTIMISER, source="trl", gt=0, le=1)
    """Peak step size of these steps."""

    eval_steps: int = setting(50, group=SCHEDULE, unit="steps", ge=0, le=10_000_000)
    """Steps between evaluations on held-out rows; before, after pruning and the end are always evaluated."""

    save_steps: int = setting(100, group=SCHEDULE, unit="steps", ge=0, le=10_000_000)
    """Steps between checkpoints; the end is always saved, 0 leaves it at that."""

    @field_validator("structure")
    @classmethod
    def _check_structure(cls, structure: str, info: ValidationInfo) -> str:
        if structure == "2:4" and info.data.get("sparsity", 0.5) != 0.5:
            raise ValueError("must be unstructured unless sparsity is 0.5: two of each four are a half")
        return structure

    @property
    def recovery(self) -> SftConfig:
        """The settings of the training after pruning."""
        shared = self.model_dump(include=set(SftConfig.model_fields) & set(type(self).model_fields))
        return SftConfig(**shared)

    @property
    def rows_to_calibrate(self) -> int:
        return 0 if self.by == "magnitude" else self.calibration_rows

    def written_bytes(self, shape: ModelShape) -> int:
        share = 1 - self.layers / shape.layers if self.by == "depth" else 1.0
        return round(shape.parameters * share * (4 if self.max_steps else STORED_BYTES))

    def check_model(self, model: ModelSpec, shape: ModelShape) -> None:
        super().check_model(model, shape)
        if self.by == "depth" and self.layers >= shape.layers:
            raise _refused("layers", f"must be below {shape.layers}, the number of layers that the model has")
        widths = sorted({columns for _, _, columns in shape.linear})
        if self.by != "depth" and self.structure == "2:4" and any(width % 4 for width in widths):
            named = ", ".join(map(str, widths))
            raise _refused("structure", f"must be unstructured: not all widths of the layers, {named}, are fours")
        if self.by != "depth" and int(min(widths) * self.sparsity) == 0:
            raise _refused("sparsity", f"must be at least {1 / min(widths):.2g}, or no weight of a row is taken out")


def _refused(name: str, problem: str) -> ConfigError:
    return ConfigError(f"{name} {problem}.", fields={f"config.{name}": [problem]})


def run(config: PruneConfig, context: RunContext) -> dict[str, float]:
    """Prune the model, train what is left of it if that is wished, and return what it came to."""
    from polm_core.training.arguments import draft_dir
    from polm_core.training.loop import resume_path
    from polm_core.training.pruning import nonzero_share

    measured = Measured(config, context, lambda model: {"size/nonzero": nonzero_share(model)})
    resumed = resume_path(context, after=AFTER) if config.max_steps else None
    if resumed is not None:
        context.latest.update(verify_checkpoint(Path(resumed)).metrics)
        return _recover(config, measured, Path(resumed))
    compress(measured, lambda folder: _write(config, measured, folder))
    return _recover(config, measured, draft_dir(context.run_dir)) if config.max_steps else seal(context)


def _write(config: PruneConfig, measured: Measured, folder: Path) -> None:
    import torch

    from polm_core.training.loading import stored_dtype
    from polm_core.training.pruning import (
        block_influences,
        prune_by_magnitude,
        prune_by_wanda,
        remove_layers,
    )
    from polm_core.training.setup import bring_writer

    context = measured.context
    model = bring_writer(config, context)
    rows = _calibration(config, measured)
    context.phase("pruning")
    if config.by == "depth":
        influences = block_influences(model, rows, context.check)
        places = sorted(sorted(range(len(influences)), key=influences.__getitem__)[: config.layers])
        logger.info("Layers %s change the least of what goes through them.", ", ".join(map(str, places)))
        remove_layers(model, places)
    elif config.by == "wanda":
        prune_by_wanda(model, rows, config.sparsity, config.structure, context.check)
    else:
        prune_by_magnitude(model, config.sparsity, config.structure, context.check)
    # What is trained on is kept in fp32, as by every method.
    model.to(torch.float32 if config.max_steps else stored_dtype(context.spec.model)).save_pretrained(folder)


def _calibration(config: PruneConfig, measured: Measured) -> list[list[int]]:
    """The tokens of some training rows."""
    rows = measured.split.train
    chosen = Random(config.seed).sample(rows, min(config.calibration_rows, len(rows)))  # noqa: S311
    encoded = encode_rows(measured.tokenizer, chosen, measured.split.format, "everything")
    return [ids for row in encoded if (ids := row.input_ids[: config.max_length])]


def _recover(config: PruneConfig, measured: Measured, folder: Path) -> dict[str, float]:
    """Train the pruned model in `folder` on the training rows; what is zero stays zero."""
    from polm_core.training.loading import load_model
    from polm_core.training.pruning import recovering
    from polm_core.training.reporting import Stage
    from polm_core.training.setup import Model

    context, settings = measured.context, config.recovery
    context.check()
    context.phase("loading the model")
    model = load_model(ModelSpec(path=folder, name=context.spec.model.name), settings)
    return fine_tune(
        settings,
        context,
        measured.split,
        measured.tokenizer,
        loss_on=config.loss_on,
        packing_strategy="bfd",
        brought=Model(model, None),
        stage=Stage("recovering", before=AFTER),
        dress=lambda trainer: recovering(trainer, measured.held_out),
    )


METHOD = Method(
    slug="prune",
    title="Pruning",
    paradigm=Paradigm.EFFICIENCY,
    branch=BRANCH,
    summary="Sets the weights that matter least to zero, or takes out whole layers, and measures what it costs.",
    when="You want a model with fewer layers, which is smaller and faster at once; or zeros, where a runtime makes use "
    "of them. Trains only to recover.",
    paper=Paper("A Simple and Effective Pruning Approach for Large Language Models", "2306.11695"),
    objective="Optimises nothing: it takes out what scores least. Weights are scored by their size times the norm of "
    "what they weigh (or by their size alone), layers by how much they change what goes through them. Training "
    "afterwards minimises the loss of supervised fine-tuning.",
    formula="score_{ij} = |W_{ij}| · ‖X_j‖₂ for wanda, |W_{ij}| for magnitude\n"
    "score_l = 1 - E[cos(X_l, X_{l+1})] for depth, layer l taking X_l in and giving X_{l+1} out",
    watch=(
        "Perplexity: half of the weights of a small model are too many without training afterwards. Take out less, or "
        "set max_steps.",
        "Zeros save no room on disk and no time by themselves: only a runtime that knows of them makes use of them. "
        "Depth saves both.",
        "Calibration rows unlike what the model is for: what matters there is taken out.",
        "A run that trains afterwards keeps fp32 weights, so its files can be larger than those of a bf16 model. "
        "Quantise what comes of it.",
    ),
    formats=FORMATS,
    config=PruneConfig,
    run=run,
    charts=(
        *CHARTS[:2],
        ChartSpec(
            "Weights that are left",
            ("size/nonzero",),
            "share of weights",
            "The weights of the linear layers that are not zero. It stays where pruning put it: training does not fill "
            "them again.",
            x=STEPS,
        ),
        *CHARTS[2:],
        ChartSpec(
            "Recovery",
            ("loss",),
            "nats per token",
            "The loss of training after pruning, where there is any: its steps count from 2.",
        ),
    ),
    main_fields=("by", "sparsity", "structure", "layers", "calibration_rows", "max_steps", "learning_rate"),
    devices="Runs on any machine; 2:4 is faster on GPUs from Ampere on, with a runtime for it.",
)
