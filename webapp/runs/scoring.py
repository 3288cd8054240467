"""What the rewards in a run's settings ask for besides the settings: models that score, or an endpoint."""

from collections.abc import Mapping
from typing import Any

from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.errors import Conflict, Invalid
from webapp.registry.models import BaseModel, ModelStatus
from webapp.registry.services import model_resolve_for_run


def asks_for_reward_model(config: Mapping[str, Any]) -> bool:
    """Whether the score of a reward model has a weight."""
    return bool(_rewards(config).get("reward_model"))


def asks_for_judge_model(config: Mapping[str, Any]) -> bool:
    """Whether the judge has a weight, and is a model on the worker."""
    rewards = _rewards(config)
    return bool(rewards.get("judge")) and rewards.get("judge_by", "model") == "model"


def asks_for_endpoint(config: Mapping[str, Any]) -> bool:
    """Whether the judge has a weight, and is the team's or the studio's endpoint."""
    rewards = _rewards(config)
    return bool(rewards.get("judge")) and rewards.get("judge_by") == "endpoint"


def scoring_model(actor: Actor, team: Team, ref: str | None, field: str) -> BaseModel:
    """The model that `ref` names to score answers, as `reward_model` or `judge_model`; it has to be ready."""
    what, setting = field.replace("_", " "), "judge" if field == "judge_model" else field
    if not ref:
        raise Invalid(
            f"The score of a {what} has a weight, and there is none.",
            advice=f"Choose a {what}, or set rewards.{setting} to 0.",
            fields={field: [f"must name a {what}"]},
        )
    found = model_resolve_for_run(actor, ref, team=team, field=field)
    if found.status != ModelStatus.READY:
        raise Conflict(f"The {what} {found.name} is not ready.", advice="See its page, or choose another.")
    return found


def _rewards(config: Mapping[str, Any]) -> Mapping[str, Any]:
    rewards = config.get("rewards", {})
    return rewards if isinstance(rewards, Mapping) else {}
