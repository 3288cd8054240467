"""The real encoder: texts that say the same are near, and what it cannot read whole is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polm_core.encode import EncoderService
from polm_core.errors import DataError, ModelError
from polm_core.retrieval import encoder as encoders
from polm_core.retrieval.config import ChunkConfig
from polm_core.retrieval.encoder import DIMENSIONS, Encoder
from polm_core.retrieval.store import build, keep, kept

DOCUMENTS: list[dict[str, Any]] = [
    {"title": "Ferry", "text": "The ferry leaves at seven. " * 20},
    {"text": "  "},
    {"title": "Bread", "text": "The bakery sells dark bread."},
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


def test_what_is_alike_is_near_whatever_stands_in_its_batch(encoder: Encoder) -> None:
    texts = ["The cat sleeps.", "A kitten is asleep.", "Interest rates rose in autumn, the bank said on Monday."]
    vectors = encoder.encode_questions(texts)
    assert vectors.shape == (3, DIMENSIONS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]
    assert encoder.encode_questions(texts[:1])[0] == pytest.approx(vectors[0], abs=1e-5)


def test_a_question_longer_than_it_reads_is_refused(encoder: Encoder) -> None:
    with pytest.raises(DataError, match="300 tokens") as caught:
        encoder.encode_questions(["word " * 300])
    assert caught.value.code == "retrieval.long_question"


def test_a_store_finds_and_is_kept_for_the_same_documents_alone(encoder: Encoder, tmp_path: Path) -> None:
    told: list[int] = []
    store = build(DOCUMENTS, encoder, ChunkConfig(chunk_tokens=48), told.append)
    assert told == [3]
    assert {chunk["document"] for chunk in store.chunks} == {0, 2}
    (question,) = encoder.encode_questions(["Where can one buy bread?"])
    nearest = store.nearest(question, top_k=2, min_score=-1)
    assert (nearest[0].document, nearest[0].title) == (2, "Bread")
    assert nearest[0].score > nearest[1].score
    assert store.nearest(question, top_k=2, min_score=0.99) == []
    keep(store, tmp_path, "these")
    again = kept(tmp_path, "these")
    assert again is not None
    assert again.chunks == store.chunks
    assert (again.vectors == store.vectors).all()
    assert kept(tmp_path, "others") is None
    (tmp_path / "chunks.safetensors").write_bytes(b"torn")
    assert kept(tmp_path, "these") is None


def test_documents_without_any_text_are_refused(encoder: Encoder) -> None:
    with pytest.raises(DataError, match="None of the 1 documents"):
        build([{"text": " \n"}], encoder, ChunkConfig(), lambda done: None)


def test_the_process_answers_with_chunks_and_vectors_or_a_clear_refusal() -> None:
    service = EncoderService()

    def ask(**request: Any) -> list[dict[str, Any]]:
        return list(service.answer(json.dumps({"id": "1", **request})))

    documents = [{"place": 7, "title": "Ferry", "text": DOCUMENTS[0]["text"]}, {"place": 8, "text": " "}]
    part, done = ask(documents=documents, chunks={"chunk_tokens": 48})
    assert [(one["document"], one["position"]) for one in part["chunks"]] == [(7, 0), (7, 1), (7, 2)]
    assert len(part["chunks"][0]["vector"]) == DIMENSIONS
    assert done == {"id": "1", "done": True}
    assert len(ask(questions=["Why?"])[0]["vectors"]) == 1
    assert ask(questions=["word " * 300])[0]["error"]["code"] == "retrieval.long_question"
    assert ask()[0]["error"]["code"] == "config.invalid"


def test_a_wheel_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "PACKAGE", "not_there")
    with pytest.raises(ModelError, match="not installed"):
        encoders.encoder_folder()
