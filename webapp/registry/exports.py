"""A checkpoint's exports and the check of what they have kept: asked for by people, carried out by workers.

Whoever reads a checkpoint may fetch its exports, but for the holder of a link, which opens the checkpoint's own files
alone. A check shows rows of the team's data, so it is the team's.
"""

import shutil
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from polm_core.catalogue import WRITELESS
from polm_core.data.values import is_storable
from polm_core.errors import DISK_FULL, PolmError, ResourceError
from polm_core.export import ExportFormat, bytes_needed
from polm_core.parity import PROMPTS
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.claimed import MAX_ATTEMPTS, WorkStatus
from webapp.errors import Conflict, Invalid, NotFound
from webapp.registry import selectors
from webapp.registry.models import Checkpoint, CheckpointKind, Export, ParityCheck
from webapp.tasks import EXPORT, wake

MAX_OPEN = 10
MAX_PROMPTS = 8
MAX_PROMPT = 2000

W = TypeVar("W", Export, ParityCheck)


# --- exports ----------------------------------------------------------------------------------------------------------
def formats_of(checkpoint: Checkpoint) -> list[ExportFormat]:
    """What a checkpoint can be made into: nothing when it writes no text; a whole model is merged already."""
    if checkpoint.method in WRITELESS:
        return []
    return [one for one in ExportFormat if one.is_gguf or checkpoint.kind == CheckpointKind.ADAPTER]


def export_create(*, actor: Actor, checkpoint: Checkpoint, format: str) -> Export:
    """Have a worker export a checkpoint. The same export again gives the first one, and begins anew one that failed.

    Raises Invalid for a format that the checkpoint cannot have, Conflict when the team has too many outstanding,
    ResourceError when there is no room for it.
    """
    actor.require(checkpoint.team_id, Role.MEMBER, "checkpoint")
    wanted = _format(checkpoint, format)
    with transaction.atomic():
        checkpoint = _locked(checkpoint)
        known = Export.objects.filter(checkpoint=checkpoint, format=wanted).first()
        if known is not None and known.status != WorkStatus.FAILED:
            return known
        if checkpoint.base_model is None:
            raise Conflict("The model under the adapter is gone.", advice="Add it again, and train anew.")
        _check_outstanding(checkpoint)
        check_room(checkpoint, wanted)
        if known is not None:
            transaction.on_commit(partial(artifacts.delete, known.key), robust=True)
            known.delete()
        made = Export.objects.create(checkpoint=checkpoint, format=wanted, created_by=actor.user)
        detail = {"format": wanted.value}
        audit(actor=actor, team_id=checkpoint.team_id, verb="export.create", target=checkpoint, detail=detail)
        wake(EXPORT, made.pk)
    return made


def export_delete(*, actor: Actor, export: Export) -> None:
    """Delete an export and its files; one that is being made is ended."""
    actor.require(export.checkpoint.team_id, Role.MEMBER, "export")
    with transaction.atomic():
        detail = {"format": export.format}
        checkpoint = export.checkpoint
        audit(actor=actor, team_id=checkpoint.team_id, verb="export.delete", target=checkpoint, detail=detail)
        transaction.on_commit(partial(artifacts.delete, export.key), robust=True)
        Export.objects.filter(pk=export.pk).delete()


def exports_of(checkpoint: Checkpoint) -> QuerySet[Export]:
    """A checkpoint's exports, the first that was asked for first; there is at most one of each format."""
    return Export.objects.filter(checkpoint=checkpoint).select_related("checkpoint", "created_by").order_by("pk")


def export_get(actor: Actor, pk: Any, role: Role | None = None) -> Export:
    """An export of a checkpoint that the actor may read; with a `role`, of their team's own.

    Raises NotFound or Forbidden.
    """
    known = Export.objects.select_related("checkpoint__team")
    if role is not None:
        return actor.get(known, pk, role, team="checkpoint__team_id")
    try:
        found = known.filter(pk=uuid.UUID(str(pk))).first()
    except ValueError:
        found = None
    if found is None or not selectors.checkpoints_visible(actor).filter(pk=found.checkpoint_id).exists():
        raise NotFound("There is no such export.")
    return found


def check_room(checkpoint: Checkpoint, format_: ExportFormat) -> None:
    """Raise ResourceError when this machine's disk has no room to make the export."""
    parameters = checkpoint.base_model.parameters if checkpoint.base_model is not None else None
    is_adapter = checkpoint.kind == CheckpointKind.ADAPTER
    # Of a model whose size is not known, its own files tell something; checkpoints are in fp32.
    needed = bytes_needed(format_, parameters or checkpoint.download_bytes // 4, has_adapter=is_adapter)
    free = shutil.disk_usage(settings.VAR_DIR).free
    if needed > free:
        raise ResourceError(
            f"The export needs {needed / 1e9:,.2f} GB while it is made, and the disk has {free / 1e9:,.2f} GB left.",
            code=DISK_FULL,
            advice="Free space on the disk, delete exports that nobody needs, or take a smaller format.",
        )


# --- the check --------------------------------------------------------------------------------------------------------
def parity_create(*, actor: Actor, checkpoint: Checkpoint, prompts: Sequence[str] = ()) -> ParityCheck:
    """Have a worker compare a checkpoint with its exports, on a few prompts, these, and rows of its run's dataset.

    It takes the place of the check before. Raises Conflict without an export or while one is under way, Invalid for
    prompts that are not accepted.
    """
    actor.require(checkpoint.team_id, Role.MEMBER, "checkpoint")
    asked = [*PROMPTS, *_clean_prompts(prompts)]
    with transaction.atomic():
        checkpoint = _locked(checkpoint)
        if not Export.objects.filter(checkpoint=checkpoint, status=WorkStatus.DONE).exists():
            raise Conflict("There is no export to check.", advice="Export the checkpoint first.")
        if ParityCheck.objects.open().filter(checkpoint=checkpoint).exists():
            raise Conflict("The exports are being checked already.", advice="Wait for the result, or cancel it.")
        _check_outstanding(checkpoint)
        ParityCheck.objects.filter(checkpoint=checkpoint).delete()
        made = ParityCheck.objects.create(checkpoint=checkpoint, prompts=asked, created_by=actor.user)
        audit(actor=actor, team_id=checkpoint.team_id, verb="parity.create", target=checkpoint)
        wake(EXPORT, made.pk)
    return made


def parity_delete(*, actor: Actor, checkpoint: Checkpoint) -> None:
    """Remove a checkpoint's check; one that is under way is ended."""
    actor.require(checkpoint.team_id, Role.MEMBER, "checkpoint")
    with transaction.atomic():
        if ParityCheck.objects.filter(checkpoint=checkpoint).delete()[0]:
            audit(actor=actor, team_id=checkpoint.team_id, verb="parity.delete", target=checkpoint)


def parity_of(actor: Actor, checkpoint: Checkpoint) -> ParityCheck | None:
    """The last check of a checkpoint of the actor's teams; None for what is only shared with them."""
    if checkpoint.team_id not in actor.roles:
        return None
    return ParityCheck.objects.filter(checkpoint=checkpoint).first()


# --- by workers -------------------------------------------------------------------------------------------------------
def exports_wait() -> bool:
    """Whether there is something for a worker to take up; a scheduler that sees some wakes one."""
    return Export.objects.claimable().exists() or ParityCheck.objects.claimable().exists()


def work_claim() -> Export | ParityCheck | None:
    """Take the oldest export that waits or has lost its worker, else the oldest check."""
    return _claim(Export) or _claim(ParityCheck)


def work_progress(*, work: Export | ParityCheck, progress: dict[str, Any]) -> bool:
    """Tell how far it is and renew the claim; False when it was deleted or another worker has it."""
    return bool(_manager(type(work)).renew(work, progress=progress))


def work_finish(*, work: Export | ParityCheck, **result: Any) -> bool:
    """Store what came out, `files` or `report`; False when it was deleted or another worker has it."""
    return bool(_manager(type(work)).end(work, error=None, **result))


def work_fail(*, work: Export | ParityCheck, error: PolmError) -> bool:
    """End it with the reason why nothing came out."""
    return bool(_manager(type(work)).fail(work, error))


def work_release(*, work: Export | ParityCheck) -> None:
    """Give a claim back unused, as a worker does that shuts down."""
    _manager(type(work)).release(work)


# --- helpers ----------------------------------------------------------------------------------------------------------
def _claim(model: type[W]) -> W | None:
    lost = PolmError(
        "The process that exports was lost twice.",
        code="export.lost",
        advice="Most often the worker ran out of memory: export on a machine that has more.",
    )
    found = _manager(model).take(most=MAX_ATTEMPTS, lost=lost, progress={})
    return found and model.objects.select_related("checkpoint__base_model__checkpoint").get(pk=found.pk)


def _manager(model: type[Export] | type[ParityCheck]) -> Any:
    return model.objects


def _format(checkpoint: Checkpoint, format_: str) -> ExportFormat:
    offered = formats_of(checkpoint)
    if not offered:
        raise Invalid(
            f"{checkpoint.name} scores answers and writes none: other programs have no form for it.",
            advice="Download it as it is.",
            fields={"format": ["has no choice for this checkpoint"]},
        )
    if format_ not in offered:
        problem = f"must be one of {', '.join(offered)}"
        whole = " A whole model is merged safetensors already: download it." if format_ == ExportFormat.MERGED else ""
        raise Invalid(f"The checkpoint cannot be exported so.{whole}", fields={"format": [problem]})
    return ExportFormat(format_)


def _locked(checkpoint: Checkpoint) -> Checkpoint:
    """The row as it is, for this transaction. Raises NotFound for one that was deleted meanwhile."""
    found = Checkpoint.objects.select_for_update(of=("self",)).select_related("base_model").filter(pk=checkpoint.pk)
    locked = found.first()
    if locked is None:
        raise NotFound("There is no such checkpoint.")
    return locked


def _check_outstanding(checkpoint: Checkpoint) -> None:
    team = {"checkpoint__team_id": checkpoint.team_id}
    if sum(model.objects.open().filter(**team).count() for model in (Export, ParityCheck)) >= MAX_OPEN:
        raise Conflict("Too many exports are outstanding.", advice="Wait for them, or cancel some.")


def _clean_prompts(prompts: Sequence[str]) -> list[str]:
    cleaned = [text.strip() for text in prompts if text.strip()]
    fits = all(len(text) <= MAX_PROMPT and is_storable(text) for text in cleaned)
    if len(cleaned) > MAX_PROMPTS or not fits:
        problem = f"must be at most {MAX_PROMPTS}, each of at most {MAX_PROMPT:,} characters"
        raise Invalid("The prompts are not accepted.", fields={"prompts": [problem]})
    return cleaned
