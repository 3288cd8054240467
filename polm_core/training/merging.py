"""Merging the weights of several models: whether they fit each other, the merge by mergekit, and what it moved."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from polm_core.context import ModelSpec, RunContext
from polm_core.environment import hide_progress_bars
from polm_core.errors import ModelError
from polm_core.estimate import read_shapes
from polm_core.training.adapters import check_merges
from polm_core.training.loading import check_writer, load_tokenizer, load_writer

_SHARD = "*.safetensors"
_INDEX = "*.safetensors.index.json"
_GENERATION = "generation_config.json"
# What merges of half-precision models stay in; others are in fp32.
_HALF = {"F16": "float16", "BF16": "bfloat16"}


def check_parent(model: ModelSpec) -> None:
    """Raise `ModelError` or `ConfigError` for a model whose weights nothing can be added to."""
    check_writer(model)
    if model.path is not None:
        check_precision(model, read_shapes(model)[0])
        _check_index(model, model.path)
    if model.adapter is not None:
        check_merges(model.adapter)


def check_alike(models: Sequence[ModelSpec]) -> None:
    """Raise `ModelError` unless all have weights of one shape and read the same tokens; no weight is loaded.

    The first is what the others are held against.
    """
    check_shapes(models)
    first, *others = models
    tokens = load_tokenizer(first).get_vocab()
    for other in others:
        if load_tokenizer(other).get_vocab() != tokens:
            raise ModelError(
                f"{other.name} has another tokenizer than {first.name}: the same row of their weights stands for other "
                "tokens.",
                code="model.tokenizer",
                advice="Merge models that were trained from the same one.",
            )


def check_shapes(models: Sequence[ModelSpec]) -> None:
    """Raise `ModelError` unless all are of one architecture, in full precision, with tensors of the same shapes."""
    first, *others = models
    config, shapes = read_shapes(first)
    check_precision(first, config)
    for other in others:
        other_config, other_shapes = read_shapes(other)
        check_precision(other, other_config)
        _check_architecture(first, config, other, other_config)
        _check_shapes(first, shapes, other, other_shapes)


def check_precision(model: ModelSpec, config: Mapping[str, Any]) -> None:
    """Raise `ModelError` for weights that are codes, and no numbers to add to."""
    if config.get("quantization_config"):
        raise ModelError(
            f"The weights of {model.name} are quantised: nothing can be added to them.",
            code="model.quantised",
            advice="Take the model in full precision, and quantise the result.",
        )


def _check_architecture(
    first: ModelSpec, config: Mapping[str, Any], other: ModelSpec, other_config: Mapping[str, Any]
) -> None:
    kinds = [one.get("architectures") or [one.get("model_type")] for one in (config, other_config)]
    if kinds[0] != kinds[1]:
        raise ModelError(
            f"{other.name} is a {kinds[1][0]}, and {first.name} a {kinds[0][0]}.",
            code="model.architecture",
            advice="Merge models of one architecture; best are those that were trained from the same one.",
        )


def _check_shapes(
    first: ModelSpec, shapes: Mapping[str, list[int]], other: ModelSpec, other_shapes: Mapping[str, list[int]]
) -> None:
    name = next((name for name in sorted({*shapes, *other_shapes}) if shapes.get(name) != other_shapes.get(name)), None)
    if name is None:
        return
    sizes = [" x ".join(map(str, one[name])) if name in one else "missing" for one in (shapes, other_shapes)]
    raise ModelError(
        f"{name} is {sizes[1]} in {other.name}, and {sizes[0]} in {first.name}: {other.name} has another size.",
        code="model.shape",
        advice="Merge models that were trained from the same one.",
    )


def lay_out(model: ModelSpec, folder: Path) -> None:
    """The model's whole weights in a new folder that holds nothing beside config and safetensors: what mergekit reads.

    An adapter is merged into its base. Weights that are whole already are linked.
    """
    folder.mkdir(parents=True)
    if model.path is None or model.adapter is not None:
        load_writer(model).save_pretrained(folder)
    else:
        for pattern in ("config.json", _GENERATION, _SHARD, _INDEX):
            for path in model.path.glob(pattern):
                (folder / path.name).symlink_to(path.resolve())


def _check_index(model: ModelSpec, folder: Path) -> None:
    """An index must name files of its own folder: mergekit would unpickle those of another kind."""
    for path in folder.glob(_INDEX):
        named = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        if unknown := named - {shard.name for shard in folder.glob(_SHARD)}:
            raise ModelError(
                f"The index of {model.name} names {min(unknown)}, which is no safetensors file beside it.",
                code="model.damaged",
                advice="Save the model once more with save_pretrained.",
            )


def merge_weights(
    recipe: Mapping[str, Any], folders: Sequence[Path], out: Path, device: Any
) -> Iterator[tuple[int, int]]:
    """Write the merged weights and their config to `out`; yields how many tensors of how many are done.

    `recipe` is mergekit's configuration, of the models in `folders`. Its own `run_merge` does the same in one call,
    which nobody could stop and which says nothing until its end.
    """
    from mergekit.architecture import get_architecture_info
    from mergekit.config import MergeConfiguration
    from mergekit.graph import Executor
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import MergeOptions
    from mergekit.plan import MergePlanner
    from transformers import AutoConfig

    hide_progress_bars()
    dtype = _dtype(folders)
    options = MergeOptions(trust_remote_code=False, lazy_unpickle=False, safe_serialization=True, quiet=True)
    plan = MergeConfiguration.model_validate({"dtype": "float32", "out_dtype": dtype, **recipe})
    cache = LoaderCache()
    cache.setup(options)
    config = AutoConfig.from_pretrained(folders[0], trust_remote_code=False)
    config.dtype = dtype
    try:
        architecture = get_architecture_info(plan, options)
        tasks = MergePlanner(plan, architecture, options=options, out_model_config=config).plan_to_disk(str(out))
    # It raises errors of many kinds for what it does not know.
    except Exception as error:
        raise _unknown(" ".join(str(error).split())[:300]) from error
    try:
        for done, _ in enumerate(Executor(tasks, math_device=device).run(quiet=True), 1):
            # The last task closes the files.
            yield min(done, len(tasks) - 1), len(tasks) - 1
    finally:
        cache.flush_all()
        cache.loaders.clear()
    config.save_pretrained(out)
    for path in folders[0].glob(_GENERATION):
        shutil.copy(path, out)


def _unknown(what: str) -> ModelError:
    return ModelError(
        f"mergekit does not know how to merge these models: {what}",
        code="model.architecture",
        advice="Merge models of an architecture that it knows, such as Llama, Qwen2, Gemma or Mistral.",
    )


def _dtype(folders: Sequence[Path]) -> str:
    """That of the models where all are in the same half precision, else fp32."""
    kinds = set()
    for folder in folders:
        for _, tensor in _slices(folder):
            kinds.add(tensor.get_dtype())
    return _HALF.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"


def _slices(folder: Path) -> Iterator[tuple[str, Any]]:
    """The name of each tensor with a view that tells of it without reading it."""
    from safetensors import safe_open

    for path in sorted(folder.glob(_SHARD)):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                yield name, file.get_slice(name)


def distances(merged: Path, folders: Sequence[Path], context: RunContext) -> list[float]:
    """How far the merged weights are from those of each model: the norm of the difference over all tensors.

    Raises `ModelError` when a tensor of the models is not in the merged one, or is not finite there.
    """
    import torch
    from safetensors import safe_open

    sums = [0.0] * len(folders)
    missing = {name for name, _ in _slices(folders[0])}
    with ExitStack() as files:
        tensors: list[dict[str, Any]] = [{} for _ in folders]
        for place, folder in enumerate(folders):
            for path in folder.glob(_SHARD):
                file = files.enter_context(safe_open(path, framework="pt"))
                tensors[place] |= dict.fromkeys(file.keys(), file)
        for name, view in _slices(merged):
            missing.discard(name)
            weights = view[:].double()
            if not torch.isfinite(weights).all():
                raise ModelError(
                    f"The merge made numbers of {name} that are not finite.",
                    code="model.not_finite",
                    advice="Lower the scale and the weights.",
                )
            for place, known in enumerate(tensors):
                sums[place] += (weights - known[name].get_tensor(name).double()).square().sum().item()
            context.sign_of_life()
    if missing:
        raise _unknown(f"it leaves out {min(missing)}.")
    return [math.sqrt(one) for one in sums]
