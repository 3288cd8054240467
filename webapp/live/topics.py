"""Who may listen to what."""

import uuid
from collections.abc import Iterable

from django.db.models import Q

from webapp.accounts.access import Actor
from webapp.datasets.models import Dataset
from webapp.errors import Invalid, NotFound
from webapp.playground.models import Generation
from webapp.registry.models import BaseModel
from webapp.runs.models import Run

MAX_TOPICS = 50
KINDS = ("run", "dataset", "model", "batch", "team", "alerts")


def require_topics(actor: Actor, topics: Iterable[str]) -> list[str]:
    """The topics, each once, if all are of the actor's teams. Raises NotFound for another's, Invalid for none."""
    wanted = list(dict.fromkeys(topics))
    if not 0 < len(wanted) <= MAX_TOPICS:
        raise Invalid("No such set of topics.", fields={"topic": [f"give 1 to {MAX_TOPICS}, as in topic=run:<id>"]})
    by_kind: dict[str, set[uuid.UUID]] = {}
    for topic in wanted:
        kind, key = _parse(topic)
        by_kind.setdefault(kind, set()).add(key)
    for kind, keys in by_kind.items():
        if missing := keys - _visible(actor, kind, keys):
            raise NotFound(f"There is no such topic: {kind}:{min(missing)}.")
    return [f"{kind}:{key}" for kind, keys in by_kind.items() for key in keys]


def _parse(topic: str) -> tuple[str, uuid.UUID]:
    kind, _, key = topic.partition(":")
    if kind not in KINDS:
        raise Invalid("No such kind of topic.", fields={"topic": [f"must begin with one of {', '.join(KINDS)}"]})
    try:
        return kind, uuid.UUID(key)
    except ValueError:
        raise NotFound(f"There is no such {kind}.") from None


def _visible(actor: Actor, kind: str, keys: set[uuid.UUID]) -> set[uuid.UUID]:
    teams = actor.team_ids()
    match kind:
        case "run":
            return set(Run.objects.filter(pk__in=keys, team__in=teams).values_list("pk", flat=True))
        case "dataset":
            return set(Dataset.objects.filter(pk__in=keys, team__in=teams).values_list("pk", flat=True))
        case "model":
            models = BaseModel.objects.filter(Q(team__in=teams) | Q(team=None), pk__in=keys)
            return set(models.values_list("pk", flat=True))
        case "batch":
            return set(Generation.objects.filter(batch__in=keys, team__in=teams).values_list("batch", flat=True))
        case _:
            return keys.intersection(teams)
