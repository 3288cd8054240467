"""A run as a file for `python -m polm_core run`, with what has to stand beside it."""

from collections.abc import Mapping
from typing import Any

import yaml

from polm_core import catalogue
from webapp.datasets.models import DatasetVersion
from webapp.registry.models import BaseModel, Checkpoint, CheckpointKind, ModelSource
from webapp.runs.models import Run

STARTER = "./starter"


def config_yaml(run: Run) -> str:
    """All of a run: its paths name files and folders beside the file, and the comment on top says where to get them."""
    rows, held_out, documents = run.dataset_version, run.eval_dataset_version, run.documents_version
    others = {name: getattr(run, name) for name in ("reward_model", "judge_model", "teacher_model")}
    merged = [one.model for one in run.merge_models.select_related("model__checkpoint__base_model")]
    spec = {
        "run_id": str(run.pk),
        "method": run.method,
        "model": model_entry(run.model),
        **{name: model_entry(other) if other else None for name, other in others.items()},
        "merge_models": [model_entry(one) for one in merged],
        "dataset": rows_entry(rows) if rows else None,
        "eval_dataset": rows_entry(held_out) if held_out else None,
        "documents": rows_entry(documents) if documents else None,
        "config": settings_in_order(run.method, run.config),
        "code_version": run.code_version,
    }
    needed: dict[str, str] = {}
    for model in (run.model, *others.values(), *merged):
        needed |= _model_sources(model) if model else {}
    needed |= {f"./{one.rows_filename}": _rows_source(one) for one in (rows, held_out, documents) if one}
    needed |= {images_folder(one): _images_source(one) for one in (rows, held_out) if one and one.has_images}
    comment = "".join(f"# {path}: {source}\n" for path, source in needed.items())
    return f"{comment}{yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)}"


def settings_in_order(method: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A config in the order of the method's own settings: the database keeps none."""
    known = catalogue.find(method)
    return _in_order(config, known.default_config() if known else {})


def _in_order(values: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    names = [*(name for name in like if name in values), *(name for name in values if name not in like)]
    return {
        name: _in_order(values[name], like[name])
        if isinstance(values[name], dict) and isinstance(like.get(name), dict)
        else values[name]
        for name in names
    }


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by the names that lead to them: `{"adapter.r": 8}`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def rows_entry(version: DatasetVersion) -> dict[str, str]:
    """Rows in a file beside the config, under the name that their download has."""
    images = {"images": images_folder(version)} if version.has_images else {}
    return {"path": f"./{version.rows_filename}", "format": version.format, **images}


def model_entry(model: BaseModel | Checkpoint) -> dict[str, str]:
    """A model on the hub or in a folder beside the config; an adapter with the model that it was trained on."""
    if isinstance(model, BaseModel):
        if model.checkpoint is not None:
            return model_entry(model.checkpoint)
        if model.source == ModelSource.HUB:
            return {"hub_id": model.hub_id} | ({"revision": model.revision} if model.revision else {})
        # The starter's weights are in 4 bits, those of the hub are not: from these the run would be another one.
        return {"path": STARTER if model.source == ModelSource.STARTER else f"./{model.name}"}
    folder = f"./{model.folder_name}"
    if model.kind == CheckpointKind.MODEL or model.base_model is None:
        return {"path": folder}
    return {**model_entry(model.base_model), "adapter": folder}


def _model_sources(model: BaseModel | Checkpoint) -> dict[str, str]:
    """Where each folder that `model_entry` names comes from."""
    if isinstance(model, BaseModel):
        if model.checkpoint is not None:
            return _model_sources(model.checkpoint)
        if model.source == ModelSource.STARTER:
            return {STARTER: f"python -m polm_core starter {STARTER}"}
        return {f"./{model.name}": f"the folder {model.path} of the workers"} if model.path else {}
    below = _model_sources(model.base_model) if model.base_model and model.kind == CheckpointKind.ADAPTER else {}
    return {**below, f"./{model.folder_name}": f"GET /api/v1/checkpoints/{model.pk}/download, unpacked"}


def _rows_source(version: DatasetVersion) -> str:
    return f"GET /api/v1/datasets/{version.dataset_id}/rows.jsonl?version={version.number}"


def images_folder(version: DatasetVersion) -> str:
    """The folder beside the file with the images that a version's rows name."""
    return f"./{version.rows_filename.removesuffix('.jsonl')}-images"


def _images_source(version: DatasetVersion) -> str:
    return (
        f"GET /api/v1/datasets/{version.dataset_id}/images/NAME?version={version.number}, for each that the rows name"
    )
