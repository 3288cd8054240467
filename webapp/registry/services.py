"""What people do to models and checkpoints, and how workers tell that one is ready.

Sharing them is in `shares`.
"""

import math
import uuid
from collections.abc import Collection, Iterable
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Model, ProtectedError, QuerySet
from django.db.models.functions import Now

from polm_core.errors import PolmError
from polm_core.run_dir import Manifest
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.accounts.services import audit
from webapp.errors import Conflict, Invalid, NotFound
from webapp.live.notify import publish
from webapp.registry import selectors
from webapp.registry.models import BaseModel, Checkpoint, CheckpointKind, ModelSource, ModelStatus, exports_key
from webapp.registry.rules import MAX_NAME, check_manifest, clean_hub_id, clean_name, clean_revision, path_within_roots
from webapp.tasks import MODELS_PREPARE, wake

STARTER_NAME = "SmolLM2-135M-Instruct"
# Where others find the same weights: what checkpoints trained on it name as their base.
STARTER_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3
# How many users of something in use a refusal names.
MAX_NAMED = 10


# --- models -----------------------------------------------------------------------------------------------------------
def model_add(
    *, actor: Actor, team: Team, hub_id: str = "", path: str = "", revision: str = "", name: str = ""
) -> BaseModel:
    """Add a hub model or a folder of the workers to a team; a worker fetches or checks it.

    Raises Invalid for a malformed hub id, a folder outside `POLM_MODEL_ROOTS`, or a name that is taken.
    """
    actor.require(team.pk, Role.MEMBER, "team")
    if bool(hub_id) == bool(path):
        raise Invalid(
            "Say where the model is.", fields={"hub_id": ["Give either a hub id or a path."], "path": ["See hub_id."]}
        )
    if hub_id:
        values: dict[str, Any] = {"source": ModelSource.HUB, "hub_id": clean_hub_id(hub_id)}
        values["revision"] = clean_revision(revision)
    else:
        folder = path_within_roots(path)
        values = {"source": ModelSource.PATH, "path": str(folder)}
    values["name"] = clean_name(name or hub_id or folder.name)
    with transaction.atomic():
        model = _create_named(team, created_by=actor.user, status=ModelStatus.PREPARING, **values)
        audit(actor=actor, team_id=team.pk, verb="model.add", target=model, detail={"name": model.name})
        _announce(model)
        wake(MODELS_PREPARE, model.pk)
    return model


def model_ensure_starter() -> BaseModel:
    """The starter model's row, with a worker woken to convert it when that is still to be done or to be done again."""
    with transaction.atomic():
        BaseModel.objects.get_or_create(
            source=ModelSource.STARTER,
            defaults={"name": STARTER_NAME, "hub_id": STARTER_HUB_ID, "status": ModelStatus.PREPARING},
        )
        starter = BaseModel.objects.select_for_update().get(source=ModelSource.STARTER)
        lost = starter.status == ModelStatus.READY and not artifacts.exists(f"{model_key(starter)}/config.json")
        if lost or starter.status == ModelStatus.FAILED:
            _prepare_again(starter)
        elif starter.status == ModelStatus.PREPARING:
            wake(MODELS_PREPARE, starter.pk)
    return starter


def model_retry(*, actor: Actor, model: BaseModel) -> None:
    """Have a worker try again to prepare a model that failed. Raises Conflict in any other state."""
    _require_owner(actor, model)
    with transaction.atomic():
        model = BaseModel.objects.select_for_update().get(pk=model.pk)
        if model.status != ModelStatus.FAILED:
            raise Conflict(f"The model is {model.get_status_display().lower()}.", advice="There is nothing to repeat.")
        _prepare_again(model)
        audit(actor=actor, team_id=model.team_id, verb="model.retry", target=model)


def model_rename(*, actor: Actor, model: BaseModel, name: str) -> BaseModel:
    """Give a model another name. Raises Invalid when the team has one of that name."""
    _require_owner(actor, model)
    model.name = clean_name(name)
    try:
        with transaction.atomic():
            model.save(update_fields=["name"])
            audit(actor=actor, team_id=model.team_id, verb="model.rename", target=model, detail={"name": model.name})
            _announce(model)
    except IntegrityError:
        raise _name_taken(model.name) from None
    return model


def model_delete(*, actor: Actor, model: BaseModel) -> None:
    """Delete a model that nothing uses, with its files. Raises Conflict naming the runs that do."""
    _require_owner(actor, model)
    key = model_key(model)
    with transaction.atomic():
        audit(actor=actor, team_id=model.team_id, verb="model.delete", target=model, detail={"name": model.name})
        _announce(model, status="deleted")
        _delete_unused(model, model.team_id)
        if key:
            transaction.on_commit(partial(artifacts.delete, key), robust=True)


def model_key(model: BaseModel) -> str | None:
    """The folder of the artifact store that holds a prepared model; None for one that is kept elsewhere."""
    match model.source:
        case ModelSource.STARTER:
            return "models/starter"
        case ModelSource.HUB:
            return f"models/{model.pk}"
        case _:
            return None


def model_resolve_for_run(actor: Actor, ref: str, *, team: Team | None = None, field: str = "model") -> BaseModel:
    """The model that `ref` names for a run of `team`: `starter`, a model's id, or a readable checkpoint's id.

    A checkpoint is registered as a model of the team. The model may still be in preparation. Raises Invalid, which
    names the `field` that `ref` was given in.
    """
    team = team or actor.current_team
    actor.require(team.pk, Role.MEMBER, "team")
    try:
        found = selectors.source_get(actor, ref, team)
    except NotFound:
        raise Invalid(
            "There is no such model.",
            fields={field: ["Give starter, or the id of a model or checkpoint of this team or shared with it."]},
        ) from None
    return found if isinstance(found, BaseModel) else _registration(actor, found, team)


# --- preparing, by workers --------------------------------------------------------------------------------------------
def model_claim(*, model_id: uuid.UUID | str) -> BaseModel | None:
    """Take a model that waits to be prepared; None when there is nothing to do or another worker is at it.

    The row's `lease_epoch` is the claim: the calls below do nothing once another worker has taken over.
    """
    claimed = (
        BaseModel.objects.to_prepare()
        .filter(pk=model_id)
        .update(lease_until=Now() + LEASE, lease_epoch=F("lease_epoch") + 1, attempts=F("attempts") + 1)
    )
    if not claimed:
        return None
    model = BaseModel.objects.get(pk=model_id)
    if model.attempts > MAX_ATTEMPTS:
        model_fail(model=model, error=_gave_up())
        return None
    return model


def model_progress(*, model: BaseModel, phase: str, fraction: float | None) -> bool:
    """Record how far preparing is and renew the claim; False when it is lost. `fraction` is None when unknown."""
    progress = {"phase": phase, "fraction": fraction}
    with transaction.atomic():
        held = _held(model).update(progress=progress, lease_until=Now() + LEASE)
        if held and progress != model.progress:
            model.progress = progress
            _announce(model, kind="progress", **progress)
    return bool(held)


def model_ready(*, model: BaseModel, parameters: int, context_length: int | None, revision: str = "") -> bool:
    """Open a prepared model for use; False when the claim was lost."""
    return _finish(
        model,
        status=ModelStatus.READY,
        parameters=parameters,
        context_length=context_length,
        revision=revision or model.revision,
        error=None,
    )


def model_release(*, model: BaseModel) -> None:
    """Give a claim back unused, as a worker does that shuts down: the next one may begin at once."""
    _held(model).update(lease_until=None, attempts=F("attempts") - 1)


def model_fail(*, model: BaseModel, error: PolmError) -> bool:
    """Record why a model could not be prepared; False when the claim was lost."""
    return _finish(model, status=ModelStatus.FAILED, error=error.as_dict())


# --- checkpoints ------------------------------------------------------------------------------------------------------
def checkpoint_create(
    *,
    team_id: uuid.UUID,
    name: str,
    key: str,
    manifest: Manifest,
    sha256: str,
    base_model: BaseModel,
    parent: Checkpoint | None = None,
) -> Checkpoint:
    """Record a checkpoint whose files were put under `key` and verified there. The same key again gives the first one.

    `sha256` is the digest of manifest.json, `parent` the checkpoint that training started from. Raises Invalid for a
    manifest that names files outside its folder, or one that is missing from the store or has another size.
    """
    check_manifest(key, manifest)
    for file in manifest.files:
        _check_stored(f"{key}/{file.path}", file.size)
    with transaction.atomic():
        checkpoint, created = Checkpoint.objects.get_or_create(
            key=key,
            defaults={
                "team_id": team_id,
                "name": name[:MAX_NAME],
                "kind": CheckpointKind(manifest.kind),
                "method": manifest.method,
                "step": manifest.step,
                "base_model": base_model,
                "parent": parent,
                "bytes": sum(file.size for file in manifest.files),
                "sha256": sha256,
                "files": [file.model_dump() for file in manifest.files],
                "trainer_state": manifest.trainer_state,
                "metrics": {name: value for name, value in manifest.metrics.items() if math.isfinite(value)},
            },
        )
        if created:
            publish(f"team:{team_id}", "checkpoint", {"checkpoint": str(checkpoint.pk)})
    return checkpoint


def checkpoint_register(*, actor: Actor, checkpoint: Checkpoint, team: Team, name: str = "") -> BaseModel:
    """Add a checkpoint to a team's models. One that is there already gets the new name, if one is given."""
    actor.require(team.pk, Role.MEMBER, "team")
    checkpoint = selectors.checkpoint_get(actor, checkpoint.pk)
    model = _registration(actor, checkpoint, team, name=name)
    return model_rename(actor=actor, model=model, name=name) if name and model.name != name.strip() else model


def checkpoint_delete(*, actor: Actor, checkpoint: Checkpoint) -> None:
    """Delete a checkpoint, its files, its exports, its shares, and the models registered from it that nothing uses.

    Raises Conflict when a run or another checkpoint started from it.
    """
    actor.require(checkpoint.team_id, Role.MEMBER, "checkpoint")
    with transaction.atomic():
        audit(
            actor=actor,
            team_id=checkpoint.team_id,
            verb="checkpoint.delete",
            target=checkpoint,
            detail={"name": checkpoint.name, "step": checkpoint.step},
        )
        checkpoint_delete_all([checkpoint])


def checkpoint_delete_all(checkpoints: Iterable[Checkpoint]) -> None:
    """Delete checkpoints whose deletion was already allowed; their files go when the transaction commits.

    Raises Conflict when a run or another checkpoint started from one of them.
    """
    for checkpoint in checkpoints:
        publish(f"team:{checkpoint.team_id}", "checkpoint", {"checkpoint": str(checkpoint.pk), "deleted": True})
        _delete_unused(checkpoint, checkpoint.team_id)
        for key in (checkpoint.key, exports_key(checkpoint.pk)):
            transaction.on_commit(partial(artifacts.delete, key), robust=True)


# --- helpers ----------------------------------------------------------------------------------------------------------
def _require_owner(actor: Actor, model: BaseModel) -> None:
    if model.source == ModelSource.STARTER:
        raise Conflict("The starter model belongs to every team.", advice="It cannot be changed or deleted.")
    actor.require(model.team_id, Role.MEMBER, "model")


def _prepare_again(model: BaseModel) -> None:
    model.status = ModelStatus.PREPARING
    model.error = None
    model.attempts = 0
    model.progress = {}
    model.save(update_fields=["status", "error", "attempts", "progress"])
    _announce(model)
    wake(MODELS_PREPARE, model.pk)


def _held(model: BaseModel) -> QuerySet[BaseModel]:
    return BaseModel.objects.filter(pk=model.pk, status=ModelStatus.PREPARING, lease_epoch=model.lease_epoch)


def _finish(model: BaseModel, **values: Any) -> bool:
    with transaction.atomic():
        held = _held(model).update(lease_until=None, progress={}, **values)
        if held:
            _announce(model, status=values["status"])
    return bool(held)


def _announce(model: BaseModel, *, kind: str = "status", **data: Any) -> None:
    """Tell open pages that a model changed: its own page, and the team's list."""
    data = {"model": str(model.pk), **data}
    publish(f"model:{model.pk}", kind, data)
    if model.team_id:
        publish(f"team:{model.team_id}", kind, data)


def _create_named(team: Team, **values: Any) -> BaseModel:
    try:
        with transaction.atomic():
            return BaseModel.objects.create(team=team, **values)
    except IntegrityError:
        raise _name_taken(values["name"]) from None


def _registration(actor: Actor, checkpoint: Checkpoint, team: Team, *, name: str = "") -> BaseModel:
    """The team's model that stands for this checkpoint, made when there is none yet."""
    with transaction.atomic():
        Checkpoint.objects.select_for_update(of=("self",)).get(pk=checkpoint.pk)  # one registration at a time
        known = BaseModel.objects.filter(team=team, checkpoint=checkpoint).first()
        if known:
            return known
        base = checkpoint.base_model
        model = _create_named(
            team,
            name=clean_name(name) if name else _free_name(team, checkpoint),
            source=ModelSource.CHECKPOINT,
            checkpoint=checkpoint,
            parameters=base.parameters if base else None,
            context_length=base.context_length if base else None,
            created_by=actor.user,
        )
        detail = {"model": str(model.pk), "name": model.name}
        audit(actor=actor, team_id=team.pk, verb="checkpoint.register", target=checkpoint, detail=detail)
        _announce(model)
    return model


def _free_name(team: Team, checkpoint: Checkpoint) -> str:
    if not BaseModel.objects.filter(team=team, name=checkpoint.name).exists():
        return checkpoint.name
    return f"{checkpoint.name[: MAX_NAME - 10]} {checkpoint.pk.hex[-6:]}"


def _check_stored(key: str, size: int) -> None:
    try:
        whole = artifacts.size(key) == size
    except NotFound:
        whole = False
    if not whole:
        raise Invalid(f"{key} is not whole in the artifact store.", advice="Store every file before the checkpoint.")


def _delete_unused(found: Model, team_id: uuid.UUID | None) -> None:
    try:
        found.delete()
    except ProtectedError as error:
        raise _in_use(error.protected_objects, team_id) from None


def _in_use(users: Collection[Any], team_id: uuid.UUID | None) -> Conflict:
    """The refusal to delete what runs and checkpoints started from; those of other teams are only counted."""
    users = {getattr(user, "holder", user) for user in users}
    own = [user for user in users if user.team_id == team_id]
    named = [f"{user._meta.verbose_name} {user.pk}" for user in own[:MAX_NAMED]]
    if len(users) > len(named):
        named.append(f"{len(users) - len(named)} more")
    return Conflict(
        f"Something started from it: {', '.join(named)}.",
        advice="Delete that first, or keep this.",
        fields={"used_by": [str(user.pk) for user in own[:MAX_NAMED]]},
    )


def _name_taken(name: str) -> Invalid:
    return Invalid("The name is taken.", fields={"name": [f"The team has a model named {name}: choose another name."]})


def _gave_up() -> PolmError:
    return PolmError(
        f"Preparing the model was interrupted {MAX_ATTEMPTS} times.",
        code="model.interrupted",
        advice="The worker was probably killed; see that it has enough memory and disk, then try again.",
    )
