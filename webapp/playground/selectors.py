"""Reading prompts and answers."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.db.models import QuerySet

from polm_core.catalogue import WRITELESS
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.errors import NotFound
from webapp.playground.models import Generation
from webapp.playground.services import MAX_MODELS
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
from webapp.registry.selectors import checkpoints_visible, models_visible
from webapp.retrieval.models import DocumentIndex
from webapp.retrieval.selectors import indexes_ready

HISTORY = 20
MAX_CHOICES = 100


def generations_visible(actor: Actor) -> QuerySet[Generation]:
    """The answers of the actor's teams, with what they came from."""
    return Generation.objects.filter(team_id__in=actor.team_ids()).select_related(
        "model", "checkpoint", "index__dataset_version", "created_by"
    )


def generation_get(actor: Actor, pk: Any) -> Generation:
    """One answer. Raises NotFound."""
    return actor.get(Generation.objects.select_related("model", "checkpoint"), pk)


def batch_get(actor: Actor, batch: uuid.UUID) -> list[Generation]:
    """The answers to one prompt, in the order they were asked for. Raises NotFound."""
    found = list(generations_visible(actor).filter(batch=batch).order_by("pk"))
    if not found:
        raise NotFound("There is no such prompt.")
    return found


def generations_wait() -> bool:
    """Whether there are answers for a worker to take up; a scheduler that sees some wakes one."""
    return Generation.objects.claimable().exists()


def history(actor: Actor, team: Team) -> list[list[Generation]]:
    """The team's last prompts, newest first, each with its answers."""
    latest = generations_visible(actor).filter(team=team).defer("text").order_by("-pk")[: HISTORY * MAX_MODELS]
    batches = [list(answers)[::-1] for _, answers in groupby(latest, key=lambda answer: answer.batch)]
    return batches[:HISTORY]


@dataclass(frozen=True)
class Choices:
    """What a prompt can be put to."""

    models: list[BaseModel]
    checkpoints: list[Checkpoint]
    indexes: list[DocumentIndex]


def choices(actor: Actor, team: Team, *, chosen: Sequence[str] = ()) -> Choices:
    """The models that are ready, and the newest checkpoints with those of the `chosen` ids that are older."""
    ready = models_visible(actor, team.pk).filter(status=ModelStatus.READY, checkpoint=None)
    visible = checkpoints_visible(actor, team.pk).order_by("-pk")
    newest = list(visible.exclude(method__in=WRITELESS)[:MAX_CHOICES])
    missing = {pk for pk in chosen if _is_uuid(pk)} - {str(checkpoint.pk) for checkpoint in newest}
    older = list(visible.filter(pk__in=missing)[:MAX_MODELS]) if missing else []
    return Choices(
        models=list(ready.order_by("name")[:MAX_CHOICES]),
        checkpoints=newest + older,
        indexes=indexes_ready(actor, team),
    )


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
