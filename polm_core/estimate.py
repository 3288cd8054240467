"""What a run will need, from its settings and the model's shape alone.

The formulas are simple on purpose; on the starter model they come within about a third of what is measured.

- memory = libraries + weights + 12 bytes for each trained weight (gradient and Adam's two moments) + reference copy
  + activations (tokens x layers x (10 hidden + 4 intermediate) floats) + logits where a loss needs all of them
- seconds = steps x tokens x (6 flops for each weight, 4 with an adapter, 2 more for a reference) / the machine's speed
  + evaluations + generated tokens, each of which reads all weights once
- disk = checkpoints x (weights + optimiser state)
"""

import json
import math
import struct
import time
from pathlib import Path
from typing import Any, NamedTuple

from polm_core.blocks import AdapterConfig, AdapterType, TrainConfig
from polm_core.context import ModelSpec
from polm_core.errors import ModelError

_LIBRARIES = 600_000_000
_TOKENIZER = 4_000_000
_MAX_HEADER = 100_000_000
_FLOAT = 4
_BYTES_PER_WEIGHT = {AdapterType.QLORA: 0.6}
# Training reaches about half of what a plain matrix product does, and memory is read at about this speed.
_EFFICIENCY = 0.5
_MEMORY_BYTES_PER_SECOND = 10e9
_ACTIVATIONS_KEPT = 0.25


class ModelShape(NamedTuple):
    """Sizes of a model; `linear` has the name and the two dimensions of every layer an adapter can sit on."""

    parameters: int
    hidden: int
    intermediate: int
    layers: int
    vocabulary: int
    positions: int
    linear: list[tuple[str, int, int]]


class Workload(NamedTuple):
    """What is computed: tokens of a row (mean and near the longest, over all its sequences), rows of an evaluation."""

    tokens_per_row: float
    tokens_of_long_row: float
    steps: int
    held_out_rows: int
    has_reference: bool
    needs_logits: bool


class Estimate(NamedTuple):
    memory_bytes: int
    disk_bytes: int
    seconds: float


def model_shape(model: ModelSpec) -> ModelShape:
    """Read the sizes from the config and the headers of the weights; no weight is loaded. Raises `ModelError`."""
    config, tensors = _local(model.path) if model.path is not None else _hub(model)
    text: dict[str, Any] = config.get("text_config") or config
    try:
        hidden, layers = int(text["hidden_size"]), int(text["num_hidden_layers"])
    except KeyError as error:
        raise ModelError(f"The config of {model.name} has no {error}: it is not a language model.") from error
    return ModelShape(
        parameters=sum(math.prod(shape) for shape in tensors.values()),
        hidden=hidden,
        intermediate=int(text.get("intermediate_size") or 4 * hidden),
        layers=layers,
        vocabulary=int(text.get("vocab_size") or 0),
        positions=int(text.get("max_position_embeddings") or 0),
        linear=[
            (name.removesuffix(".weight"), shape[0], shape[1])
            for name, shape in tensors.items()
            if len(shape) == 2 and "embed" not in name and "lm_head" not in name
        ],
    )


def _local(folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= {name: entry["shape"] for name, entry in _header(path).items() if name != "__metadata__"}
    return config, tensors


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: its length in 8 bytes, then JSON."""
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER:
                raise ValueError("too long a header")
            header: dict[str, Any] = json.loads(file.read(length))
        except (struct.error, ValueError) as error:
            raise ModelError(f"{path.name} is not a safetensors file.", code="model.damaged") from error
    return header


def _hub(model: ModelSpec) -> tuple[dict[str, Any], dict[str, list[int]]]:
    from huggingface_hub import get_safetensors_metadata
    from transformers import AutoConfig

    from polm_core.training.loading import unloadable

    try:
        config = AutoConfig.from_pretrained(model.hub_id, revision=model.revision, trust_remote_code=False)
        metadata = get_safetensors_metadata(str(model.hub_id), revision=model.revision)
    except (OSError, ValueError, KeyError) as error:
        raise unloadable(model, "size", error) from error
    shapes = {name: info.shape for file in metadata.files_metadata.values() for name, info in file.tensors.items()}
    return config.to_dict(), shapes


def trained_weights(shape: ModelShape, adapter: AdapterConfig) -> int:
    """How many weights are trained: all, or those of the adapter's two matrices on each layer it sits on."""
    if adapter.type is AdapterType.NONE:
        return shape.parameters
    names = adapter.target_modules
    sizes = [
        rows + columns
        for name, rows, columns in shape.linear
        if names == "all-linear" or any(f".{name}".endswith(f".{target}") for target in names)
    ]
    return adapter.r * sum(sizes)


def missing_targets(shape: ModelShape, adapter: AdapterConfig) -> list[str]:
    """The names of layers to adapt that no layer of the model has."""
    names = adapter.target_modules
    if adapter.type is AdapterType.NONE or isinstance(names, str):
        return []
    # Embeddings can be adapted too, but are not among the sizes.
    layers = [*(f".{name}" for name, _, _ in shape.linear), ".embed_tokens"]
    return [target for target in names if not any(layer.endswith(f".{target}") for layer in layers)]


def estimate(shape: ModelShape, config: TrainConfig, work: Workload, *, flops: float) -> Estimate:
    """What the run needs on a machine that computes `flops` a second."""
    trained = trained_weights(shape, config.adapter)
    return Estimate(
        round(_memory(shape, config, work, trained)),
        round(_disk(config, work, trained)),
        round(_seconds(shape, config, work, flops), 3),
    )


def _memory(shape: ModelShape, config: TrainConfig, work: Workload, trained: int) -> float:
    weights = shape.parameters * _BYTES_PER_WEIGHT.get(config.adapter.type, _FLOAT)
    full = config.adapter.type is AdapterType.NONE
    reference = weights if work.has_reference and full else 0
    tokens = config.batch_size * work.tokens_of_long_row
    activations = tokens * shape.layers * (10 * shape.hidden + 4 * shape.intermediate) * _FLOAT
    if config.gradient_checkpointing:
        activations *= _ACTIVATIONS_KEPT
    logits = 3 * tokens * shape.vocabulary * _FLOAT if work.needs_logits else 0
    return _LIBRARIES + weights + 3 * _FLOAT * trained + reference + activations + logits


def _disk(config: TrainConfig, work: Workload, trained: int) -> float:
    between = (work.steps - 1) // config.save_steps if config.save_steps else 0
    return (between + 1) * (3 * _FLOAT * trained + _TOKENIZER)


def _seconds(shape: ModelShape, config: TrainConfig, work: Workload, flops: float) -> float:
    full = config.adapter.type is AdapterType.NONE
    passes = (6 if full else 4) + (2 if work.has_reference else 0) + (2 if config.gradient_checkpointing else 0)
    rows = work.steps * config.batch_size * config.gradient_accumulation_steps
    evaluations = (2 + (work.steps - 1) // config.eval_steps if config.eval_steps else 2) if work.held_out_rows else 0
    held_out = evaluations * work.held_out_rows * (4 if work.has_reference else 2)
    compute = (rows * passes + held_out) * work.tokens_per_row * shape.parameters / (flops * _EFFICIENCY)
    answers = evaluations * config.generation.max_new_tokens if config.generation.samples else 0
    return compute + answers * shape.parameters * _FLOAT / _MEMORY_BYTES_PER_SECOND


def machine_flops(device: str) -> float:
    """Floating-point operations a second of `device` (`cpu`, `cuda`, ...), timed on one matrix product."""
    import torch

    size = 2048
    matrix = torch.ones((size, size), device=device)
    _timed_product(matrix)
    return 2 * size**3 / _timed_product(matrix)


def _timed_product(matrix: Any) -> float:
    began = time.perf_counter()
    # Reading one element waits for a device that computes in the background.
    (matrix @ matrix)[0, 0].item()
    return time.perf_counter() - began
