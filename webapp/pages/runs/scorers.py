"""The models that score answers or teach, to be chosen where the rewards or the method ask for them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from polm_core.catalogue import WRITELESS
from polm_core.method import Method, Teacher
from webapp.accounts.access import Actor
from webapp.pages.runs.choices import CHECKPOINTS, MODELS, Source, with_chosen
from webapp.registry.models import BaseModel, Checkpoint, ModelSource
from webapp.registry.selectors import checkpoints_visible, models_visible
from webapp.runs.models import RewardList
from webapp.runs.reward_lists import reward_lists_visible
from webapp.runs.scoring import asks_for_judge_model, asks_for_reward_model, trained_from

LISTS = 100
SCORERS = ("reward_model", "judge_model", "teacher_model")


@dataclass(frozen=True)
class ScorerChoice:
    """A picker of one of `SCORERS`."""

    field: str
    label: str
    offered: list[Source]
    chosen: Source | None

    @property
    def or_else(self) -> str:
        """What can be done in place of choosing one."""
        return "" if self.field == "teacher_model" else ", or give its score no weight"


def scorer_choices(actor: Actor, config: Mapping[str, Any], values: Mapping[str, Any]) -> list[ScorerChoice]:
    """The models that `config` asks for, each with what may be chosen, and what `values` name."""
    found = []
    if asks_for_reward_model(config):
        found.append(_choice("reward_model", "Reward model", values, *_reward_models(actor)))
    if asks_for_judge_model(config):
        found.append(_choice("judge_model", "Judge model", values, *_writers(actor)))
    return found


def teacher_choice(
    actor: Actor, method: Method, values: Mapping[str, Any], model: Source | None
) -> ScorerChoice | None:
    """The teachers that may be chosen, where the method has one. An opponent is what `model` was trained from, unless
    another is chosen."""
    if method.teacher is None:
        return None
    if method.teacher is not Teacher.OPPONENT:
        return _choice("teacher_model", "Teacher model", values, *_writers(actor))
    checkpoint = model.checkpoint if isinstance(model, BaseModel) else model
    if not values.get("teacher_model") and checkpoint is not None:
        values = {**values, "teacher_model": trained_from(checkpoint)}
    return _choice("teacher_model", "Opponent", values, *_writers(actor))


def _reward_models(actor: Actor) -> tuple[QuerySet[Checkpoint], QuerySet[BaseModel]]:
    """Checkpoints that were trained to score answers or their steps, and models from elsewhere."""
    team = actor.current_team.pk
    checkpoints = checkpoints_visible(actor, team).filter(method__in=WRITELESS)
    return checkpoints, models_visible(actor, team).filter(source__in=(ModelSource.HUB, ModelSource.PATH))


def _writers(actor: Actor) -> tuple[QuerySet[Checkpoint], QuerySet[BaseModel]]:
    """Whatever writes text."""
    team = actor.current_team.pk
    return checkpoints_visible(actor, team).exclude(method__in=WRITELESS), models_visible(actor, team)


def _choice(
    field: str,
    label: str,
    values: Mapping[str, Any],
    checkpoints: QuerySet[Checkpoint],
    models: QuerySet[BaseModel],
) -> ScorerChoice:
    chosen = str(values.get(field, "") or "").strip()
    offered = _offered(checkpoints, models, chosen)
    return ScorerChoice(field, label, offered, next((one for one in offered if str(one.pk) == chosen), None))


def writers_to_choose(actor: Actor, chosen: Collection[str]) -> list[Source]:
    """The newest checkpoints and models that write text, and those that are chosen."""
    return _offered(*_writers(actor), chosen)


def _offered(
    checkpoints: QuerySet[Checkpoint], models: QuerySet[BaseModel], chosen: str | Collection[str]
) -> list[Source]:
    return [
        *with_chosen(checkpoints.order_by("-id"), chosen, CHECKPOINTS),
        *with_chosen(models.order_by("-id"), chosen, MODELS),
    ]


def pinned_lists(actor: Actor, chosen: str = "") -> list[RewardList]:
    """The newest reward lists of the team whose things the page shows, and the one that is chosen."""
    lists = reward_lists_visible(actor).filter(project__team=actor.current_team)
    return with_chosen(lists, chosen, LISTS)
