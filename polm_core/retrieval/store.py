"""The chunks of a run's documents with their vectors, in two files that belong together."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from polm_core.errors import DataError
from polm_core.retrieval.config import ChunkConfig
from polm_core.retrieval.encoder import DIMENSIONS, Encoder
from polm_core.retrieval.passages import Passage

if TYPE_CHECKING:
    from polm_core.retrieval.encoder import Vectors

_DOCUMENTS_AT_ONCE = 16
_CHUNKS, _VECTORS = "chunks.jsonl", "chunks.safetensors"


class Store(NamedTuple):
    """Chunks, and their vectors (chunks x 384) in the same order."""

    chunks: list[dict[str, Any]]
    vectors: "Vectors"

    def nearest(self, question: "Vectors", *, top_k: int, min_score: float) -> list[Passage]:
        """The chunks nearest to a question's vector by exact cosine, the nearest first."""
        import numpy as np

        scores = self.vectors @ question
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [
            Passage(chunk["document"], chunk["title"], chunk["text"], float(scores[place]))
            for place in order.tolist()
            if scores[place] >= min_score
            for chunk in (self.chunks[place],)
        ]


def build(
    documents: Sequence[dict[str, Any]], encoder: Encoder, config: ChunkConfig, tell: Callable[[int], None]
) -> Store:
    """Chunks and vectors of documents; `tell` is called with the number of those that are done.

    Raises `DataError` when no document has any text.
    """
    import numpy as np

    chunks: list[dict[str, Any]] = []
    parts = [np.zeros((0, DIMENSIONS), dtype=np.float32)]
    for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        own: list[dict[str, Any]] = [
            {"document": start + place, "title": document.get("title") or "", "text": chunk.text}
            for place, document in enumerate(documents[start : start + _DOCUMENTS_AT_ONCE])
            for chunk in encoder.chunks(document["text"], config)
        ]
        parts.append(encoder.encode_chunks([one["title"] for one in own], [one["text"] for one in own]))
        chunks += own
        tell(min(len(documents), start + _DOCUMENTS_AT_ONCE))
    if not chunks:
        raise DataError(
            f"None of the {len(documents)} documents has any text.",
            code="data.empty",
            advice="Give documents whose column text holds something.",
        )
    return Store(chunks, np.concatenate(parts))


def keep(store: Store, folder: Path, made_by: str) -> None:
    """Write a store as `chunks.jsonl` and `chunks.safetensors`, of which the second is there once both are whole."""
    from safetensors.numpy import save_file

    lines = "".join(json.dumps(chunk, ensure_ascii=False) + "\n" for chunk in store.chunks)
    (folder / _CHUNKS).write_text(lines, encoding="utf-8")
    draft = folder / f".{_VECTORS}.draft"
    save_file({"vectors": store.vectors}, draft, metadata={"made_by": made_by})
    draft.replace(folder / _VECTORS)


def kept(folder: Path, made_by: str) -> Store | None:
    """The store in `folder`, if there is one that was made of the same documents in the same way."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / _VECTORS, "numpy") as file:
            if (file.metadata() or {}).get("made_by") != made_by:
                return None
            vectors = file.get_tensor("vectors")
        lines = (folder / _CHUNKS).read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, SafetensorError):
        return None
    return Store([json.loads(line) for line in lines], vectors) if len(lines) == len(vectors) else None
