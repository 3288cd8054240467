"""Prompts and answers over REST."""

import uuid
from datetime import datetime
from typing import Any

from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role, Team
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.playground import selectors, services
from webapp.playground.models import Generation
from webapp.playground.services import GenerationSettings
from webapp.retrieval.api import PassageOut

router = Router(tags=["playground"])


class GenerationAsk(Schema):
    """A prompt, and the 1-4 models it is put to: `starter`, or ids of models and checkpoints.

    With an `index` the answers are written from its passages; `find` may hold `top_k` and `min_score`.
    """

    model_config = ConfigDict(extra="forbid")

    models: list[str]
    prompt: str
    system: str = ""
    settings: GenerationSettings = GenerationSettings()
    index: str | None = None
    find: dict[str, Any] = {}
    team: uuid.UUID | None = None


class GenerationOut(Schema):
    id: uuid.UUID
    batch: uuid.UUID
    model: uuid.UUID | None = Field(None, alias="model_id")
    checkpoint: uuid.UUID | None = Field(None, alias="checkpoint_id")
    prompt: str
    system: str
    settings: dict[str, Any]
    index: uuid.UUID | None = Field(None, alias="index_id")
    find: dict[str, Any]
    passages: list[PassageOut]
    status: str
    text: str
    tokens: int
    seconds: float | None
    error: dict[str, Any] | None
    created_at: datetime


class BatchOut(Schema):
    batch: uuid.UUID
    items: list[GenerationOut]


class GenerationPage(Schema):
    items: list[GenerationOut]
    next_cursor: str | None


@router.post("/generations", response={201: BatchOut})
def ask(request: StudioRequest, payload: GenerationAsk) -> Status[dict[str, Any]]:
    """Put a prompt to models; a worker answers, and each answer is read at `GET /generations/{id}` as it grows."""
    actor = request.actor
    made = services.generate_create(
        actor=actor,
        team=actor.get(Team, payload.team, Role.MEMBER, team="id") if payload.team else actor.current_team,
        models=payload.models,
        prompt=payload.prompt,
        system=payload.system,
        settings=payload.settings.model_dump(),
        index=payload.index,
        find=payload.find,
    )
    return Status(201, {"batch": made[0].batch, "items": made})


@router.get("/generations", response=GenerationPage)
def generations(request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The answers your teams have asked for, newest first."""
    items, next_cursor = page(selectors.generations_visible(request.actor), limit, cursor)
    return {"items": items, "next_cursor": next_cursor}


@router.get("/generations/{generation_id}", response=GenerationOut)
def generation(request: StudioRequest, generation_id: str) -> Generation:
    """One answer: waiting, running (with the text so far), done, stopped or failed."""
    return selectors.generation_get(request.actor, generation_id)


@router.post("/generations/{generation_id}/stop", response=GenerationOut)
def stop(request: StudioRequest, generation_id: str) -> Generation:
    """End an answer, keeping what has been written of it."""
    found = selectors.generation_get(request.actor, generation_id)
    services.generation_stop(actor=request.actor, generation=found)
    return selectors.generation_get(request.actor, generation_id)
