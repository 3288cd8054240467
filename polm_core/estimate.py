"""What a run will need, from its settings and the model's shape alone.

The formulas are simple on purpose; on the starter model they come within about a third of what is measured.

- memory = libraries + weights + 12 bytes for each trained weight (gradient and Adam's two moments) + reference copy
  + reward model or teacher + activations (tokens x layers x (10 hidden + 4 intermediate) floats) + logits where a loss
  needs all; a value model has weights, trained weights and activations like the model itself
- seconds = steps x tokens x (6 flops for each weight, 4 with an adapter, 2 more for a reference) / the machine's speed
  + what a teacher reads, 2 flops for each of its weights + evaluations + generated tokens, each of which reads all
  weights once
- disk = checkpoints x (weights + optimiser state)
- without training: memory = libraries + weights + keys and values of the answers that are written at once + scorers
"""

import json
import math
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polm_core.blocks import SPLITTING, AdapterConfig, AdapterType, TrainConfig, WritingConfig
from polm_core.context import ModelSpec
from polm_core.errors import ModelError
from polm_core.quantised import weight_shapes

_LIBRARIES = 600_000_000
_TOKENIZER = 4_000_000
_MAX_HEADER = 100_000_000
_FLOAT = 4
_BYTES_PER_WEIGHT = {AdapterType.QLORA: 0.6}
# Training reaches about half of what a plain matrix product does, and memory is read at about this speed.
_EFFICIENCY = 0.5
_MEMORY_BYTES_PER_SECOND = 10e9
_ACTIVATIONS_KEPT = 0.25
# Of text, as it is written to a file.
_BYTES_OF_TOKEN = 5


class ModelShape(NamedTuple):
    """Sizes of a model.

    `linear` has the name and the two dimensions of every layer an adapter can sit on, `norms` and `biases` count the
    weights of those kinds, `keys` is the width of the keys of one layer. `frozen` counts
    the weights that stay as they are although no adapter takes their place.
    """

    parameters: int
    hidden: int
    intermediate: int
    layers: int
    vocabulary: int
    positions: int
    norms: int
    biases: int
    keys: int
    linear: list[tuple[str, int, int]]
    frozen: int = 0


class Workload(NamedTuple):
    """What is computed: tokens of a row (mean and near the longest, over all its sequences), rows of an evaluation.

    `answer_tokens` is the longest answer that the model writes to learn from it, 0 where it learns from rows; they
    are written in `rollouts` turns. `scorer_weights` counts the weights of the models that judge them,
    `has_value_model` says whether a second model of the same size learns what they will earn. A teacher of
    `teacher_weights` reads all that is trained on and held out, and writes the answers where `teacher_writes`.
    """

    tokens_per_row: float
    tokens_of_long_row: float
    steps: int
    held_out_rows: int
    has_reference: bool
    needs_logits: bool
    answer_tokens: int = 0
    rollouts: int = 0
    has_value_model: bool = False
    scorer_weights: int = 0
    teacher_weights: int = 0
    teacher_writes: bool = False


class Answers(NamedTuple):
    """What is written where nothing is trained: `number` answers of `tokens` at most to prompts of `prompt_tokens`."""

    number: int
    prompt_tokens: float
    tokens: int = 0
    at_once: int = 1
    scorer_weights: int = 0


class Compression(NamedTuple):
    """A model that is measured, made smaller and measured again, on `rows` of so many tokens (mean and near the
    longest), `at_once` of them, with `answer_tokens` one after another each time; `calibration_rows` are read between,
    and `written_bytes` come of it."""

    rows: int
    tokens_per_row: float
    tokens_of_long_row: float
    at_once: int
    answer_tokens: int
    calibration_rows: int
    written_bytes: int


class Estimate(NamedTuple):
    memory_bytes: int
    disk_bytes: int
    seconds: float


def model_shape(model: ModelSpec) -> ModelShape:
    """Read the sizes from the config and the headers of the weights; no weight is loaded. Raises `ModelError`."""
    config, tensors = read_shapes(model)
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
        norms=sum(math.prod(shape) for name, shape in tensors.items() if "norm" in name.lower()),
        biases=sum(math.prod(shape) for name, shape in tensors.items() if name.endswith(".bias")),
        keys=_key_width(text, hidden),
        linear=[
            (name.removesuffix(".weight"), shape[0], shape[1])
            for name, shape in tensors.items()
            if len(shape) == 2 and not any(part in name for part in ("embed", "lm_head", "score"))
        ],
    )


def read_shapes(model: ModelSpec) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The model's config and the shape of each of its tensors, by name; no weight is loaded. Raises `ModelError`."""
    return _local(model.path) if model.path is not None else _hub(model)


def _key_width(text: dict[str, Any], hidden: int) -> int:
    heads = int(text.get("num_attention_heads") or 1)
    width = int(text.get("head_dim") or hidden // heads)
    return width * int(text.get("num_key_value_heads") or heads)


def _local(folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            tensors |= weight_shapes(path, _header(path))
        except (struct.error, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path.name} is not a safetensors file.", code="model.damaged") from error
    return config, tensors


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: its length in 8 bytes, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MAX_HEADER:
            raise ValueError("too long a header")
        header: dict[str, Any] = json.loads(file.read(length))
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
    """How many weights are trained: all, some of the model's own, or those that the adapter adds."""
    tokens = adapter.virtual_tokens
    match adapter.type:
        case AdapterType.NONE:
            return shape.parameters - shape.frozen
        case AdapterType.BITFIT:
            return shape.biases
        case AdapterType.LN:
            return shape.norms
        case AdapterType.PROMPT:
            return tokens * shape.hidden
        case AdapterType.PREFIX:
            return tokens * shape.layers * 2 * shape.keys
        case AdapterType.P_TUNING:
            # The tokens and the three layers that make them.
            return tokens * shape.hidden + 3 * (shape.hidden + 1) * shape.hidden
    return sum(_added(adapter, rows, columns) for rows, columns in _layers(shape, adapter))


def _layers(shape: ModelShape, adapter: AdapterConfig) -> Iterator[tuple[int, int]]:
    """The output and input width of each layer that the adapter sits on."""
    targets: Sequence[str] | None = None if adapter.target_modules == "all-linear" else adapter.target_modules
    if targets is None and adapter.type is AdapterType.IA3:
        targets = ("k_proj", "v_proj", "down_proj")
    for name, rows, columns in shape.linear:
        if targets is None or any(f".{name}".endswith(f".{target}") for target in targets):
            # ia3 scales what goes into the last layer of a feed-forward block, elsewhere what comes out.
            yield (
                (columns, columns)
                if adapter.type is AdapterType.IA3 and name.endswith("down_proj")
                else (rows, columns)
            )


def _added(adapter: AdapterConfig, rows: int, columns: int) -> int:
    """The weights that the adapter adds to a layer."""
    low_rank = adapter.r * (rows + columns)
    match adapter.type:
        case AdapterType.DORA:
            return low_rank + rows
        case AdapterType.VERA:
            return adapter.r + rows
        case AdapterType.OFT:
            block = min(adapter.block_size, columns)
            return columns // block * (block * (block - 1) // 2)
        case AdapterType.IA3:
            return rows
        case AdapterType.LOHA:
            return 2 * low_rank
        case AdapterType.LOKR:
            return _lokr_weights(adapter.r, rows, columns)
    return low_rank


def _lokr_weights(rank: int, rows: int, columns: int) -> int:
    """A small factor in full and a large one, of low rank if that is smaller; widths split near their root."""
    small_rows, small_columns = _near_root(rows), _near_root(columns)
    large_rows, large_columns = rows // small_rows, columns // small_columns
    low_rank = rank < max(large_rows, large_columns) / 2
    large = rank * (large_rows + large_columns) if low_rank else large_rows * large_columns
    return small_rows * small_columns + large


def _near_root(width: int) -> int:
    return next(divisor for divisor in range(math.isqrt(width), 0, -1) if width % divisor == 0)


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
        round(_disk(shape, config, work, trained)),
        round(_seconds(shape, config, work, flops), 3),
    )


def estimate_answers(shape: ModelShape, answers: Answers, *, flops: float) -> Estimate:
    """What the run needs that writes these answers, on a machine that computes `flops` a second."""
    weights = shape.parameters * _FLOAT
    length = answers.prompt_tokens + answers.tokens
    written_at_once = answers.at_once * _FLOAT * (2 * length * shape.layers * shape.keys + shape.vocabulary)
    batches = math.ceil(answers.number / answers.at_once)
    compute = answers.number * length * 2 * shape.parameters / (flops * _EFFICIENCY)
    return Estimate(
        round(_LIBRARIES + weights + written_at_once + answers.scorer_weights * _FLOAT),
        answers.number * answers.tokens * _BYTES_OF_TOKEN,
        round(compute + batches * answers.tokens * weights / _MEMORY_BYTES_PER_SECOND, 3),
    )


def estimate_compression(shape: ModelShape, work: Compression, *, flops: float) -> Estimate:
    """What the run needs that makes a model smaller, on a machine that computes `flops` a second.

    What it was and what it is are held together, to be timed in turns.
    """
    weights = shape.parameters * _FLOAT
    read_at_once = work.at_once * work.tokens_of_long_row * (shape.vocabulary + 10 * shape.hidden)
    calibration = work.calibration_rows * work.tokens_per_row * shape.hidden
    # Calibration reads its rows whole, then layer by layer to see and again to go on.
    rows = 2 * work.rows + 3 * work.calibration_rows
    compute = rows * work.tokens_per_row * 2 * shape.parameters / (flops * _EFFICIENCY)
    return Estimate(
        round(_LIBRARIES + 2 * weights + (2 * read_at_once + calibration) * _FLOAT),
        work.written_bytes + _TOKENIZER,
        round(compute + 2 * work.answer_tokens * weights / _MEMORY_BYTES_PER_SECOND, 3),
    )


def _memory(shape: ModelShape, config: TrainConfig, work: Workload, trained: int) -> float:
    weights = shape.parameters * _BYTES_PER_WEIGHT.get(config.adapter.type, _FLOAT)
    copied = config.adapter.trains_whole_model or config.adapter.type in SPLITTING
    reference = weights if work.has_reference and copied else 0
    tokens = config.batch_size * work.tokens_of_long_row
    activations = tokens * shape.layers * (10 * shape.hidden + 4 * shape.intermediate) * _FLOAT
    if config.gradient_checkpointing:
        activations *= _ACTIVATIONS_KEPT
    logits = 3 * tokens * shape.vocabulary * _FLOAT if work.needs_logits else 0
    scorer = (work.scorer_weights + work.teacher_weights) * _FLOAT
    learned = (weights + 3 * _FLOAT * trained + activations) * _learners(work)
    return _LIBRARIES + learned + reference + scorer + logits


def _learners(work: Workload) -> int:
    """How many models are trained."""
    return 2 if work.has_value_model else 1


def _disk(shape: ModelShape, config: TrainConfig, work: Workload, trained: int) -> float:
    between = (work.steps - 1) // config.save_steps if config.save_steps else 0
    saved = shape.parameters if config.adapter.trains_whole_model else trained
    value_model = _FLOAT * trained if work.has_value_model else 0
    state = 2 * _FLOAT * trained * _learners(work) + value_model
    return (between + 1) * (_FLOAT * saved + state + _TOKENIZER)


def _seconds(shape: ModelShape, config: TrainConfig, work: Workload, flops: float) -> float:
    full = config.adapter.type is AdapterType.NONE
    passes = (
        (6 if full else 4) * _learners(work)
        + (2 if work.has_reference else 0)
        + (2 if config.gradient_checkpointing else 0)
    )
    rows = work.steps * config.batch_size * config.gradient_accumulation_steps
    evaluations = (2 + (work.steps - 1) // config.eval_steps if config.eval_steps else 2) if work.held_out_rows else 0
    held_out = evaluations * work.held_out_rows * (4 if work.has_reference else 2)
    if work.answer_tokens and not work.teacher_weights:
        # Answers are written, and read once more for how likely they were, before anything is learned from them.
        passes, held_out = passes + 4, held_out * 2
    operations = (rows * passes + held_out) * work.tokens_per_row * shape.parameters
    operations += (rows * 2 + held_out) * work.tokens_per_row * work.teacher_weights
    compute = operations / (flops * _EFFICIENCY)
    answers = 0
    if isinstance(config, WritingConfig) and config.generation.samples:
        answers = evaluations * config.generation.max_new_tokens
    # With a teacher, answers to held-out prompts are not written anew at each evaluation.
    evaluated = 0 if work.teacher_weights else evaluations * math.ceil(work.held_out_rows / config.batch_size)
    written = (work.rollouts + evaluated) * work.answer_tokens
    weights = answers * shape.parameters
    weights += written * (work.teacher_weights if work.teacher_writes else shape.parameters)
    return compute + weights * _FLOAT / _MEMORY_BYTES_PER_SECOND


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
