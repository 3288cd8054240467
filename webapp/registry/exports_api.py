"""Exports of checkpoints, and the check of what they have kept, over REST."""

import uuid
from datetime import datetime
from typing import Any

from django.http.response import HttpResponseBase
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import NotFound
from webapp.registry import exports as services
from webapp.registry import selectors
from webapp.registry.downloads import export_response
from webapp.registry.models import Export, ParityCheck

router = Router(tags=["exports"])


class ExportAsk(Schema):
    """`merged`, for an adapter, or one of `gguf-f16`, `gguf-q8_0`, `gguf-q4_1` and `gguf-q4_0`."""

    model_config = ConfigDict(extra="forbid")

    format: str


class ExportFile(Schema):
    path: str
    size: int
    sha256: str


class ExportOut(Schema):
    """`files` are there once the `status` is done; `progress` tells the phase and the fraction of one at work."""

    id: uuid.UUID
    checkpoint: uuid.UUID = Field(alias="checkpoint_id")
    format: str
    status: str
    progress: dict[str, Any]
    error: dict[str, Any] | None
    bytes: int
    files: list[ExportFile]
    created_at: datetime


class ExportList(Schema):
    """All exports of a checkpoint, of which there is one of each format; `formats` are those that it can have."""

    items: list[ExportOut]
    formats: list[str]


class ParityAsk(Schema):
    """Prompts of your own, beside a few that are always asked and the first of the run's dataset."""

    model_config = ConfigDict(extra="forbid")

    prompts: list[str] = []


class ParityOut(Schema):
    """`report` holds a verdict for each export: `same`, `tolerance` (rounding explains it) or `differs`, with what."""

    id: uuid.UUID
    checkpoint: uuid.UUID = Field(alias="checkpoint_id")
    status: str
    progress: dict[str, Any]
    error: dict[str, Any] | None
    prompts: list[str]
    report: dict[str, Any] | None
    created_at: datetime


@router.post("/checkpoints/{checkpoint_id}/exports", response={201: ExportOut})
def export(request: StudioRequest, checkpoint_id: str, payload: ExportAsk) -> Status[Export]:
    """Have a worker export a checkpoint; the same format again gives the export that is there."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id, Role.MEMBER)
    return Status(201, services.export_create(actor=request.actor, checkpoint=found, format=payload.format))


@router.get("/checkpoints/{checkpoint_id}/exports", response=ExportList)
def exports(request: StudioRequest, checkpoint_id: str) -> dict[str, Any]:
    """The exports of a checkpoint that you may read."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id)
    return {"items": list(services.exports_of(found)), "formats": services.formats_of(found)}


@router.api_operation(["GET", "HEAD"], "/exports/{export_id}/download")
def download(request: StudioRequest, export_id: str) -> HttpResponseBase:
    """A GGUF file, or merged safetensors as a zip; each file is verified against its digest on the way."""
    found = services.export_get(request.actor, export_id)
    return export_response(request, found, share=selectors.share_that_opens(request.actor, found.checkpoint))


@router.delete("/exports/{export_id}", response={204: None})
def delete_export(request: StudioRequest, export_id: str) -> Status[None]:
    """Delete an export; one that is being made is cancelled."""
    services.export_delete(actor=request.actor, export=services.export_get(request.actor, export_id, Role.MEMBER))
    return Status(204, None)


@router.post("/checkpoints/{checkpoint_id}/parity", response={201: ParityOut})
def check(request: StudioRequest, checkpoint_id: str, payload: ParityAsk) -> Status[ParityCheck]:
    """Compare a checkpoint with its exports; the check before is replaced."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id, Role.MEMBER)
    return Status(201, services.parity_create(actor=request.actor, checkpoint=found, prompts=payload.prompts))


@router.get("/checkpoints/{checkpoint_id}/parity", response=ParityOut)
def parity(request: StudioRequest, checkpoint_id: str) -> ParityCheck:
    """The last check of one of your teams' checkpoints."""
    found = services.parity_of(request.actor, selectors.checkpoint_get(request.actor, checkpoint_id, Role.VIEWER))
    if found is None:
        raise NotFound("The exports of this checkpoint were not checked.")
    return found


@router.delete("/checkpoints/{checkpoint_id}/parity", response={204: None})
def delete_parity(request: StudioRequest, checkpoint_id: str) -> Status[None]:
    """Remove the check; one that is under way is cancelled."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id, Role.MEMBER)
    services.parity_delete(actor=request.actor, checkpoint=found)
    return Status(204, None)
