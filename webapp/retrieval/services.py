"""Indexes of documents, questions that are looked up in them, and how a worker carries both out."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from django.db import connection, transaction
from django.db.models import F
from pgvector.django import CosineDistance
from pydantic import BaseModel, ValidationError

from polm_core.data.convert import compatible
from polm_core.data.values import cleaned, is_storable
from polm_core.errors import PolmError
from polm_core.formats import Format
from polm_core.retrieval.config import ChunkConfig, FindConfig
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.accounts.services import audit
from webapp.claimed import MAX_ATTEMPTS, WorkStatus
from webapp.datasets.models import DatasetVersion
from webapp.datasets.selectors import version_to_use
from webapp.errors import Conflict, Invalid, refused
from webapp.retrieval.models import Chunk, DocumentIndex, Lookup
from webapp.tasks import DOCUMENTS_FIND, DOCUMENTS_INDEX, wake

MAX_QUESTION = 4000
MAX_OPEN_INDEXES = 5
MAX_OPEN_LOOKUPS = 20
# The newest questions of an index; older ones make room.
KEPT_LOOKUPS = 50
# An index is built in small parts that stay, so losing a worker costs little.
MAX_BUILDS = 20

S = TypeVar("S", bound=BaseModel)


def index_create(
    *, actor: Actor, dataset: str | uuid.UUID, name: str = "", settings: Mapping[str, Any] | None = None
) -> DocumentIndex:
    """Have a worker index the newest version of a dataset of documents.

    Raises Invalid with the fields at fault, Conflict while the dataset is not ready or too much is under way.
    """
    version = _version(actor, dataset)
    chosen = _parsed(ChunkConfig, settings or {}, "The documents cannot be cut like this.")
    team: Team = version.dataset.team
    name = " ".join((name or version.dataset.name).split())
    if len(name) > 200 or not name.isprintable():
        raise Invalid("The name is not accepted.", fields={"name": ["must have 1 to 200 printable characters"]})
    with transaction.atomic():
        Team.objects.select_for_update().get(pk=team.pk)  # the limit holds for parallel requests too
        if DocumentIndex.objects.open().filter(team=team).count() >= MAX_OPEN_INDEXES:
            raise Conflict("Too many indexes are being built.", advice="Wait for them, or stop some.")
        held = DatasetVersion.objects.select_for_update(no_key=True, of=("self",)).filter(pk=version.pk)
        if not held:
            raise Conflict("The dataset has just been deleted.", advice="Choose another one.")
        made = DocumentIndex.objects.create(
            team=team, name=name, dataset_version=version, created_by=actor.user, **chosen.model_dump()
        )
        audit(actor=actor, team_id=team.pk, verb="index.create", target=made)
        wake(DOCUMENTS_INDEX, made.pk)
    return made


def index_stop(*, actor: Actor, index: DocumentIndex) -> None:
    """End the building of an index, keeping what is there for when it goes on; one that has ended stays as it is."""
    actor.require(index.team_id, Role.MEMBER, "index")
    DocumentIndex.objects.open().filter(pk=index.pk).update(status=WorkStatus.STOPPED, lease_until=None)


def index_resume(*, actor: Actor, index: DocumentIndex) -> None:
    """Have a worker go on with an index that was stopped or has failed. Raises Conflict for another."""
    actor.require(index.team_id, Role.MEMBER, "index")
    ended = DocumentIndex.objects.filter(pk=index.pk, status__in=[WorkStatus.STOPPED, WorkStatus.FAILED])
    with transaction.atomic():
        # A worker that has not heard yet holds a claim of an older number.
        if not ended.update(status=WorkStatus.WAITING, error=None, progress={}):
            raise Conflict("The index was not stopped.", advice="See its page for how far it is.")
        wake(DOCUMENTS_INDEX, index.pk)


def index_delete(*, actor: Actor, index: DocumentIndex) -> None:
    """Delete an index with its chunks; the dataset stays."""
    actor.require(index.team_id, Role.MEMBER, "index")
    with transaction.atomic():
        audit(
            actor=actor,
            team_id=index.team_id,
            verb="index.delete",
            target=index,
            detail={"name": index.name, "chunks": index.chunks},
        )
        index.delete()


def lookup_create(
    *, actor: Actor, index: DocumentIndex, question: str, settings: Mapping[str, Any] | None = None
) -> Lookup:
    """Have a worker look a question up. Raises Invalid with the fields at fault, Conflict for an unfinished index."""
    actor.require(index.team_id, Role.MEMBER, "index")
    chosen = _parsed(FindConfig, settings or {}, "The question cannot be looked up like this.")
    question = question.strip()
    if not question or len(question) > MAX_QUESTION or not is_storable(question):
        raise Invalid("The question is not accepted.", fields={"question": [f"Give 1 to {MAX_QUESTION:,} characters."]})
    check_done(index)
    with transaction.atomic():
        Team.objects.select_for_update().get(pk=index.team_id)
        if Lookup.objects.open().filter(index__team=index.team_id).count() >= MAX_OPEN_LOOKUPS:
            raise Conflict("Too many questions are outstanding.", advice="Wait for them.")
        kept = list(Lookup.objects.filter(index=index).order_by("-pk").values_list("pk", flat=True)[: KEPT_LOOKUPS - 1])
        Lookup.objects.filter(index=index).exclude(pk__in=kept).delete()
        made = Lookup.objects.create(index=index, question=question, created_by=actor.user, **chosen.model_dump())
        wake(DOCUMENTS_FIND, made.pk)
    return made


def check_done(index: DocumentIndex) -> None:
    """Raise Conflict for an index that is not whole."""
    if not index.is_done:
        raise Conflict(f"The index {index.name} is not ready.", advice="See its page for how far it is.")


def passages_nearest(index: DocumentIndex, vector: Sequence[float], find: FindConfig) -> list[dict[str, Any]]:
    """The chunks nearest to a question's vector, the nearest first: `document`, `title`, `text` and `score`."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            # The vectors of all indexes share one graph: it is walked until enough of this index are found.
            cursor.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        distance = CosineDistance("vector", vector)
        nearest = Chunk.objects.filter(index=index).annotate(distance=distance).order_by("distance")[: find.top_k]
        found = list(nearest.values("document", "title", "text", "distance"))
    scored: list[dict[str, Any]] = [
        {
            "document": chunk["document"],
            "title": chunk["title"],
            "text": chunk["text"],
            "score": round(1 - chunk["distance"], 4),
        }
        for chunk in found
    ]
    return [chunk for chunk in scored if chunk["score"] >= find.min_score]


# --- by workers -------------------------------------------------------------------------------------------------------
def index_claim() -> DocumentIndex | None:
    """Take the oldest index that waits or has lost its worker; the row's `attempts` is the claim's number."""
    return DocumentIndex.objects.take(most=MAX_BUILDS, lost=_lost("index"), progress={})


def index_add(*, index: DocumentIndex, documents: int, chunks: Sequence[dict[str, Any]], eta: float | None) -> bool:
    """Add the chunks of the next `documents` documents and renew the claim; False when it does not hold any more."""
    with transaction.atomic():
        held = DocumentIndex.objects.renew(
            index,
            documents=F("documents") + documents,
            chunks=F("chunks") + len(chunks),
            progress={} if eta is None else {"eta_s": round(eta, 1)},
        )
        if held:
            Chunk.objects.bulk_create(Chunk(index=index, **_storable(chunk)) for chunk in chunks)
    if held:
        index.documents += documents
    return held


def index_hold(*, index: DocumentIndex) -> bool:
    """Renew the claim; False when it was stopped or another worker has it."""
    return DocumentIndex.objects.renew(index)


def index_finish(*, index: DocumentIndex) -> bool:
    """Let questions be looked up in it, once all documents are in."""
    return DocumentIndex.objects.end(index, progress={})


def index_fail(*, index: DocumentIndex, error: PolmError) -> bool:
    """End the building with the reason why it does not go on."""
    return DocumentIndex.objects.fail(index, error)


def index_release(*, index: DocumentIndex) -> None:
    """Give a claim back, as a worker does that shuts down."""
    DocumentIndex.objects.release(index)


def lookup_claim() -> Lookup | None:
    """Take the oldest question that waits or has lost its worker."""
    return Lookup.objects.take(most=MAX_ATTEMPTS, lost=_lost("question"))


def lookup_hold(*, lookup: Lookup) -> bool:
    """Renew the claim; False when another worker has it."""
    return Lookup.objects.renew(lookup)


def lookup_finish(*, lookup: Lookup, passages: list[dict[str, Any]]) -> bool:
    """Store what was found."""
    return Lookup.objects.end(lookup, passages=passages)


def lookup_fail(*, lookup: Lookup, error: PolmError) -> bool:
    """End a question with the reason why nothing was found."""
    return Lookup.objects.fail(lookup, error)


def lookup_release(*, lookup: Lookup) -> None:
    """Give a claim back unused."""
    Lookup.objects.release(lookup)


# --- helpers ----------------------------------------------------------------------------------------------------------
def _storable(chunk: dict[str, Any]) -> dict[str, Any]:
    return {**chunk, "title": cleaned(chunk["title"]), "text": cleaned(chunk["text"])}


def _lost(what: str) -> PolmError:
    return PolmError(
        f"The worker was lost while it worked on the {what}.",
        code="retrieval.lost",
        advice="See that the worker has enough memory, then try again.",
    )


def _parsed(kind: type[S], settings: Mapping[str, Any], problem: str) -> S:
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        raise refused(error, problem, "settings") from None


def _version(actor: Actor, ref: str | uuid.UUID) -> DatasetVersion:
    version = version_to_use(actor, ref)
    fit = compatible([Format.DOCUMENTS], Format(version.format))
    if not fit.ok:
        problem = f"must hold documents or texts, not {version.format} rows"
        raise Invalid(f"{version.dataset.name} has no documents.", fields={"dataset": [problem]})
    return version
