"""Cards of datasets over the API."""

import datetime
from typing import Any

from ninja import Router, Schema
from pydantic import ConfigDict, Field

from webapp.accounts.models import Role
from webapp.datasets import cards, selectors
from webapp.datasets.api import ApiRequest
from webapp.datasets.models import Dataset, DatasetCard

router = Router(tags=["datasets"])


class CardOut(Schema):
    """What people write about a dataset, as markdown. `version` counts how often it was saved, from 0; `suggested` is a
    beginning made of what the studio knows."""

    version: int
    body: str
    updated_at: datetime.datetime | None
    updated_by: str | None
    suggested: str


class CardPatch(Schema):
    """A new text; `version` is the one that the text before was read at."""

    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=0)
    body: str


@router.get("/datasets/{dataset_id}/card", response=CardOut)
def dataset_card(request: ApiRequest, dataset_id: str) -> Any:
    """The card of a dataset."""
    dataset = selectors.dataset_get(request.actor, dataset_id)
    return _card(dataset, cards.card_of(dataset))


@router.patch("/datasets/{dataset_id}/card", response=CardOut)
def dataset_card_update(request: ApiRequest, dataset_id: str, payload: CardPatch) -> Any:
    """Save the card; 409 when somebody has saved another version since `version`."""
    dataset = selectors.dataset_get(request.actor, dataset_id, Role.MEMBER)
    card = cards.card_save(actor=request.actor, dataset=dataset, base=payload.version, body=payload.body)
    return _card(dataset, card)


def _card(dataset: Dataset, card: DatasetCard) -> dict[str, Any]:
    return {
        "version": card.number,
        "body": card.body,
        "updated_at": card.updated_at,
        "updated_by": card.updated_by.username if card.updated_by else None,
        "suggested": cards.suggested_card(selectors.version_get(dataset)),
    }
