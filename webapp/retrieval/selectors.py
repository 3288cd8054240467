"""Reading indexes and what was looked up in them."""

import uuid
from typing import Any

from django.db.models import QuerySet

from polm_core.data.convert import CONVERSIONS
from polm_core.formats import Format
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.claimed import WorkStatus
from webapp.datasets.models import DatasetVersion
from webapp.datasets.selectors import datasets_of_formats
from webapp.retrieval.models import DocumentIndex, Lookup

MAX_CHOICES = 100
SHOWN_LOOKUPS = 20
# What rows of documents can be had from.
DOCUMENTS = (Format.DOCUMENTS, *(source for source, target in CONVERSIONS if target == Format.DOCUMENTS))


def indexes_visible(actor: Actor) -> QuerySet[DocumentIndex]:
    """The indexes of the actor's teams, newest first, with what a line shows."""
    return (
        DocumentIndex.objects.filter(team__in=actor.team_ids())
        .select_related("dataset_version__dataset", "created_by")
        .defer("dataset_version__report")
        .order_by("-id")
    )


def index_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> DocumentIndex:
    """One index. Raises NotFound or Forbidden."""
    return actor.get(indexes_visible(actor), pk, role)


def indexes_ready(actor: Actor, team: Team) -> list[DocumentIndex]:
    """The newest indexes of a team that questions can be looked up in."""
    return list(indexes_visible(actor).filter(team=team, status=WorkStatus.DONE)[:MAX_CHOICES])


def datasets_to_index(team_id: uuid.UUID) -> list[DatasetVersion]:
    """The newest datasets of a team that hold documents; those of plain texts come last."""
    found = datasets_of_formats(team_id, DOCUMENTS)
    return sorted(found, key=lambda version: version.format != Format.DOCUMENTS)[:MAX_CHOICES]


def lookups_of(index: DocumentIndex) -> list[Lookup]:
    """The last questions that were looked up in an index, newest first."""
    return list(Lookup.objects.filter(index=index).select_related("created_by").order_by("-id")[:SHOWN_LOOKUPS])


def lookup_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> Lookup:
    """One question with what was found. Raises NotFound or Forbidden."""
    found = Lookup.objects.filter(index__team__in=actor.team_ids())
    return actor.get(found.select_related("index__dataset_version"), pk, role, team="index__team_id")


def indexes_wait() -> bool:
    """Whether there are indexes for a worker to take up; a scheduler that sees some wakes one."""
    return DocumentIndex.objects.claimable().exists()


def lookups_wait() -> bool:
    """The same for questions."""
    return Lookup.objects.claimable().exists()
