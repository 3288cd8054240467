"""Checkpoints of a folder's files, and exports that are done, in the artifact store."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from polm_core.run_dir import Manifest, RunDir
from tests.support.checkpoints import store
from webapp import artifacts
from webapp.accounts.models import Team
from webapp.claimed import WorkStatus
from webapp.ids import new_id
from webapp.registry.models import BaseModel, Checkpoint, Export, ParityCheck
from webapp.registry.services import checkpoint_create


def build_pair_elsewhere(folder: Path) -> None:
    """`tiny.build_pair` in another process, so that this one needs no torch."""
    call = f"from pathlib import Path; from tests.support.tiny import build_pair; build_pair(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", call], check=True)


def checkpoint_of(team: Team, folder: Path, kind: str, base_model: BaseModel, *, method: str = "sft") -> Checkpoint:
    """A checkpoint of `team` that holds the files of `folder`, stored and recorded as a run does."""
    key = f"runs/{new_id()}/step-1"
    with tempfile.TemporaryDirectory() as root:
        run_dir = RunDir(Path(root))
        run_dir.create()
        target = run_dir.checkpoint(1)
        target.mkdir(parents=True)
        for path in folder.iterdir():
            if path.is_file():
                (target / path.name).write_bytes(path.read_bytes())
        manifest = run_dir.seal_checkpoint(
            Manifest(step=1, kind=kind, method=method, base_model="base", metrics={}, trainer_state=[])
        )
        store(Path(root), 1, manifest, key)
    return checkpoint_create(
        team_id=team.pk,
        name=f"{folder.name} @ 1",
        key=key,
        manifest=manifest,
        sha256=artifacts.digest(f"{key}/manifest.json"),
        base_model=base_model,
    )


def make_export(
    checkpoint: Checkpoint,
    format_: str = "gguf-f16",
    *,
    content: bytes = b"GGUF" * 300_000,
    prompts: Sequence[str] = (),
) -> Export:
    """An export that is done, with its one file in the artifact store; with `prompts`, it was checked on them."""
    export = finish(Export.objects.create(checkpoint=checkpoint, format=format_), content)
    if prompts:
        ParityCheck.objects.create(checkpoint=checkpoint, prompts=list(prompts), status=WorkStatus.DONE)
    return export


def finish(export: Export, content: bytes) -> Export:
    """Has an export end as a worker would, with one file of that content."""
    folder_name, format_ = export.checkpoint.folder_name, export.format
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{folder_name}.{'gguf' if 'gguf' in format_ else 'safetensors'}"
        path.write_bytes(content)
        export.files = [{"path": path.name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}]
        artifacts.put(path, f"{export.key}/{path.name}")
    export.status = WorkStatus.DONE
    export.save()
    return export
