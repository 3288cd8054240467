"""Quantisation: the weights of a model in fewer bits, and what that costs."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from polm_core.blocks import MAIN, setting
from polm_core.context import ModelSpec, RunContext
from polm_core.errors import ConfigError, ResourceError
from polm_core.estimate import ModelShape
from polm_core.method import Method, Paper, Paradigm
from polm_core.methods.efficiency.compressing import (
    BRANCH,
    CHARTS,
    FORMATS,
    STORED_BYTES,
    CompressConfig,
    Measured,
    compress,
    seal,
)

_BYTES_OF_SCALE = 4
_GROUP = 64


class QuantizeConfig(CompressConfig):
    """Settings of quantisation."""

    scheme: Literal["int8", "nf4", "int4"] = setting(
        "int8", group=MAIN, source="LLM.int8(), arXiv 2208.07339, finds 8 bits lossless"
    )
    """`int8` rounds the weights to 8 bits, which hardly changes answers; `nf4` to the 16 steps of a normal
    distribution (arXiv 2305.14314), `int4` to 16 even ones by half-quadratic search, for which a GPU is needed."""

    group_size: int = setting(0, group=MAIN, unit="weights", source="torchao", ge=0, le=4096)
    """Weights of a row that share a scale: fewer are more exact, and take more room and time. 0 gives a whole row of
    int8 one, and each 64 of int4. nf4 always shares it among 64."""

    def written_bytes(self, shape: ModelShape) -> int:
        linear = sum(rows * columns for _, rows, columns in shape.linear)
        scales = linear // (self.group_size or _GROUP) * _BYTES_OF_SCALE
        return round((shape.parameters - linear) * STORED_BYTES + linear * _SCHEMES[self.scheme].bits / 8 + scales)

    def check_model(self, model: ModelSpec, shape: ModelShape) -> None:
        from polm_core.training.loading import has_accelerator

        super().check_model(model, shape)
        scheme = _SCHEMES[self.scheme]
        if scheme.needs_gpu and not has_accelerator(self):
            raise ResourceError(
                f"{self.scheme} needs a GPU, and the run has none.",
                code="resource.device",
                advice="Take nf4, which has 4 bits too, or int8; or send the run to a worker that has a GPU.",
            )
        widths = sorted({columns for _, _, columns in shape.linear})
        size = scheme.group_of(self)
        if size and (uneven := [width for width in widths if width % size]):
            fitting = [size for size in (256, 128, 64, 32, 16, 8) if all(width % size == 0 for width in widths)]
            others = f", such as {fitting[0]}" if fitting else ""
            raise _group_error(
                f"must divide the width of every layer{others}: this model's include {', '.join(map(str, uneven))}"
            )


def _group_error(problem: str) -> ConfigError:
    return ConfigError(f"group_size {problem}.", fields={"config.group_size": [problem]})


class Scheme(NamedTuple):
    """How weights are stored: in so many bits; `settings` makes what transformers loads and quantises them by."""

    bits: int
    settings: Callable[[QuantizeConfig], Any]
    needs_gpu: bool = False
    group_of: Callable[[QuantizeConfig], int] = lambda config: config.group_size


def _int8(config: QuantizeConfig) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig, PerGroup, PerRow
    from transformers import TorchAoConfig

    shared = PerGroup(config.group_size) if config.group_size else PerRow()
    return TorchAoConfig(Int8WeightOnlyConfig(version=2, granularity=shared))


def _int4(config: QuantizeConfig) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(
        Int4WeightOnlyConfig(
            group_size=config.group_size or _GROUP,
            int4_packing_format="tile_packed_to_4d",
            int4_choose_qparams_algorithm="hqq",
        )
    )


def _nf4(config: QuantizeConfig) -> Any:
    from polm_core.training.loading import compute_dtype, four_bits

    return four_bits(compute_dtype(config))


_SCHEMES = {
    "int8": Scheme(8, _int8),
    "nf4": Scheme(4, _nf4, group_of=lambda config: 0),
    "int4": Scheme(4, _int4, needs_gpu=True, group_of=lambda config: config.group_size or _GROUP),
}


def run(config: QuantizeConfig, context: RunContext) -> dict[str, float]:
    """Quantise the model and return what it came to."""
    compress(Measured(config, context), lambda folder: _write(config, context, folder))
    return seal(context)


def _write(config: QuantizeConfig, context: RunContext, folder: Path) -> None:
    from polm_core.training.loading import load_quantised, load_writer, stored_dtype

    model = context.spec.model
    with TemporaryDirectory(dir=context.run_dir.root, prefix=".merged-") as merged:
        if model.adapter is not None:
            context.phase("merging the adapter")
            load_writer(model).to(stored_dtype(model)).save_pretrained(merged)
            model = ModelSpec(path=Path(merged), name=model.name)
            context.check()
        context.phase("quantising")
        quantised = load_quantised(model, _SCHEMES[config.scheme].settings(config), config)
        context.check()
        # Before any pass: the first one may repack the weights for the machine's own kernels.
        quantised.save_pretrained(folder)


METHOD = Method(
    slug="quantize",
    title="Quantisation",
    paradigm=Paradigm.EFFICIENCY,
    branch=BRANCH,
    summary="Stores the weights in 8 or 4 bits, and measures what that wins and what it costs.",
    when="A model is as good as you want it, and too large for where it is to run. Trains nothing.",
    paper=Paper("QLoRA: Efficient Finetuning of Quantized LLMs", "2305.14314"),
    objective="Optimises nothing: each group of weights is rounded to the steps of a scale of its own. Embeddings, "
    "norms and the output head stay as they are.",
    formula="W = s_g · round(W_0 / s_g), s_g = max |W_0| / (2^{b-1} - 1) over each group g, for int8 with b = 8\n"
    "W = s_g · step(W_0 / s_g), s_g = max |W_0|, the 16 steps quantiles of a normal distribution, for nf4",
    watch=(
        "Perplexity that rises by more than a tenth: 4 bits are too few for a small model. Take int8, or fewer weights "
        "to a group.",
        "Slower answers: without kernels for packed weights they are unpacked for each token, and what is won is "
        "memory alone.",
        "Files that shrink less than the bits say: in a small model the embeddings, which stay as they are, are much "
        "of it.",
        "Training on: a quantised checkpoint cannot be fine-tuned in full. Over nf4 an adapter trains; else start from "
        "the model that it was made of.",
    ),
    formats=FORMATS,
    config=QuantizeConfig,
    run=run,
    charts=CHARTS,
    main_fields=("scheme", "group_size", "batch_size", "max_length", "eval_rows", "loss_on"),
    devices="int8 and nf4 run on any machine; int4 needs a GPU.",
)
