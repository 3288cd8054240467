"""Datasets made of the rows of others, over the API."""

from typing import Any, Literal

from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field

from polm_core.gym.tasks import MAX_SEED
from webapp.accounts.models import Role
from webapp.datasets import choosing, selectors
from webapp.datasets.api import ApiRequest, DatasetCreated, created

router = Router(tags=["datasets"])


class SplitBody(Schema):
    """How rows are split in two; see `Split` of `polm_core.data.choose`."""

    model_config = ConfigDict(extra="forbid")
    share: float = Field(description="of the rows to hold out, above 0 and below 1")
    by: Literal["random", "content", "prompt"] = Field(
        "random", description="`content` keeps equal rows together, `prompt` all answers to a prompt"
    )
    seed: int = 0
    version: int | None = Field(None, ge=1, lt=2**31, description="by default the latest that is ready")


class FilterBody(Schema):
    """Which rows are kept; at least one rule. Patterns are RE2's, and searched for in each text of a row."""

    model_config = ConfigDict(extra="forbid")
    least_characters: int | None = None
    most_characters: int | None = None
    contains: str = ""
    lacks: str = ""
    distinct: bool = Field(False, description="leave out rows that repeat an earlier one")
    name: str = Field("", description="by default the dataset's name")
    version: int | None = Field(None, ge=1, lt=2**31, description="by default the latest that is ready")


class PartBody(Schema):
    model_config = ConfigDict(extra="forbid")
    dataset: str
    weight: float = 1.0


class MixBody(Schema):
    model_config = ConfigDict(extra="forbid")
    parts: list[PartBody] = Field(description="datasets of one format and team, and how much each counts")
    rows: int | None = Field(None, ge=1, description="in all; by default as many as the weights allow")
    seed: int = Field(0, ge=0, le=MAX_SEED)
    name: str = ""


class SplitOut(Schema):
    train: DatasetCreated
    held_out: DatasetCreated


@router.post("/datasets/{dataset_id}/split", response={201: SplitOut})
def dataset_split(request: ApiRequest, dataset_id: str, payload: SplitBody) -> Any:
    """Split the rows into two new datasets: those to train on, and those held out."""
    version = selectors.version_with_rows(
        selectors.dataset_get(request.actor, dataset_id, Role.MEMBER), payload.version
    )
    wanted = payload.model_dump(exclude={"version"})
    train, held_out = choosing.dataset_split(actor=request.actor, version=version, **wanted)
    return Status(201, {"train": created(train.dataset), "held_out": created(held_out.dataset)})


@router.post("/datasets/{dataset_id}/filter", response={201: DatasetCreated})
def dataset_filter(request: ApiRequest, dataset_id: str, payload: FilterBody) -> Any:
    """Make a new dataset of the rows that fit."""
    version = selectors.version_with_rows(
        selectors.dataset_get(request.actor, dataset_id, Role.MEMBER), payload.version
    )
    rules = payload.model_dump(exclude={"version"})
    return Status(201, created(choosing.dataset_filter(actor=request.actor, version=version, **rules).dataset))


@router.post("/datasets/mix", response={201: DatasetCreated})
def dataset_mix(request: ApiRequest, payload: MixBody) -> Any:
    """Make a new dataset of rows of others, drawn and mixed by chance."""
    made = choosing.dataset_mix(
        actor=request.actor,
        parts=[(part.dataset, part.weight) for part in payload.parts],
        **payload.model_dump(exclude={"parts"}),
    )
    return Status(201, created(made.dataset))
