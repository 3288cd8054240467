"""Models, checkpoints and shares over REST."""

import uuid
from datetime import datetime
from typing import Any

from django.http.response import HttpResponseBase
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.accounts.access import Actor
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role, Team
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.registry import selectors, services, shares
from webapp.registry.downloads import download_response
from webapp.registry.links import share_url
from webapp.registry.models import BaseModel, Checkpoint, Share

router = Router()

RESULTS = 100


class Body(Schema):
    """What a caller sends; a field we do not know is a mistake to be told of."""

    model_config = ConfigDict(extra="forbid")


class ModelOut(Schema):
    id: uuid.UUID
    name: str
    source: str
    status: str
    team: uuid.UUID | None = Field(None, alias="team_id")
    hub_id: str
    revision: str
    path: str
    checkpoint: uuid.UUID | None = Field(None, alias="checkpoint_id")
    parameters: int | None
    context_length: int | None
    progress: dict[str, Any]
    error: dict[str, Any] | None
    created_at: datetime


class ResultOut(Schema):
    """One metric that an evaluation measured; `low` and `high` hold it at 95 %."""

    metric: str
    value: float
    low: float
    high: float
    rows: int
    better: str
    method: str = Field(alias="run.method")
    dataset: uuid.UUID = Field(alias="run.dataset_version.dataset_id")
    version: int = Field(alias="run.dataset_version.number")
    run: uuid.UUID = Field(alias="run_id")
    created_at: datetime


class Measured(Schema):
    """With its newest results, newest first."""

    results: list[ResultOut]

    @staticmethod
    def resolve_results(found: BaseModel | Checkpoint, context: Any) -> list[Any]:
        return list(selectors.results_of(context["request"].actor, found)[:RESULTS])


class ModelDetail(Measured, ModelOut):
    """A model with what was measured of it."""


class ModelPage(Schema):
    items: list[ModelOut]
    next_cursor: str | None


class ModelAdd(Body):
    """Exactly one of `hub_id` and `path`; `path` is a folder on the workers."""

    hub_id: str = ""
    path: str = ""
    revision: str = ""
    name: str = ""
    team: uuid.UUID | None = None


class Named(Body):
    name: str = ""
    team: uuid.UUID | None = None


class ModelChange(Body):
    name: str


class FileOut(Schema):
    path: str
    size: int
    sha256: str


class CheckpointOut(Schema):
    id: uuid.UUID
    name: str
    kind: str
    method: str
    step: int
    team: uuid.UUID = Field(alias="team_id")
    run: uuid.UUID | None
    base_model: uuid.UUID | None = Field(None, alias="base_model_id")
    parent: uuid.UUID | None = Field(None, alias="parent_id")
    bytes: int
    sha256: str
    metrics: dict[str, float | None]
    created_at: datetime

    @staticmethod
    def resolve_run(checkpoint: Checkpoint) -> uuid.UUID | None:
        link = getattr(checkpoint, "run_checkpoint", None)
        return link.run_id if link else None


class CheckpointPage(Schema):
    items: list[CheckpointOut]
    next_cursor: str | None


class CheckpointDetail(Measured, CheckpointOut):
    """With the files that a download holds, and what was measured of it."""

    files: list[FileOut] = Field(alias="download_files")


class ShareAsk(Body):
    """Exactly one of a team (name, slug or id), a user (username or id) and `link: true`.

    `expires` is a time with its zone; a link that has none ends after 7 days.
    """

    team: str | None = None
    user: str | None = None
    link: bool = False
    expires: datetime | None = None


class ShareOut(Schema):
    id: uuid.UUID
    checkpoint: uuid.UUID = Field(alias="checkpoint_id")
    kind: str
    team: uuid.UUID | None = Field(None, alias="team_id")
    user: uuid.UUID | None = Field(None, alias="user_id")
    expires_at: datetime | None
    created_at: datetime
    downloads: int


class ShareCreated(ShareOut):
    """With the address that a link opens; it is shown this once."""

    url: str | None


class SharePage(Schema):
    items: list[ShareOut]
    next_cursor: str | None


@router.get("/models", response=ModelPage, tags=["models"])
def models(request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The starter, and your teams' models: from a hub, a folder of the workers, or registered checkpoints."""
    return _page(*page(selectors.models_visible(request.actor), limit, cursor))


@router.post("/models", response={201: ModelOut}, tags=["models"])
def add_model(request: StudioRequest, payload: ModelAdd) -> Status[BaseModel]:
    """Add a model by its hub id or its folder; a worker prepares it (`preparing`, then `ready` or `failed`)."""
    team = _team(request.actor, payload.team)
    values = payload.model_dump(exclude={"team"})
    return Status(201, services.model_add(actor=request.actor, team=team, **values))


@router.get("/models/{model_id}", response=ModelDetail, tags=["models"])
def model(request: StudioRequest, model_id: str) -> BaseModel:
    """One model, by its id, with what evaluations have measured of it; `starter` is the starter model."""
    return selectors.model_get(request.actor, model_id)


@router.patch("/models/{model_id}", response=ModelOut, tags=["models"])
def rename_model(request: StudioRequest, model_id: str, payload: ModelChange) -> BaseModel:
    """Give a model another name."""
    found = selectors.model_get(request.actor, model_id)
    return services.model_rename(actor=request.actor, model=found, name=payload.name)


@router.post("/models/{model_id}/retry", response={202: ModelOut}, tags=["models"])
def retry_model(request: StudioRequest, model_id: str) -> Status[BaseModel]:
    """Have a worker try again to prepare a model that failed."""
    found = selectors.model_get(request.actor, model_id)
    services.model_retry(actor=request.actor, model=found)
    return Status(202, selectors.model_get(request.actor, model_id))


@router.delete("/models/{model_id}", response={204: None}, tags=["models"])
def delete_model(request: StudioRequest, model_id: str) -> Status[None]:
    """Delete a model that no run or checkpoint started from."""
    services.model_delete(actor=request.actor, model=selectors.model_get(request.actor, model_id))
    return Status(204, None)


@router.get("/checkpoints", response=CheckpointPage, tags=["checkpoints"])
def checkpoints(request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The checkpoints of your teams and those shared with you, newest first."""
    return _page(*page(selectors.checkpoints_visible(request.actor), limit, cursor))


@router.get("/checkpoints/{checkpoint_id}", response=CheckpointDetail, tags=["checkpoints"])
def checkpoint(request: StudioRequest, checkpoint_id: str) -> Checkpoint:
    """One checkpoint with its files, sizes and SHA-256 digests, and what evaluations have measured of it."""
    return selectors.checkpoint_get(request.actor, checkpoint_id)


@router.delete("/checkpoints/{checkpoint_id}", response={204: None}, tags=["checkpoints"])
def delete_checkpoint(request: StudioRequest, checkpoint_id: str) -> Status[None]:
    """Delete a checkpoint and its files; refused when a run started from it."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id, Role.MEMBER)
    services.checkpoint_delete(actor=request.actor, checkpoint=found)
    return Status(204, None)


@router.api_operation(["GET", "HEAD"], "/checkpoints/{checkpoint_id}/download", tags=["checkpoints"])
def download(request: StudioRequest, checkpoint_id: str) -> HttpResponseBase:
    """The checkpoint as a zip, made while it is sent; each file is verified against its digest on the way."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id)
    return download_response(request, found, share=selectors.share_that_opens(request.actor, found))


@router.post("/checkpoints/{checkpoint_id}/register", response={201: ModelOut}, tags=["checkpoints"])
def register(request: StudioRequest, checkpoint_id: str, payload: Named) -> Status[BaseModel]:
    """Add a checkpoint to your team's models."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id)
    team = _team(request.actor, payload.team)
    return Status(
        201, services.checkpoint_register(actor=request.actor, checkpoint=found, team=team, name=payload.name)
    )


@router.post("/checkpoints/{checkpoint_id}/share", response={201: ShareCreated}, tags=["checkpoints"])
def share(request: StudioRequest, checkpoint_id: str, payload: ShareAsk) -> Status[Share]:
    """Let a team, a person, or whoever holds a link read this checkpoint."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id, Role.MEMBER)
    values = payload.model_dump(exclude={"expires"})
    made: Any = shares.share_create(actor=request.actor, checkpoint=found, expires_at=payload.expires, **values)
    made.url = share_url(request, made)
    return Status(201, made)


@router.get("/checkpoints/{checkpoint_id}/shares", response=SharePage, tags=["checkpoints"])
def list_shares(
    request: StudioRequest, checkpoint_id: str, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
) -> dict[str, Any]:
    """The shares of a checkpoint that are open."""
    found = selectors.checkpoint_get(request.actor, checkpoint_id, Role.MEMBER)
    return _page(*page(selectors.shares_of(found), limit, cursor))


@router.delete("/shares/{share_id}", response={204: None}, tags=["checkpoints"])
def revoke_share(request: StudioRequest, share_id: str) -> Status[None]:
    """End a share at once."""
    shares.share_revoke(actor=request.actor, share_id=share_id)
    return Status(204, None)


def _team(actor: Actor, team_id: uuid.UUID | None) -> Team:
    """The team that a new thing belongs to: the one named, else the caller's present one."""
    return actor.get(Team, team_id, Role.MEMBER, team="id") if team_id else actor.current_team


def _page(items: list[Any], next_cursor: str | None) -> dict[str, Any]:
    return {"items": items, "next_cursor": next_cursor}
