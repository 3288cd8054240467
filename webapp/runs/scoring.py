"""What a run asks for besides its settings and the model it starts from: models that score, teach or are merged."""

from collections.abc import Mapping, Sequence
from typing import Any

from polm_core.method import Teacher
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.errors import Conflict, Invalid
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
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
    return _ready(actor, team, ref, field)


def teaching_model(actor: Actor, kind: Teacher, model: BaseModel, ref: str | None, team: Team) -> BaseModel:
    """The model that `ref` names to teach `model`, or to be held against it; it has to be ready, and another one.

    Without a `ref`, what `model` was trained from is what it is held against.
    """
    opposes = kind is Teacher.OPPONENT
    ref = ref or (trained_from(model.checkpoint) if opposes and model.checkpoint else "")
    right = "must name another model than the one that is " + ("measured" if opposes else "trained")
    if not ref:
        raise Invalid(
            f"{model.name} was trained from no model here, so there is none to hold it against."
            if opposes
            else "The method learns from a teacher, and there is none.",
            advice="Choose an opponent: any other model that writes."
            if opposes
            else "Choose a teacher model: a stronger one than the model that is trained.",
            fields={"teacher_model": [right if opposes else "must name a teacher model"]},
        )
    found = _ready(actor, team, ref, "teacher_model")
    if found.pk == model.pk:
        raise Invalid(
            f"{found.name} would be held against itself, which tells nothing."
            if opposes
            else f"{found.name} would be its own teacher, which it can learn nothing from.",
            advice="Choose another opponent." if opposes else "Choose a stronger model as the teacher.",
            fields={"teacher_model": [right]},
        )
    return found


def trained_from(checkpoint: Checkpoint) -> str:
    """The id of the checkpoint or the base model that training started from; empty where neither is known."""
    return str(checkpoint.parent_id or checkpoint.base_model_id or "")


def merged_models(actor: Actor, start: BaseModel, refs: Sequence[str], team: Team) -> list[BaseModel]:
    """The models that `refs` name to be merged with `start`; each has to be ready, and named once."""
    found = [_ready(actor, team, ref, "merge_models", "model to merge") for ref in refs]
    if len({start.pk, *(one.pk for one in found)}) <= len(found):
        raise Invalid(
            "A model is named twice.",
            advice="Name each model once; its weight says how much it counts.",
            fields={"merge_models": ["must name each model once, and not the one that the run starts from"]},
        )
    return found


def _ready(actor: Actor, team: Team, ref: str, field: str, what: str = "") -> BaseModel:
    found = model_resolve_for_run(actor, ref, team=team, field=field)
    if found.status != ModelStatus.READY:
        what = what or field.replace("_", " ")
        raise Conflict(f"The {what} {found.name} is not ready.", advice="See its page, or choose another.")
    return found


def _rewards(config: Mapping[str, Any]) -> Mapping[str, Any]:
    rewards = config.get("rewards", {})
    return rewards if isinstance(rewards, Mapping) else {}
