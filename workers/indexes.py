"""Building indexes of documents, and looking questions up in them."""

import threading
import time
from pathlib import Path
from typing import Any

from polm_core.data.convert import convert_rows
from polm_core.data.rows import read_rows
from polm_core.errors import PolmError
from polm_core.formats import Format
from polm_core.retrieval.config import FindConfig
from webapp import artifacts
from webapp.retrieval.models import DocumentIndex, Lookup
from webapp.retrieval.selectors import indexes_wait
from webapp.retrieval.services import (
    index_add,
    index_claim,
    index_fail,
    index_finish,
    index_hold,
    index_release,
    lookup_claim,
    lookup_fail,
    lookup_finish,
    lookup_hold,
    lookup_release,
    passages_nearest,
)
from workers import presence
from workers.encoding import NotWanted, encode, question_vector
from workers.turns import take_turns

# A part is written at once: so many documents, or fewer that have as many characters.
_DOCUMENTS = 16
_CHARACTERS = 40_000

_building = threading.Lock()


def build(_index_id: str = "") -> None:
    """Build what waits, until nothing does."""
    take_turns(_building, indexes_wait, index_claim, _build)


def look_up(_lookup_id: str = "") -> None:
    """Look up what waits, until nothing does."""
    while not presence.shutting_down.is_set() and (lookup := lookup_claim()) is not None:
        _look_up(lookup)


def _build(index: DocumentIndex) -> None:
    try:
        _add_all(index)
    except NotWanted:
        index_release(index=index)  # does nothing for one that was stopped
    except PolmError as error:
        index_fail(index=index, error=error)


def _add_all(index: DocumentIndex) -> None:
    """Add the documents that are not in yet, part by part."""
    version = index.dataset_version
    folder = artifacts.local_folder(version.rows_key)
    settings = {"chunk_tokens": index.chunk_tokens, "overlap": index.overlap}
    began, before = time.monotonic(), index.documents
    while part := _part(folder, Format(version.format), index.documents):
        request = {"documents": part, "chunks": settings}
        chunks = [chunk for message in encode(request, lambda: _wanted(index)) for chunk in message.get("chunks", [])]
        titles = {document["place"]: document["title"] for document in part}
        done = index.documents + len(part)
        left = (version.rows - done) * (time.monotonic() - began) / (done - before)
        placed = [{**chunk, "title": titles[chunk["document"]]} for chunk in chunks]
        if not index_add(index=index, documents=len(part), chunks=placed, eta=left):
            return
    index_finish(index=index)


def _wanted(index: DocumentIndex) -> bool:
    return not presence.shutting_down.is_set() and index_hold(index=index)


def _part(folder: Path, format_: Format, first: int) -> list[dict[str, Any]]:
    """The next documents from row `first` on; none at the end."""
    found: list[dict[str, Any]] = []
    rows = read_rows(folder, first, _DOCUMENTS)
    room = _CHARACTERS
    for place, row in enumerate(convert_rows(rows, format_, Format.DOCUMENTS), first):
        room -= len(row["text"])
        if found and room < 0:
            break
        found.append({"place": place, "title": row.get("title") or "", "text": row["text"]})
    return found


def _look_up(lookup: Lookup) -> None:
    def go_on() -> bool:
        return not presence.shutting_down.is_set() and lookup_hold(lookup=lookup)

    try:
        vector = question_vector(lookup.question, go_on)
        find = FindConfig(top_k=lookup.top_k, min_score=lookup.min_score)
        lookup_finish(lookup=lookup, passages=passages_nearest(lookup.index, vector, find))
    except NotWanted:
        lookup_release(lookup=lookup)
    except PolmError as error:
        lookup_fail(lookup=lookup, error=error)
