"""What two answers have in common, word by word."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

# Comparing words takes time that grows with the square of their number.
MARKED_WORDS = 500
COMPARED_WORDS = 4000
# Of long answers, a word that makes up over a hundredth is not looked for by itself: that would take minutes.
LONG_WORDS = 400
ALIKE = 0.2
_WORDS = re.compile(r"(\s+)")


@dataclass(frozen=True)
class Piece:
    """A part of an answer; `is_new` when the other one does not have it."""

    text: str
    is_new: bool = False


def new_words(before: str, after: str) -> list[Piece]:
    """`after` with the words marked that are not in `before`; unmarked where nearly all of it is new."""
    old, new = _WORDS.split(before), _WORDS.split(after)
    if not before or len(old) + len(new) > 2 * MARKED_WORDS:
        return [Piece(after)]
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    return [Piece(after)] if matcher.ratio() < ALIKE else _pieces(matcher, new, second=True)


def both_sides(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Both answers with the words marked that the other does not have; unmarked where they are too long to compare."""
    old, new = _WORDS.split(first), _WORDS.split(second)
    if len(old) + len(new) > 2 * COMPARED_WORDS:
        return [Piece(first)], [Piece(second)]
    matcher = SequenceMatcher(None, old, new, autojunk=max(len(old), len(new)) > LONG_WORDS)
    return _pieces(matcher, old, second=False), _pieces(matcher, new, second=True)


def is_compared(first: str, second: str) -> bool:
    """Whether `both_sides` marks anything in answers of this length."""
    return len(_WORDS.split(first)) + len(_WORDS.split(second)) <= 2 * COMPARED_WORDS


def _pieces(matcher: "SequenceMatcher[str]", words: list[str], *, second: bool) -> list[Piece]:
    spans = [
        (kind, *((after, after_end) if second else (before, before_end)))
        for kind, before, before_end, after, after_end in matcher.get_opcodes()
    ]
    pieces = [Piece("".join(words[start:end]), kind != "equal") for kind, start, end in spans if end > start]
    return _joined(pieces)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """A blank between two words that are new is marked with them: one mark reads better than many."""
    joined: list[Piece] = []
    for place, piece in enumerate(pieces):
        between = 0 < place < len(pieces) - 1 and pieces[place - 1].is_new and pieces[place + 1].is_new
        piece = Piece(piece.text, piece.is_new or (between and piece.text.isspace()))
        if joined and joined[-1].is_new == piece.is_new:
            joined[-1] = Piece(joined[-1].text + piece.text, piece.is_new)
        else:
            joined.append(piece)
    return joined
