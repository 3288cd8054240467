"""Answers of runs over REST: reading them, and making datasets of them."""

import uuid
from typing import Any, Literal

from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field

from webapp.accounts.models import Role
from webapp.datasets.selectors import dataset_get
from webapp.errors import Invalid
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.runs import selectors
from webapp.runs.answers import MAX_CHOSEN, dataset_of_answers
from webapp.runs.api import ActorRequest
from webapp.runs.models import RunSample

router = Router(tags=["runs"])


class SampleOut(Schema):
    id: int
    step: int
    prompt: str
    completion: str
    is_rollout: bool
    reward: float | None
    advantage: float | None
    data: dict[str, Any]


class SamplesOut(Schema):
    items: list[SampleOut]
    next_cursor: str | None


class AnswersIn(Schema):
    """Which answers, and where to. Without `samples` a rule chooses among all that the model learned from.

    As `prompt-completion`: each chosen answer, or the best to each prompt whose reward is at least `least_reward`. As
    `preference`: the best against the worst answer to each prompt, with rewards at least `least_margin` apart.
    """

    model_config = ConfigDict(extra="forbid")
    format: Literal["prompt-completion", "preference"]
    samples: list[int] | None = Field(None, max_length=MAX_CHOSEN, description="ids of answers chosen by hand")
    least_reward: float | None = None
    least_margin: float = Field(0.0, ge=0)
    name: str = Field("", description="of the new dataset")
    dataset: str = Field("", description="a dataset of the same format to add to, instead of a new one")


class AnswersOut(Schema):
    id: uuid.UUID
    status: str
    version: int


@router.get("/runs/{run_id}/samples", response=SamplesOut)
def run_samples(
    request: ActorRequest,
    run_id: str,
    step: int | None = None,
    rollouts: bool | None = None,
    order: Literal["newest", "reward", "advantage"] = "newest",
    limit: Limit = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Answers to held-out prompts and rollouts, or one kind alone, newest first.

    With `order` the rollouts with the highest reward or advantage, which come in one page of at most `limit`.
    """
    found = selectors.run_get(request.actor, run_id)
    if order != "newest":
        return {"items": selectors.rollouts_best_first(found, order, step=step)[:limit], "next_cursor": None}
    samples: Any = RunSample.objects.filter(run=found)
    if step is not None:
        samples = samples.filter(step=step)
    if rollouts is not None:
        samples = samples.filter(is_rollout=rollouts)
    items, next_cursor = page(samples, limit, cursor)
    return {"items": items, "next_cursor": next_cursor}


@router.post("/runs/{run_id}/dataset", response={201: AnswersOut})
def run_dataset(request: ActorRequest, run_id: str, payload: AnswersIn) -> Any:
    """Make rows of a run's answers: a new dataset, or the next version of one. A worker does it."""
    found = selectors.run_get(request.actor, run_id, Role.MEMBER)
    if bool(payload.name) == bool(payload.dataset):
        problem = "give a name for a new dataset, or a dataset to add to, but not both"
        raise Invalid("It is not clear where the rows go.", fields={"name": [problem], "dataset": [problem]})
    version = dataset_of_answers(
        actor=request.actor,
        run=found,
        dataset=dataset_get(request.actor, payload.dataset, Role.MEMBER) if payload.dataset else None,
        **payload.dict(exclude={"dataset"}),
    )
    return Status(201, {"id": version.dataset_id, "status": version.status, "version": version.number})
