"""Indexes of documents, and looking questions up in them, over REST."""

import uuid
from datetime import datetime
from typing import Any

from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.retrieval import selectors, services
from webapp.retrieval.models import DocumentIndex, Lookup

router = Router(tags=["retrieval"])


class Body(Schema):
    model_config = ConfigDict(extra="forbid")


class IndexIn(Body):
    """A dataset of documents, or of plain texts, and how they are cut: `chunk_tokens` and `overlap`."""

    dataset: str
    name: str = ""
    settings: dict[str, Any] = {}


class IndexOut(Schema):
    """`documents` of `total_documents` rows are in; `progress` may hold `eta_s`, the seconds that are left."""

    id: uuid.UUID
    name: str
    dataset: uuid.UUID = Field(alias="dataset_version.dataset_id")
    version: int = Field(alias="dataset_version.number")
    encoder: str
    chunk_tokens: int
    overlap: int
    status: str
    documents: int
    total_documents: int = Field(alias="dataset_version.rows")
    chunks: int
    progress: dict[str, Any]
    error: dict[str, Any] | None
    created_at: datetime


class IndexesOut(Schema):
    items: list[IndexOut]
    next_cursor: str | None


class LookupIn(Body):
    """A question, and which passages are near enough to it: `top_k` and `min_score`."""

    question: str
    settings: dict[str, Any] = {}


class PassageOut(Schema):
    """A chunk: the dataset's row `document`, from 0, and the cosine between the question's vector and its own."""

    document: int
    title: str
    text: str
    score: float


class LookupOut(Schema):
    id: uuid.UUID
    index: uuid.UUID = Field(alias="index_id")
    question: str
    top_k: int
    min_score: float
    status: str
    passages: list[PassageOut]
    error: dict[str, Any] | None
    created_at: datetime


@router.post("/indexes", response={201: IndexOut})
def index_create(request: StudioRequest, payload: IndexIn) -> Status[DocumentIndex]:
    """Index documents; a worker builds it: waiting, running, and then done, stopped or failed."""
    made = services.index_create(actor=request.actor, **payload.model_dump())
    return Status(201, selectors.index_get(request.actor, made.pk))


@router.get("/indexes", response=IndexesOut)
def indexes(request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The indexes of your teams, newest first."""
    items, next_cursor = page(selectors.indexes_visible(request.actor), limit, cursor)
    return {"items": items, "next_cursor": next_cursor}


@router.get("/indexes/{index_id}", response=IndexOut)
def index(request: StudioRequest, index_id: str) -> DocumentIndex:
    """One index with how far it is."""
    return selectors.index_get(request.actor, index_id)


@router.post("/indexes/{index_id}/stop", response=IndexOut)
def index_stop(request: StudioRequest, index_id: str) -> DocumentIndex:
    """End the building, keeping what is there."""
    services.index_stop(actor=request.actor, index=selectors.index_get(request.actor, index_id, Role.MEMBER))
    return selectors.index_get(request.actor, index_id)


@router.post("/indexes/{index_id}/resume", response=IndexOut)
def index_resume(request: StudioRequest, index_id: str) -> DocumentIndex:
    """Go on with an index that was stopped or has failed."""
    services.index_resume(actor=request.actor, index=selectors.index_get(request.actor, index_id, Role.MEMBER))
    return selectors.index_get(request.actor, index_id)


@router.delete("/indexes/{index_id}", response={204: None})
def index_delete(request: StudioRequest, index_id: str) -> Status[None]:
    """Delete an index with its chunks; the dataset stays."""
    services.index_delete(actor=request.actor, index=selectors.index_get(request.actor, index_id, Role.MEMBER))
    return Status(204, None)


@router.post("/indexes/{index_id}/lookups", response={201: LookupOut})
def lookup_create(request: StudioRequest, index_id: str, payload: LookupIn) -> Status[Lookup]:
    """Look a question up; what is found is read at `GET /lookups/{id}`."""
    found = selectors.index_get(request.actor, index_id, Role.MEMBER)
    return Status(201, services.lookup_create(actor=request.actor, index=found, **payload.model_dump()))


@router.get("/lookups/{lookup_id}", response=LookupOut)
def lookup(request: StudioRequest, lookup_id: str) -> Lookup:
    """One question: waiting, running, done (with the passages, the nearest first) or failed."""
    return selectors.lookup_get(request.actor, lookup_id)
