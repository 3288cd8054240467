"""Trials of rewards, and pinned reward lists, over REST."""

import datetime
import uuid
from typing import Annotated, Any, Literal

from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field

from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.runs import reward_lists
from webapp.runs.models import RewardList
from webapp.runs.services import project_for
from webapp.workbench import selectors, services
from webapp.workbench.models import RewardTrial

router = Router(tags=["rewards"])

Rewards = dict[str, Any] | list[Any]
Offset = Annotated[int, Field(ge=0, le=services.MAX_MOST)]


class Body(Schema):
    model_config = ConfigDict(extra="forbid")


class TrialIn(Body):
    """Rewards as in a run's settings, and the dataset or the run on whose answers they are tried."""

    rewards: Rewards
    dataset: str | None = None
    run: str | None = None
    most: int = services.DEFAULT_MOST
    reward_model: str | None = None
    judge_model: str | None = None


class TrialOut(Schema):
    id: uuid.UUID
    dataset: uuid.UUID | None
    version: int | None
    run: uuid.UUID | None
    most: int
    rewards: dict[str, Any]
    reward_model: uuid.UUID | None
    judge_model: uuid.UUID | None
    status: str
    progress: dict[str, Any]
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    created_by: str | None
    created_at: datetime.datetime


class TrialsOut(Schema):
    items: list[TrialOut]
    next_cursor: str | None


class TrialRowOut(Schema):
    place: int
    prompt: str
    completion: str
    reference: str | None
    scores: dict[str, float | None]
    reward: float | None
    disagreement: float


class TrialRowsOut(Schema):
    items: list[TrialRowOut]
    next_offset: int | None


class RewardListIn(Body):
    """Rewards to pin in a project (its id or name): given here, or those of a trial."""

    name: str
    project: str | None = None
    trial: str | None = None
    rewards: Rewards | None = None
    reward_model: str | None = None
    judge_model: str | None = None


class RewardListOut(Schema):
    id: uuid.UUID
    project: uuid.UUID
    name: str
    version: int
    rewards: dict[str, Any]
    reward_model: uuid.UUID | None
    judge_model: uuid.UUID | None
    created_by: str | None
    created_at: datetime.datetime


class RewardListsOut(Schema):
    items: list[RewardListOut]
    next_cursor: str | None


@router.post("/reward-trials", response={201: TrialOut})
def trial_create(request: StudioRequest, payload: TrialIn) -> Status[dict[str, Any]]:
    """Try rewards on answers that are there already; a worker judges them."""
    return Status(201, _trial(services.trial_create(actor=request.actor, **payload.model_dump())))


@router.get("/reward-trials", response=TrialsOut)
def trials(request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The trials of your teams, newest first."""
    items, next_cursor = page(selectors.trials_visible(request.actor), limit, cursor)
    return {"items": [_trial(one) for one in items], "next_cursor": next_cursor}


@router.get("/reward-trials/{trial_id}", response=TrialOut)
def trial(request: StudioRequest, trial_id: str) -> dict[str, Any]:
    """One trial: waiting, running (with its progress), done (with its report), stopped or failed."""
    return _trial(selectors.trial_get(request.actor, trial_id))


@router.get("/reward-trials/{trial_id}/rows", response=TrialRowsOut)
def trial_rows(
    request: StudioRequest,
    trial_id: str,
    order: Literal["disagreement", "lowest", "highest", "place"] = "disagreement",
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> dict[str, Any]:
    """The judged answers with what each reward gave them, those that the rewards disagree on most first."""
    found = selectors.trial_get(request.actor, trial_id)
    items, next_offset = selectors.trial_rows(found, order=order, offset=offset, limit=limit)
    return {"items": items, "next_offset": next_offset}


@router.post("/reward-trials/{trial_id}/stop", response=TrialOut)
def trial_stop(request: StudioRequest, trial_id: str) -> dict[str, Any]:
    """End a trial."""
    found = selectors.trial_get(request.actor, trial_id)
    services.trial_stop(actor=request.actor, trial=found)
    return _trial(selectors.trial_get(request.actor, trial_id))


@router.post("/reward-lists", response={201: RewardListOut})
def reward_list_create(request: StudioRequest, payload: RewardListIn) -> Status[dict[str, Any]]:
    """Pin rewards under a name; the same name again in a project makes its next version."""
    actor = request.actor
    found = selectors.trial_get(actor, payload.trial, Role.MEMBER) if payload.trial else None
    team = found.team if found else actor.current_team
    actor.require(team.pk, Role.MEMBER, "team")
    project = project_for(actor=actor, team=team, ref=payload.project)
    if found:
        made = services.trial_pin(actor=actor, trial=found, project=project, name=payload.name)
    else:
        given = payload.model_dump(exclude={"project", "trial"})
        made = reward_lists.reward_list_create(actor=actor, project=project, **given)
    return Status(201, _list(made))


@router.get("/reward-lists", response=RewardListsOut)
def reward_lists_page(
    request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
) -> dict[str, Any]:
    """The pinned rewards of your teams, newest first."""
    items, next_cursor = page(reward_lists.reward_lists_visible(request.actor), limit, cursor)
    return {"items": [_list(one) for one in items], "next_cursor": next_cursor}


@router.get("/reward-lists/{list_id}", response=RewardListOut)
def reward_list(request: StudioRequest, list_id: str) -> dict[str, Any]:
    """Pinned rewards; a run is launched with them by `reward_list`."""
    return _list(reward_lists.reward_list_get(request.actor, list_id))


def _trial(trial: RewardTrial) -> dict[str, Any]:
    version = trial.dataset_version
    return {
        "id": trial.pk,
        "dataset": version.dataset_id if version else None,
        "version": version.number if version else None,
        "run": trial.run_id,
        "most": trial.most,
        "rewards": trial.rewards,
        "reward_model": trial.reward_model_id,
        "judge_model": trial.judge_model_id,
        "status": trial.status,
        "progress": trial.progress,
        "report": trial.report,
        "error": trial.error,
        "created_by": trial.created_by.username if trial.created_by else None,
        "created_at": trial.created_at,
    }


def _list(pinned: RewardList) -> dict[str, Any]:
    return {
        "id": pinned.pk,
        "project": pinned.project_id,
        "name": pinned.name,
        "version": pinned.version,
        "rewards": pinned.rewards,
        "reward_model": pinned.reward_model_id,
        "judge_model": pinned.judge_model_id,
        "created_by": pinned.created_by.username if pinned.created_by else None,
        "created_at": pinned.created_at,
    }
