"""The checkpoints a run leaves: registered by the worker that holds its lease."""

import uuid
from functools import partial

from django.db import transaction

from polm_core.run_dir import Manifest
from webapp import artifacts
from webapp.live.notify import publish
from webapp.registry.models import BaseModel, Checkpoint, CheckpointKind
from webapp.registry.services import checkpoint_create
from webapp.runs.leases import Claim, LeaseLost
from webapp.runs.models import ACTIVE, RemovedCheckpoint, Run, RunCheckpoint


def run_checkpoint_steps(run_id: uuid.UUID) -> set[int]:
    """The steps whose checkpoints are stored, or were and are not kept: neither is to be stored again."""
    stored = RunCheckpoint.objects.filter(run_id=run_id).values_list("step", flat=True)
    return set(stored.union(RemovedCheckpoint.objects.filter(run_id=run_id).values_list("step", flat=True)))


def run_checkpoint_add(claim: Claim, *, manifest: Manifest, key: str, sha256: str) -> Checkpoint:
    """List a checkpoint whose every file is in the store. Raises LeaseLost; a second call changes nothing."""
    with transaction.atomic():
        run = (
            Run.objects.select_for_update(of=("self",))
            .select_related("model")
            .filter(pk=claim.run_id, lease_epoch=claim.epoch, status__in=ACTIVE)
            .first()
        )
        if run is None:
            raise LeaseLost
        start = run.model
        checkpoint = checkpoint_create(
            team_id=run.team_id,
            name=f"{run.name} @ {manifest.step}",
            manifest=manifest,
            key=key,
            sha256=sha256,
            base_model=_base_of(start) if manifest.kind == CheckpointKind.ADAPTER else start,
            parent=start.checkpoint,
        )
        RunCheckpoint.objects.get_or_create(run=run, step=manifest.step, defaults={"checkpoint": checkpoint})
        _drop_trainer_state(run, before=manifest.step)
        publish(f"run:{run.pk}", "checkpoint", {"step": manifest.step})
    return checkpoint


def _drop_trainer_state(run: Run, *, before: int) -> None:
    """Optimiser states are twice the model's size, and a run resumes only from its newest checkpoint: keep that one."""
    for link in run.run_checkpoints.filter(step__lt=before).select_related("checkpoint"):
        checkpoint = link.checkpoint
        if not checkpoint.trainer_state:
            continue
        dropped = set(checkpoint.trainer_state)
        checkpoint.files = [file for file in checkpoint.files if file["path"] not in dropped]
        checkpoint.bytes = sum(file["size"] for file in checkpoint.files)
        checkpoint.trainer_state = []
        checkpoint.save(update_fields=["files", "bytes", "trainer_state"])
        for path in dropped:
            transaction.on_commit(partial(artifacts.delete, f"{checkpoint.key}/{path}"), robust=True)


def _base_of(model: BaseModel) -> BaseModel:
    """The model whose weights an adapter trained on `model` belongs to."""
    checkpoint = model.checkpoint
    if checkpoint is None or checkpoint.kind == CheckpointKind.MODEL or checkpoint.base_model is None:
        return model
    return checkpoint.base_model
