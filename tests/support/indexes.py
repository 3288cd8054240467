"""Indexes of documents that are done, without an encoder: each chunk lies on an axis of its own."""

import json
from typing import Any

from polm_core.retrieval.encoder import DIMENSIONS
from tests.support import factories
from webapp.accounts.access import Actor
from webapp.claimed import WorkStatus
from webapp.retrieval.models import DocumentIndex, Lookup
from webapp.retrieval.services import index_add, index_claim, index_create, index_finish, lookup_create


def documents(count: int, word: str = "town") -> bytes:
    rows = ({"title": f"{word} {place}", "text": f"The {word} has {place} bridges."} for place in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def axis(place: int) -> list[float]:
    """The vector of length 1 along one axis: at right angles to every other."""
    return [float(place == other) for other in range(DIMENSIONS)]


def chunk(place: int, word: str = "town") -> dict[str, Any]:
    text = f"The {word} has {place} bridges."
    return {
        "document": place,
        "position": 0,
        "start": 0,
        "title": f"{word} {place}",
        "text": text,
        "vector": axis(place),
    }


def make_index(actor: Actor, word: str = "town", count: int = 3) -> tuple[DocumentIndex, Lookup]:
    """An index that is done, of so many documents, and a question that waits."""
    version = factories.make_version(actor, f"{word} documents", documents(count, word))
    index = index_create(actor=actor, dataset=version.dataset_id)
    finish(count, word)
    index.refresh_from_db()
    assert index.status == WorkStatus.DONE
    return index, lookup_create(actor=actor, index=index, question=f"How many bridges has the {word}?")


def finish(count: int, word: str = "town") -> None:
    """Has the index that waits be built, as a worker would do it."""
    claimed = index_claim()
    assert claimed is not None
    chunks = [chunk(place, word) for place in range(claimed.documents, count)]
    assert index_add(index=claimed, documents=len(chunks), chunks=chunks, eta=None)
    assert index_finish(index=claimed)
