"""Models on the workers' side: preparing them once, and finding them on this machine's disk."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from polm_core.context import ModelSpec
from polm_core.errors import ModelError, PolmError
from polm_core.run_dir import sha256_of, write_atomic
from polm_core.starter import StarterProgress
from polm_core.training.loading import check_folder
from webapp import artifacts
from webapp.accounts.services import HUB_TOKEN, secret_get
from webapp.registry.models import BaseModel, Checkpoint, CheckpointKind, ModelSource, ModelStatus
from webapp.registry.rules import path_within_roots
from webapp.registry.services import model_claim, model_fail, model_key, model_progress, model_ready, model_release
from workers import presence
from workers.hub import HubAnswer, HubJob, HubProgress
from workers.jobs import TICK, JobInterrupted, how_it_ended, run_job

STARTER_SECONDS = 15 * 60.0
HUB_SECONDS = 12 * 3600.0


@dataclass(frozen=True)
class Prepared:
    """A folder that holds a complete model, and the commit it was fetched at."""

    folder: Path
    revision: str = ""


def prepare(model_id: str) -> None:
    """Make a model ready for runs, or say why it cannot be. Does nothing when another worker is at it."""
    model = model_claim(model_id=model_id)
    if model is None:
        return
    try:
        prepared = _PREPARE[ModelSource(model.source)](model)
        check_folder(ModelSpec(path=prepared.folder))
        parameters, context_length = parameter_count(prepared.folder), _context_length(prepared.folder)
        key = model_key(model)
        if key:
            _store(model, prepared.folder, key)
        model_ready(model=model, parameters=parameters, context_length=context_length, revision=prepared.revision)
    except JobInterrupted:
        model_release(model=model)
        _clean_up_deleted(model)
        return
    except PolmError as error:
        model_fail(model=model, error=error)
    if model.source == ModelSource.HUB:
        shutil.rmtree(_workplace(model), ignore_errors=True)


def _clean_up_deleted(model: BaseModel) -> None:
    """Remove what was fetched and stored of a model that somebody deleted meanwhile."""
    key = model_key(model)
    if key and not BaseModel.objects.filter(pk=model.pk).exists():
        shutil.rmtree(_workplace(model), ignore_errors=True)
        artifacts.delete(key)


def local_path(model: BaseModel) -> tuple[Path, Path | None]:
    """The model's folder on this machine, and that of the adapter on it, if there is one; fetched when need be.

    Raises ModelError when the model is not ready or not to be found from here.
    """
    if model.checkpoint is not None:
        return checkpoint_path(model.checkpoint)
    if model.status != ModelStatus.READY:
        raise ModelError(f"{model.name} is not ready.", code="model.not_ready", advice="See the model's page.")
    key = model_key(model)
    folder = _fetched(key) if key else path_within_roots(model.path)
    check_folder(ModelSpec(path=folder))
    return folder, None


def checkpoint_path(checkpoint: Checkpoint) -> tuple[Path, Path | None]:
    """As `local_path`, for a checkpoint: an adapter comes with the model it was trained on."""
    folder = _fetched(checkpoint.key)
    if checkpoint.kind == CheckpointKind.MODEL:
        return folder, None
    if checkpoint.base_model is None:
        raise ModelError(f"The model under the adapter {checkpoint.name} is gone.", code="model.missing")
    return local_path(checkpoint.base_model)[0], folder


def secret_env(model: BaseModel) -> dict[str, str]:
    """What a process needs in its environment to fetch the model from the hub."""
    token = secret_get(team_id=model.team_id, name=HUB_TOKEN) if model.team_id else None
    return {"HF_TOKEN": token} if token and model.source == ModelSource.HUB else {}


def parameter_count(folder: Path) -> int:
    """How many numbers the model's weight files hold. Raises ModelError for a file that is no safetensors file."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as weights:
                total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path.name} is not a whole safetensors file: {error}",
                code="model.damaged",
                advice="Copy or download it again.",
            ) from error
    return total


def _context_length(folder: Path) -> int | None:
    config = json.loads((folder / "config.json").read_bytes())
    parts = [config, config.get("text_config")] if isinstance(config, dict) else []
    lengths = [part.get("max_position_embeddings") for part in parts if isinstance(part, dict)]
    return next((length for length in lengths if isinstance(length, int) and 0 < length < 2**31), None)


# --- one function for each source of models ---------------------------------------------------------------------------
def _prepare_starter(model: BaseModel) -> Prepared:
    folder: Path = settings.VAR_DIR / "models" / "starter"
    progress = folder.with_name(f"{folder.name}.progress.json")

    def report() -> bool:
        try:
            now = StarterProgress.model_validate_json(progress.read_bytes())
        except (OSError, ValueError):
            now = StarterProgress(phase="starting", fraction=0)
        return model_progress(model=model, phase=now.phase, fraction=now.fraction)

    log = settings.VAR_DIR / "logs" / "starter.log"
    command = [sys.executable, "-m", "polm_core", "starter", str(folder)]
    code = run_job(command, log=log, go_on=report, seconds=STARTER_SECONDS, stopping=presence.shutting_down)
    progress.unlink(missing_ok=True)
    if code:
        raise _failed("Converting the starter model", code, log)
    return Prepared(folder)


def _prepare_hub(model: BaseModel) -> Prepared:
    workplace = _workplace(model)
    folder = workplace / "files"
    folder.mkdir(parents=True, exist_ok=True)
    job = workplace / "job.json"
    write_atomic(job, HubJob(hub_id=model.hub_id, revision=model.revision, folder=folder).model_dump_json())
    log = workplace / "log.txt"
    code = run_job(
        [sys.executable, "-m", "workers.hub", str(job)],
        log=log,
        go_on=lambda: model_progress(model=model, phase="downloading", fraction=_fraction_fetched(workplace)),
        seconds=HUB_SECONDS,
        env={"HF_HUB_DISABLE_TELEMETRY": "1", **secret_env(model)},
        stopping=presence.shutting_down,
    )
    if code:
        raise _failed("Downloading the model", code, log)
    answer = HubAnswer.model_validate_json((workplace / "answer.json").read_bytes())
    if answer.error:
        raise PolmError(answer.error["message"], code=answer.error["code"], advice=answer.error["advice"])
    return Prepared(folder, answer.revision)


def _prepare_path(model: BaseModel) -> Prepared:
    return Prepared(path_within_roots(model.path))


_PREPARE: dict[ModelSource, Callable[[BaseModel], Prepared]] = {
    ModelSource.STARTER: _prepare_starter,
    ModelSource.HUB: _prepare_hub,
    ModelSource.PATH: _prepare_path,
}


def _workplace(model: BaseModel) -> Path:
    workplace: Path = settings.CACHE_DIR / "hub" / str(model.pk)
    return workplace


def _fraction_fetched(workplace: Path) -> float | None:
    try:
        total = HubProgress.model_validate_json((workplace / "progress.json").read_bytes()).bytes_total
    except (OSError, ValueError):
        return None
    there = 0
    for path in (workplace / "files").rglob("*"):
        try:
            there += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # a finished download is renamed
            continue
    return min(there / total, 1.0) if total else None


def _store(model: BaseModel, folder: Path, key: str) -> None:
    """Put the model where every worker finds it; its config.json goes last and makes it complete.

    A big file takes longer than a claim lasts, so the claim is renewed meanwhile.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files.sort(key=lambda path: path.name == "config.json")
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="store") as pool:
        puts = [pool.submit(_put, path, f"{key}/{path.relative_to(folder).as_posix()}") for path in files]
        while not all(put.done() for put in puts):
            done = sum(put.done() for put in puts)
            if presence.shutting_down.wait(TICK) or not model_progress(
                model=model, phase="storing", fraction=done / len(files)
            ):
                pool.shutdown(cancel_futures=True)
                raise JobInterrupted
        for put in puts:
            put.result()


def _put(path: Path, key: str) -> None:
    artifacts.put_verified(path, key, sha256_of(path))


def _fetched(key: str) -> Path:
    try:
        return artifacts.local_folder(key)
    except FileNotFoundError:
        raise ModelError("The model's files are no longer in the artifact store.", code="model.missing") from None


def _failed(what: str, code: int, log: Path) -> ModelError:
    return ModelError(
        f"{what} {how_it_ended(code, log)}",
        code="model.preparation",
        advice="See that the worker has enough memory and disk, then try again.",
    )
