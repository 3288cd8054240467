"""Checkpoints as a run leaves them: a sealed folder, stored and recorded. The weights are real but meaningless."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from polm_core.run_dir import Manifest, RunDir
from webapp import artifacts
from webapp.accounts.models import Team
from webapp.ids import new_id
from webapp.registry.models import BaseModel, Checkpoint, ModelSource
from webapp.registry.services import checkpoint_create


def make_base_model(team: Team, name: str = "base") -> BaseModel:
    """A model of `team` that is ready; its folder does not exist."""
    model, _ = BaseModel.objects.get_or_create(
        team=team,
        name=name,
        defaults={"source": ModelSource.PATH, "path": f"/nowhere/{name}", "parameters": 1000, "context_length": 128},
    )
    return model


def make_checkpoint(team: Team, name: str = "first @ 20", *, step: int = 20, **values: Any) -> Checkpoint:
    """A checkpoint of `team` with a config, weights and trainer state in the artifact store."""
    key = f"runs/{new_id()}/step-{step}"
    kind = values.pop("kind", "adapter")
    base_model = values.pop("base_model", None) or make_base_model(team)
    with tempfile.TemporaryDirectory() as folder:
        manifest = sealed_checkpoint(Path(folder), step=step, kind=kind)
        store(Path(folder), step, manifest, key)
        digest = artifacts.digest(f"{key}/manifest.json")
    return checkpoint_create(
        team_id=team.pk, name=name, key=key, manifest=manifest, sha256=digest, base_model=base_model, **values
    )


def sealed_checkpoint(root: Path, *, step: int = 20, kind: str = "adapter") -> Manifest:
    """Write a complete checkpoint into the run directory `root`."""
    run_dir = RunDir(root)
    run_dir.create()
    folder = run_dir.checkpoint(step)
    (folder / "1_nested").mkdir(parents=True)
    (folder / "config.json").write_text('{"max_position_embeddings": 128}')
    (folder / "1_nested" / "empty.txt").write_bytes(b"")
    save_file({"w": np.arange(5000, dtype=np.float32)}, folder / f"{kind}.safetensors")
    (folder / "optimizer.bin").write_bytes(b"state" * 1000)
    return run_dir.seal_checkpoint(
        Manifest(
            step=step,
            kind=kind,
            method="sft",
            base_model="base",
            metrics={"eval/loss": 1.5, "loss": 1.75},
            trainer_state=["optimizer.bin"],
        )
    )


def store(root: Path, step: int, manifest: Manifest, key: str) -> None:
    """Put a sealed checkpoint of the run directory `root` into the artifact store."""
    folder = RunDir(root).checkpoint(step)
    for path in [*(file.path for file in manifest.files), "manifest.json"]:
        artifacts.put(folder / path, f"{key}/{path}")
