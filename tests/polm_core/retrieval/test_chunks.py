"""Documents are cut where sentences end, and no chunk is longer than asked."""

import re
from collections.abc import Sequence

import pytest

from polm_core.retrieval.chunks import Span, chunked

TEXT = "One two three. Four five six seven! Eight nine?\n\nTen eleven twelve. Thirteen."


def words(text: str) -> Sequence[Span]:
    """A word a token."""
    return [match.span() for match in re.finditer(r"\w+", text)]


def cut(text: str, tokens: int, overlap: int = 0) -> list[str]:
    return [chunk.text for chunk in chunked(text, words, chunk_tokens=tokens, overlap=overlap)]


def test_chunks_are_whole_sentences_as_many_as_fit() -> None:
    assert cut(TEXT, 7) == ["One two three. Four five six seven!", "Eight nine?\n\nTen eleven twelve. Thirteen."]
    assert cut(TEXT, 100) == [TEXT]


def test_the_sentences_at_the_end_begin_the_next_chunk_as_far_as_the_overlap_goes() -> None:
    assert cut(TEXT, 7, 4) == [
        "One two three. Four five six seven!",
        "Four five six seven! Eight nine?",
        "Eight nine?\n\nTen eleven twelve. Thirteen.",
    ]
    assert cut(TEXT, 7, 3)[1].startswith("Eight nine?")


def test_a_long_sentence_is_cut_between_tokens() -> None:
    assert cut("a b c d e f g.", 3) == ["a b c", "d e f", "g."]


@pytest.mark.parametrize("tokens", [4, 5, 9])
def test_every_chunk_says_where_it_begins_and_none_is_too_long(tokens: int) -> None:
    for chunk in chunked(f"  {TEXT}  ", words, chunk_tokens=tokens, overlap=2):
        assert f"  {TEXT}  "[chunk.start :].startswith(chunk.text)
        assert 0 < len(words(chunk.text)) <= tokens


@pytest.mark.parametrize("text", ["", "  \n\n ", "..."])
def test_a_document_without_words_has_no_chunk(text: str) -> None:
    assert cut(text, 5) == []
