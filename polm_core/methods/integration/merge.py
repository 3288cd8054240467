"""Model merging: the weights of several models become those of one, without training and without data."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from polm_core.blocks import MAIN, OneProcessConfig, setting
from polm_core.context import MAX_MERGED, ModelSpec, RunContext, RunSpec
from polm_core.errors import ConfigError
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.preflight_report import Report

# These merge what models have learned beyond the one that they were trained from, which is the one the run starts from.
FROM_BASE = frozenset({"task_arithmetic", "ties", "dare_ties", "model_stock"})
# These find out themselves how much each model counts.
UNWEIGHTED = frozenset({"model_stock"})
# These drop a part of what was learned.
_SPARSE = frozenset({"ties", "dare_ties"})
_FLOAT = 4
_LIBRARIES = 600_000_000
# Weights are read, added up and written at about this speed.
_BYTES_PER_SECOND = 100_000_000


class MergeConfig(OneProcessConfig):
    """Settings of a merge."""

    merge_method: Literal["linear", "slerp", "task_arithmetic", "ties", "dare_ties", "model_stock"] = setting(
        "linear", group=MAIN, source="model soups, arXiv 2203.05482"
    )
    """`linear` takes the mean of all models. `slerp` goes the way between two of them along the sphere. The others take
    the model that the run starts from as the base that the rest were trained from, and merge what these have learned
    beyond it: `task_arithmetic` adds it up, `ties` first drops small changes and settles conflicts of sign,
    `dare_ties` drops changes at random, `model_stock` finds the weights itself, from the angles between the models."""

    weights: list[float] = setting(
        [], group=MAIN, source="model soups, arXiv 2203.05482", beside="merge_models", max_length=MAX_MERGED + 1
    )
    """How much each model counts, in their order: the one that the run starts from first, unless it is the base.
    Empty lets all count alike. `slerp` goes so far from the first to the second as the second's share is; `model_stock`
    takes no weights."""

    normalize: bool = setting(True, group=MAIN, source="mergekit, for linear and ties")
    """Divide the weights by their sum. Off, what was learned is added up in full, as in task arithmetic's paper, and
    the weights have to be small."""

    scale: float = setting(1.0, group=MAIN, source="TIES, arXiv 2306.01708, section 4", step=0.1, gt=0, le=10)
    """How much of what was learned goes onto the base: above 1 more than the mean of it. For `task_arithmetic`, `ties`
    and `dare_ties`."""

    density: float = setting(0.5, group=MAIN, source="mergekit's examples; TIES keeps 0.2", step=0.05, gt=0, le=1)
    """Share of the changes that `ties` keeps, the largest ones, or `dare_ties`, drawn at random."""

    @property
    def starts_from_base(self) -> bool:
        """Whether the model that the run starts from is the base of the others, and not one of those merged."""
        return self.merge_method in FROM_BASE

    @property
    def takes_weights(self) -> bool:
        return self.merge_method not in UNWEIGHTED

    @property
    def least(self) -> int:
        """The fewest models it takes, the one that the run starts from counted."""
        return 3 if self.merge_method == "model_stock" else 2


def check_merge(config: MergeConfig, spec: RunSpec) -> list[ModelSpec]:
    """The models of the run, the one that it starts from first; no weight is loaded.

    Raises `ConfigError` for models or a dataset that the merge cannot take, and what `check_choice`, `check_parent` and
    `check_alike` do.
    """
    from polm_core.training.merging import check_alike, check_parent

    models = [spec.model, *spec.merge_models]
    check_choice(config, len(models))
    for place, model in enumerate(models):
        if any(_source(model) == _source(other) for other in models[:place]):
            raise _wrong_models(f"{model.name} is named twice.", "must name each model once", "Take another model.")
    if spec.dataset is not None or spec.eval_dataset is not None:
        raise ConfigError(
            "A merge takes no dataset.",
            fields={"dataset": ["must be left out"]},
            advice="Leave the dataset out; evaluate the merged model afterwards.",
        )
    for model in models:
        check_parent(model)
    check_alike(models)
    return models


def check_choice(config: MergeConfig, count: int) -> None:
    """Raise `ConfigError` unless `count` models, the one that the run starts from counted, can be merged so."""
    if count > MAX_MERGED + 1:
        problem = f"must name at most {MAX_MERGED} models, not {count - 1}"
        raise _wrong_models("These are too many models.", problem, "Merge some of them, and the result with the rest.")
    if config.merge_method == "slerp" and count != 2:
        raise _wrong_models(
            f"slerp goes between two models, and the run has {count}.",
            "must name exactly one more model for slerp",
            "Name one more model than the run starts from, or take linear for several.",
        )
    if count < config.least:
        needs = "a base and two models trained from it" if config.least == 3 else "two models"
        raise _wrong_models(
            f"{config.merge_method} takes at least {needs}, and the run has {count} in all.",
            f"must name at least {config.least - 1} beside the model that the run starts from",
            "Name further models to merge, as merge_models.",
        )
    if config.weights and config.takes_weights:
        _check_weights(config, count - config.starts_from_base)


def _check_weights(config: MergeConfig, wanted: int) -> None:
    weights = config.weights
    if len(weights) != wanted:
        whose = "each model but the base" if config.starts_from_base else "each model"
        raise _wrong_weights(f"must be {wanted}, one for {whose}, not {len(weights)}")
    if abs(sum(weights)) < 1e-6:
        raise _wrong_weights("must not add up to 0: nothing of the models would be left")
    if config.merge_method == "slerp" and min(weights) < 0:
        raise _wrong_weights("must not be below 0 for slerp, which stays between the models")


def _wrong_weights(problem: str) -> ConfigError:
    return ConfigError(f"The weights {problem}.", fields={"config.weights": [problem]})


def _wrong_models(message: str, problem: str, advice: str) -> ConfigError:
    return ConfigError(message, fields={"merge_models": [problem]}, advice=advice)


def _source(model: ModelSpec) -> tuple[str, str | None, str]:
    return model.source, model.revision, str(model.adapter or "")


def preflight(config: MergeConfig, spec: RunSpec, report: Report) -> None:
    """What `check_merge` raises, and what the merge will need."""
    from polm_core.estimate import model_shape

    models = check_merge(config, spec)
    size = model_shape(spec.model).parameters * _FLOAT
    written = sum(size for model in models if model.adapter is not None or model.path is None)
    report.memory_bytes = _LIBRARIES + 2 * size
    report.disk_bytes = size + written
    report.seconds = round((size * (len(models) + 1) + 2 * written) / _BYTES_PER_SECOND, 1)


def recipe(config: MergeConfig, models: Sequence[str]) -> dict[str, Any]:
    """The merge as mergekit takes it, of the models in these folders."""
    base, merged = (models[0], models[1:]) if config.starts_from_base else (None, models)
    weights = config.weights or [1.0] * len(merged)
    if not config.takes_weights:
        return {"merge_method": config.merge_method, "base_model": base, "models": [{"model": one} for one in merged]}
    if config.merge_method == "slerp":
        share = weights[1] / sum(weights)
        entries: list[dict[str, Any]] = [{"model": one} for one in models]
        return {"merge_method": "slerp", "base_model": models[0], "models": entries, "parameters": {"t": share}}
    density = {"density": config.density} if config.merge_method in _SPARSE else {}
    entries = [
        {"model": one, "parameters": {"weight": weight, **density}} for one, weight in zip(merged, weights, strict=True)
    ]
    parameters = {"normalize": config.normalize} | ({"lambda": config.scale} if base else {})
    return {
        "merge_method": config.merge_method,
        "models": entries,
        "parameters": parameters,
        **({"base_model": base} if base else {}),
    }


def run(config: MergeConfig, context: RunContext) -> dict[str, float]:
    """Merge the models, save the one they make, and return how far it is from each of them."""
    from transformers import set_seed

    from polm_core.training.loading import load_tokenizer, training_device
    from polm_core.training.merging import check_shapes, distances, lay_out, merge_weights
    from polm_core.training.reporting import complete_checkpoint

    began = time.monotonic()
    context.phase("checking the models")
    models = check_merge(config, context.spec)
    with TemporaryDirectory(prefix=".merging-", dir=context.run_dir.root) as scratch:
        folders = [Path(scratch) / str(place) for place in range(len(models))]
        for model, folder in zip(models, folders, strict=True):
            context.check()
            context.phase(f"reading {model.name}")
            lay_out(model, folder)
        check_shapes([ModelSpec(path=folder, name=model.name) for model, folder in zip(models, folders, strict=True)])
        context.check()
        context.phase("merging")
        # dare_ties draws what it drops.
        set_seed(config.seed)
        merged, step = Path(scratch) / "merged", 0
        for step, total in merge_weights(
            recipe(config, list(map(str, folders))), folders, merged, training_device(config)
        ):
            context.check()
            context.progress(step=step, total_steps=total)
        context.phase("measuring")
        away = distances(merged, folders, context)
        context.log_metrics(
            step,
            {
                **{f"distance/{place}": distance for place, distance in enumerate(away, 1)},
                "tensors": float(step),
                "size_bytes": float(sum(path.stat().st_size for path in merged.glob("*.safetensors"))),
                "seconds": time.monotonic() - began,
            },
        )
        context.phase("saving")
        load_tokenizer(context.spec.model).save_pretrained(merged)
        complete_checkpoint(context, merged, step, config.task)
    context.phase("done")
    return dict(context.latest)


METHOD = Method(
    slug="merge",
    title="Model merging",
    paradigm=Paradigm.INTEGRATION,
    branch="Model merging",
    summary="Makes one model of the weights of several, so that it does what each of them learned. Trains nothing.",
    when="You have two or more models that were trained from the same one, each good at something. It takes seconds, "
    "and no data.",
    paper=Paper("Model soups: averaging weights of multiple fine-tuned models improves accuracy", "2203.05482"),
    objective="Optimises nothing: models that were trained from one lie in the same basin of the loss, where a point "
    "between them is about as good at the task of each.",
    formula="linear: θ = Σ_i w_i θ_i\n"
    "slerp: θ = sin((1-t)Ω)/sin(Ω) θ_1 + sin(tΩ)/sin(Ω) θ_2, Ω the angle between them\n"
    "task_arithmetic: θ = θ_base + scale · Σ_i w_i (θ_i - θ_base)\n"
    "ties, dare_ties: the same of changes of which a share, density, is kept, in the sign that outweighs the other\n"
    "model_stock: θ = t · mean_i θ_i + (1-t) · θ_base, t from the mean angle between the changes",
    watch=(
        "A result that is good at nothing: the models come from different ones, or were trained far apart. Lower the "
        "learning rate that they are trained with, or merge with `ties`.",
        "One skill that has faded: give its model more weight. Evaluate the merged model on the rows of each.",
        "`density` that is small with `dare_ties` and few models: what is kept is scaled up, and may grow too large.",
        "A distance of 0: the merged model is that one.",
    ),
    formats=(),
    config=MergeConfig,
    run=run,
    charts=(
        ChartSpec(
            "Distance to each model",
            ("distance/1", "distance/2"),
            "norm of the difference of all weights",
            "How far the merged model is from the one that the run starts from (1), the second (2), and so on. The "
            "nearer it is to one, the more it will do as that one does.",
        ),
        ChartSpec(
            "Size",
            ("size_bytes",),
            "bytes",
            "Of the merged weights: as large as one of the models, however many they were.",
        ),
    ),
    main_fields=("merge_method", "weights", "normalize", "scale", "density", "seed"),
    devices="The CPU will do: each weight is read once.",
    merges=True,
    preflight=preflight,
)
