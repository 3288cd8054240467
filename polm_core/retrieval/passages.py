"""Passages beside a question: how they are asked with, and what is made of the answer. Text alone, no model."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from polm_core.retrieval.config import PASSAGES, QUESTION

NOT_FOUND = "The documents do not say."
"""What is answered when no passage is near enough to the question."""

_CITED = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
# A number within such brackets, with the bracket before the first and the one after the last.
_NUMBER = re.compile(r"\[?(?<![\w.])(\d{1,3})(?=(?:\s*[,;]\s*\d{1,3})*\])\]?")
# What chat templates mark turns with: in a document it is text like any other.
_TURN_MARKS = re.compile(r"<(?=\S)|\[(?=/?INST\])")
_OTHER = re.compile(r"[^\w]+")


class Passage(NamedTuple):
    """A chunk that was found. `document` is the place of its document among all, from 0."""

    document: int
    title: str
    text: str
    score: float


def ask_with(wording: str, passages: Sequence[tuple[str, str]], question: str) -> str:
    """The prompt for a question with passages, each a title and a text, numbered from 1.

    A passage takes up one line, and the marks of chat turns in it are broken up: a document can neither begin another
    passage nor speak as the user or the system.
    """
    lines = [f"[{number}] {f'{title}: ' if title else ''}{text}" for number, (title, text) in enumerate(passages, 1)]
    shown = "\n".join(_TURN_MARKS.sub(lambda mark: f"{mark.group()} ", " ".join(line.split())) for line in lines)
    before, after = wording.split(PASSAGES)
    # The question is put in where the wording says so, never where a passage does.
    return f"{before.replace(QUESTION, question)}{shown}{after.replace(QUESTION, question)}"


def cited(answer: str, count: int) -> list[int]:
    """The numbers of the passages that an answer cites, of `count` there are, each once and in its order."""
    said = (int(number) for group in _CITED.findall(answer) for number in re.split(r"\D+", group))
    return list(dict.fromkeys(number for number in said if 1 <= number <= count))


def split_citations(answer: str, count: int) -> list[tuple[str, int | None]]:
    """An answer in pieces that join to it; those that cite one of `count` passages come with its number."""
    pieces: list[tuple[str, int | None]] = []
    at = 0
    for match in _NUMBER.finditer(answer):
        number = int(match.group(1))
        if 1 <= number <= count:
            pieces += [(answer[at : match.start()], None), (match.group(), number)]
            at = match.end()
    return [piece for piece in (*pieces, (answer[at:], None)) if piece[0]]


def holds(text: str, answer: str) -> bool:
    """Whether the words of `answer` stand in `text` one after another, whatever their case and what is between them."""
    wanted = _words(answer)
    return bool(wanted) and f" {wanted} " in f" {_words(text)} "


def _words(text: str) -> str:
    return _OTHER.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
