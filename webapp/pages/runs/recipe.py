"""A run written down: as a file for the command line, and as a call of the API."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from webapp.datasets.models import DatasetVersion
from webapp.registry.models import BaseModel, Checkpoint


def config_file(
    *,
    method: str,
    model: BaseModel | Checkpoint,
    reward_model: BaseModel | Checkpoint | None,
    judge_model: BaseModel | Checkpoint | None,
    rows: DatasetVersion,
    held_out: DatasetVersion | None,
    config: Mapping[str, Any],
) -> str:
    """What `python -m polm_core run` takes; the model and the rows are to be put beside the file."""
    spec = {
        "method": method,
        "model": _where(model),
        **({"reward_model": _where(reward_model)} if reward_model is not None else {}),
        **({"judge_model": _where(judge_model)} if judge_model is not None else {}),
        "dataset": {"path": "./rows.jsonl", "format": rows.format},
    }
    if held_out is not None:
        spec["eval_dataset"] = {"path": "./held-out.jsonl", "format": held_out.format}
    if config:
        spec["config"] = dict(config)
    return str(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))


def _where(model: BaseModel | Checkpoint) -> dict[str, str]:
    hub_id = model.hub_id if isinstance(model, BaseModel) else ""
    return {"hub_id": hub_id} if hub_id else {"path": f"./{model.name}"}


def api_call(url: str, body: Mapping[str, Any]) -> str:
    """The call that queues the run, for a shell that has the token in `$TOKEN`."""
    lines = [
        f"curl {shlex.quote(url)}",
        '-H "Authorization: Bearer $TOKEN"',
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(json.dumps(body, indent=2, ensure_ascii=False))}",
    ]
    return " \\\n  ".join(lines)
