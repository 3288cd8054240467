"""Documents in chunks: whole sentences, as many as fit."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

Span = tuple[int, int]
Tokenize = Callable[[str], Sequence[Span]]
"""The place of each token in a text, in characters."""

# After a sentence's end, or where a paragraph does.
_BORDER = re.compile(r"(?<=[.!?…])[\"'”)\]]*\s+|\n\s*\n\s*")


class Chunk(NamedTuple):
    """A part of a document, `start` characters from its beginning."""

    text: str
    start: int


def chunked(text: str, tokenize: Tokenize, *, chunk_tokens: int, overlap: int) -> Iterator[Chunk]:
    """`text` in chunks of at most `chunk_tokens` tokens, each of whole sentences unless one alone is longer.

    The sentences at a chunk's end that have at most `overlap` tokens together begin the next one too.
    """
    sentences = list(_sentences(text, tokenize, chunk_tokens))
    first, count = 0, 0
    for place, (_, tokens) in enumerate(sentences):
        if count + tokens > chunk_tokens:
            yield _chunk(text, sentences[first][0], sentences[place - 1][0])
            room = min(overlap, chunk_tokens - tokens)
            first, count = place, 0
            while first and count + sentences[first - 1][1] <= room:
                first -= 1
                count += sentences[first][1]
        count += tokens
    if sentences:
        yield _chunk(text, sentences[first][0], sentences[-1][0])


def _chunk(text: str, first: Span, last: Span) -> Chunk:
    part = text[first[0] : last[1]]
    return Chunk(part.strip(), first[0] + len(part) - len(part.lstrip()))


def _sentences(text: str, tokenize: Tokenize, most: int) -> Iterator[tuple[Span, int]]:
    """The place of each sentence and its number of tokens; one of more than `most` tokens comes in parts."""
    borders = [0, *(match.end() for match in _BORDER.finditer(text)), len(text)]
    tokens = [span for span in tokenize(text) if span[0] < span[1]]
    at = 0
    for start, end in pairwise(borders):
        inside = at
        while inside < len(tokens) and tokens[inside][0] < end:
            inside += 1
        own, at = tokens[at:inside], inside
        for part in range(0, len(own), most):
            following = part + most
            begins = start if part == 0 else own[part][0]
            yield (begins, own[following][0] if following < len(own) else end), len(own[part:following])
