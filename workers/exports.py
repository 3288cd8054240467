"""Exporting checkpoints, and checking what the exports have kept: each in a child process that loads the models."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from django.conf import settings
from pydantic import BaseModel

from polm_core.context import ModelSpec
from polm_core.errors import ModelError, PolmError
from polm_core.export import ExportFormat, ExportJob, WorkProgress, check_exports
from polm_core.parity import ParityForm, ParityJob
from polm_core.run_dir import sha256_of
from webapp import artifacts
from webapp.claimed import WorkStatus
from webapp.registry.exports import (
    check_room,
    exports_of,
    exports_wait,
    work_claim,
    work_fail,
    work_finish,
    work_progress,
    work_release,
)
from webapp.registry.models import Checkpoint, Export, ParityCheck
from workers import presence
from workers.jobs import TICK, JobInterrupted, ask_child
from workers.models import checkpoint_path
from workers.supervisor import dataset_spec
from workers.turns import take_turns

SECONDS = 2 * 3600.0

_working = threading.Lock()


def work(_work_id: str = "") -> None:
    """Carry out what waits, until nothing does."""
    take_turns(_working, exports_wait, work_claim, _carry_out)


def _carry_out(found: Export | ParityCheck) -> None:
    folder: Path = settings.VAR_DIR / "exports" / str(found.pk)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if isinstance(found, Export):
            _export(found, folder)
        else:
            _check(found, folder)
    except JobInterrupted:
        work_release(work=found)  # does nothing for one that was deleted
    except PolmError as error:
        work_fail(work=found, error=error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _export(export: Export, folder: Path) -> None:
    checkpoint, format_ = export.checkpoint, ExportFormat(export.format)
    spec = _whole(checkpoint)
    check_exports(spec)
    check_room(checkpoint, format_)
    job = ExportJob(model=spec, format=format_, name=checkpoint.folder_name)
    made = folder / "files"
    shutil.rmtree(made, ignore_errors=True)
    _run("polm_core.export", job, export, folder)
    files = [
        {"path": path.relative_to(made).as_posix(), "size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(made.rglob("*"))
        if path.is_file()
    ]
    try:
        _store(export, made, files)
        work_finish(work=export, files=files)
    except PolmError:
        artifacts.delete(export.key)
        raise
    finally:
        # One that was deleted meanwhile leaves nothing; one that another worker took over is that worker's.
        if not Export.objects.filter(pk=export.pk).exists():
            artifacts.delete(export.key)


def _store(export: Export, made: Path, files: list[dict[str, Any]]) -> None:
    """Put the files where every machine finds them, and renew the claim meanwhile: big files take their time."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="store") as pool:
        for place, file in enumerate(files):
            put = pool.submit(
                artifacts.put_verified, made / file["path"], f"{export.key}/{file['path']}", file["sha256"]
            )
            progress = WorkProgress(phase="storing", fraction=place / len(files))
            while not put.done():
                if presence.shutting_down.wait(TICK) or not work_progress(work=export, progress=progress.model_dump()):
                    raise JobInterrupted
            put.result()


def _check(check: ParityCheck, folder: Path) -> None:
    checkpoint = check.checkpoint
    forms = [
        ParityForm(format=ExportFormat(export.format), path=_fetched(export))
        for export in exports_of(checkpoint).filter(status=WorkStatus.DONE)
    ]
    if not forms:
        raise ModelError("There is no export left to check.", code="export.missing", advice="Export it again.")
    link = getattr(checkpoint, "run_checkpoint", None)
    version = link.run.dataset_version if link is not None else None
    dataset = dataset_spec(version) if version is not None else None
    job = ParityJob(model=_whole(checkpoint), forms=forms, prompts=check.prompts, dataset=dataset)
    work_finish(work=check, report=_run("polm_core.parity", job, check, folder)["report"])


def _fetched(export: Export) -> Path:
    """The folder of a merged model, or the one file of another export, on this machine."""
    try:
        folder = artifacts.local_folder(export.key)
    except FileNotFoundError:
        folder = None
    if folder is None or not all((folder / file["path"]).is_file() for file in export.files):
        raise ModelError(
            f"The export {export.get_format_display()} is no longer in the artifact store.",
            code="export.missing",
            advice="Delete it, and export the checkpoint again.",
        )
    return folder / export.files[0]["path"] if ExportFormat(export.format).is_gguf else folder


def _whole(checkpoint: Checkpoint) -> ModelSpec:
    """The checkpoint on this machine's disk, with its base. Raises ModelError when a file is not as it was stored."""
    path, adapter = checkpoint_path(checkpoint)
    folder = adapter or path
    for file in checkpoint.download_files:
        stored = folder / file["path"]
        if not stored.is_file() or stored.stat().st_size != file["size"] or sha256_of(stored) != file["sha256"]:
            raise ModelError(
                f"The checkpoint is not whole: {file['path']} is not as it was stored.",
                code="model.damaged",
                advice="Take another checkpoint of the run, or train again from the one before.",
            )
    return ModelSpec(path=path, adapter=adapter)


def _run(module: str, job: BaseModel, found: Export | ParityCheck, folder: Path) -> dict[str, Any]:
    """Have a child do the job, and return its answer. Raises as `ask_child` does."""
    died = PolmError(
        "The process that exports",
        code="export.crashed",
        advice="See that the worker has enough memory, then try again.",
    )
    return ask_child(
        module,
        job,
        folder,
        tell=lambda progress: work_progress(work=found, progress=progress),
        seconds=SECONDS,
        died=died,
    )
