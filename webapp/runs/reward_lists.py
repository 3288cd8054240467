"""Rewards pinned under a name and a version: what is chosen at launch is what was looked at in the workbench."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.db import transaction
from django.db.models import Max, QuerySet

from polm_core import catalogue
from polm_core.errors import ConfigError
from polm_core.method import Method
from polm_core.rewards.config import RewardsConfig
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.accounts.services import audit
from webapp.errors import Invalid, NotFound
from webapp.registry.models import BaseModel
from webapp.runs.models import Project, RewardList
from webapp.runs.scoring import asks_for_judge_model, asks_for_reward_model, scoring_model

MAX_NAME = 100


@cache
def rewarding_method() -> Method:
    """A method that has the rewards' own defaults: it says what rewards are, and how they are asked for in a form."""
    plain = RewardsConfig().model_dump(mode="json")
    return next(method for method in catalogue.METHODS if method.default_config().get("rewards") == plain)


def rewards_parse(rewards: Any) -> dict[str, Any]:
    """All settings of rewards that may come as a list or with defaults left out. Raises Invalid with the fields."""
    try:
        parsed = rewarding_method().parse({"rewards": rewards})
    except ConfigError as error:
        fields = {name.removeprefix("config."): problems for name, problems in error.fields.items()}
        raise Invalid("The rewards are not accepted.", fields=fields) from None
    found: dict[str, Any] = parsed.model_dump(mode="json")["rewards"]
    return found


def scoring_models(
    actor: Actor, team: Team, rewards: Mapping[str, Any], reward_model: str | None, judge_model: str | None
) -> dict[str, BaseModel | None]:
    """The models that the rewards ask for, by field; what they do not ask for is None. Raises as `scoring_model`."""
    config = {"rewards": rewards}
    scored, judged = asks_for_reward_model(config), asks_for_judge_model(config)
    return {
        "reward_model": scoring_model(actor, team, reward_model, "reward_model") if scored else None,
        "judge_model": scoring_model(actor, team, judge_model, "judge_model") if judged else None,
    }


def reward_list_create(
    *,
    actor: Actor,
    project: Project,
    name: str,
    rewards: Any,
    reward_model: str | None = None,
    judge_model: str | None = None,
) -> RewardList:
    """Pin rewards in a project; a name that is there already gets its next version. Raises Invalid."""
    actor.require(project.team_id, Role.MEMBER, "project")
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or "\0" in name:
        raise Invalid("The name is not accepted.", fields={"name": [f"must have 1 to {MAX_NAME} characters"]})
    settings = rewards_parse(rewards)
    models = scoring_models(actor, project.team, settings, reward_model, judge_model)
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)  # versions are counted one after another
        same = RewardList.objects.filter(project=project, name__iexact=name)
        newest = same.aggregate(newest=Max("version"))["newest"] or 0
        made = RewardList.objects.create(
            project=project, name=name, version=newest + 1, rewards=settings, created_by=actor.user, **models
        )
        audit(actor=actor, team_id=project.team_id, verb="reward_list.create", target=made, detail={"name": str(made)})
    return made


def reward_lists_visible(actor: Actor) -> QuerySet[RewardList]:
    """The pinned rewards of the actor's teams, newest first, with what a line shows."""
    lists = RewardList.objects.filter(project__team__in=actor.team_ids())
    return lists.select_related("project", "reward_model", "judge_model", "created_by").order_by("-id")


def reward_list_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> RewardList:
    """Pinned rewards. Raises NotFound or Forbidden."""
    return actor.get(reward_lists_visible(actor), pk, role, team="project__team_id")


def reward_list_for_run(actor: Actor, ref: str, team: Team) -> RewardList:
    """The pinned rewards that a run of `team` names. Raises Invalid."""
    try:
        found = reward_list_get(actor, ref, Role.MEMBER)
    except NotFound:
        found = None
    if found is None or found.project.team_id != team.pk:
        raise Invalid("There is no such reward list.", fields={"reward_list": ["names no reward list of this team"]})
    return found
