"""A run written down: as a file for the command line, and as a call of the API."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from webapp.datasets.models import DatasetVersion
from webapp.registry.models import BaseModel, Checkpoint
from webapp.runs.config_files import model_entry, rows_entry


def config_file(
    *,
    method: str,
    model: BaseModel | Checkpoint,
    others: Mapping[str, BaseModel | Checkpoint],
    merged: Sequence[BaseModel | Checkpoint],
    rows: DatasetVersion | None,
    held_out: DatasetVersion | None,
    documents: DatasetVersion | None,
    config: Mapping[str, Any],
) -> str:
    """What `python -m polm_core run` takes; the models and the rows are to be put beside the file.

    `others` are the models that score or teach, by their fields.
    """
    spec: dict[str, Any] = {"method": method, "model": model_entry(model)}
    spec |= {field: model_entry(one) for field, one in others.items()}
    if merged:
        spec["merge_models"] = [model_entry(one) for one in merged]
    if rows is not None:
        spec["dataset"] = rows_entry(rows)
    if held_out is not None:
        spec["eval_dataset"] = rows_entry(held_out)
    if documents is not None:
        spec["documents"] = rows_entry(documents)
    if config:
        spec["config"] = dict(config)
    return str(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))


def api_call(url: str, body: Mapping[str, Any]) -> str:
    """The call that queues the run, for a shell that has the token in `$TOKEN`."""
    lines = [
        f"curl {shlex.quote(url)}",
        '-H "Authorization: Bearer $TOKEN"',
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(json.dumps(body, indent=2, ensure_ascii=False))}",
    ]
    return " \\\n  ".join(lines)
