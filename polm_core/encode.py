"""The sentence encoder for indexes and questions, as a long-lived process (see `polm_core.serving`).

    {"id", "questions": [str]}                                       ->  {"id", "vectors": [[float]], "done": true}
    {"id", "documents": [{"place", "title", "text"}], "chunks": {}}  ->  {"id", "chunks": [Chunk]} ..., {"id", "done"}

`chunks` are the settings of a `ChunkConfig`. A chunk is `{document, position, start, text, vector}`: its document's
`place`, its own place in it from 0, and where it begins, in characters. A document without text has none.
"""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from polm_core.retrieval.config import ChunkConfig
from polm_core.retrieval.encoder import Encoder
from polm_core.serving import Message, answer, serve_stdio

# Chunks are sent in parts, so that a long document gives signs of life.
_AT_ONCE = 32


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    place: int
    title: str = ""
    text: str


class Request(BaseModel):
    """Questions or documents to encode."""

    model_config = ConfigDict(extra="forbid")
    id: str
    questions: list[str] | None = None
    documents: list[Document] | None = None
    chunks: ChunkConfig = Field(default_factory=ChunkConfig)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.questions is None) == (self.documents is None):
            raise ValueError("give either questions or documents")
        return self


class EncoderService:
    """Answers requests with an encoder that is loaded when the first one comes."""

    def __init__(self) -> None:
        self._loaded: Encoder | None = None

    def answer(self, line: str) -> Iterator[Message]:
        """The messages that answer one request line."""
        return answer(line, Request, self._encode, code="encoder.failed")

    @property
    def _encoder(self) -> Encoder:
        self._loaded = self._loaded or Encoder()
        return self._loaded

    def _encode(self, request: Request) -> Iterator[Message]:
        if request.questions is not None:
            vectors = self._encoder.encode_questions(request.questions).tolist()
            yield {"id": request.id, "vectors": vectors, "done": True}
            return
        for document in request.documents or []:
            yield from self._chunks(request, document)
        yield {"id": request.id, "done": True}

    def _chunks(self, request: Request, document: Document) -> Iterator[Message]:
        found = self._encoder.chunks(document.text, request.chunks)
        for first in range(0, len(found), _AT_ONCE):
            part = found[first : first + _AT_ONCE]
            vectors = self._encoder.encode_chunks([document.title] * len(part), [chunk.text for chunk in part])
            chunks: list[dict[str, Any]] = [
                {"document": document.place, "position": position, "start": chunk.start, "text": chunk.text}
                | {"vector": vector}
                for position, (chunk, vector) in enumerate(zip(part, vectors.tolist(), strict=True), first)
            ]
            yield {"id": request.id, "chunks": chunks}


if __name__ == "__main__":
    serve_stdio(EncoderService().answer)
