"""Answering a preflight: a child with the tokenizer looks at the rows as the model would."""

import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings

from polm_core.context import RunSpec, dump_spec
from polm_core.errors import PolmError
from polm_core.run_dir import write_atomic
from webapp.datasets.models import DatasetVersion
from webapp.registry.models import BaseModel
from webapp.runs.models import Preflight
from webapp.runs.services import preflight_finish
from workers import children, presence
from workers.judges import judge_env
from workers.supervisor import dataset_spec, model_spec

SECONDS = 40.0


def answer(preflight_id: str) -> None:
    """Work out one preflight and store the report, or the error with its advice."""
    preflight = Preflight.objects.filter(pk=preflight_id, report__isnull=True, error__isnull=True).first()
    if preflight is None:
        return
    folder = settings.VAR_DIR / "preflights" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        request = preflight.request
        models = BaseModel.objects.select_related("checkpoint__base_model")
        scorer, judge, teacher = (request.get(f"{role}_model") for role in ("reward", "judge", "teacher"))
        rows, evaluation = request["dataset_version"], request["eval_dataset_version"]
        documents = request.get("documents_version")
        spec = RunSpec(
            method=request["method"],
            model=model_spec(models.get(pk=request["model"])),
            reward_model=model_spec(models.get(pk=scorer)) if scorer else None,
            judge_model=model_spec(models.get(pk=judge)) if judge else None,
            teacher_model=model_spec(models.get(pk=teacher)) if teacher else None,
            merge_models=[model_spec(models.get(pk=one)) for one in request.get("merge_models", ())],
            dataset=dataset_spec(DatasetVersion.objects.get(pk=rows)) if rows else None,
            eval_dataset=dataset_spec(DatasetVersion.objects.get(pk=evaluation)) if evaluation else None,
            documents=dataset_spec(DatasetVersion.objects.get(pk=documents)) if documents else None,
            config=request["config"],
        )
        write_atomic(folder / "spec.yaml", dump_spec(spec))
        env = children.gpu_environment(presence.current().gpus) | judge_env(preflight.team_id, spec.config)
        row = [Path(str(request["row"]))] if "row" in request else []
        child = children.start("preflight", folder, folder / "spec.yaml", folder / "report.json", *row, env=env)
        deadline = time.monotonic() + SECONDS
        while child.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        if child.alive():
            child.kill()
            raise PolmError(
                "Looking at the data took too long.", code="preflight.slow", advice="Launch without the preflight."
            )
        preflight_finish(preflight_id=preflight_id, **_outcome(folder / "report.json"))
    except PolmError as error:
        preflight_finish(preflight_id=preflight_id, error=error.as_dict())
    except children.ForkServerDown:
        preflight_finish(
            preflight_id=preflight_id,
            error=PolmError("The worker could not start the preflight.", code="unavailable").as_dict(),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _outcome(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        error = PolmError("The preflight ended without a report.", code="preflight.crashed", advice="See the log.")
        return {"error": error.as_dict()}
    if "error" in report:
        return {"error": report["error"]}
    return {"report": report}
