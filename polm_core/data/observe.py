"""What the columns of a sample of rows hold."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from polm_core.data.answers import HASH_MARKS
from polm_core.data.labels import as_number
from polm_core.data.messages import (
    is_call_list,
    is_message,
    is_message_list,
    is_pair_list,
    is_transcript,
    to_messages,
)
from polm_core.data.problems import RowProblem
from polm_core.data.steps import STEP_MARK, is_tries
from polm_core.data.values import Row, decoded, truncated

_EXAMPLES = 3
_EXAMPLE_LENGTH = 200
_DISTINCT = 50
_NESTING = 3
_MAX_PATHS = 2000


class Column(BaseModel):
    """A column as the report and the mapping form show it.

    `path` is what a mapping names; `types` counts the kinds of values in the sample, nulls left out; `filled` is the
    share of sampled rows with a value.
    """

    path: str
    types: dict[str, int]
    filled: float
    examples: list[str]


@dataclass
class ColumnFacts:
    """Counts over the values of one column in the sample."""

    path: str
    kinds: Counter[str] = field(default_factory=Counter)
    words: int = 0
    transcripts: int = 0
    hash_marks: int = 0
    boxed: int = 0
    step_marks: int = 0
    numeric: int = 0
    ends_with_answer: int = 0
    blank: int = 0
    several: int = 0
    distinct: set[Any] = field(default_factory=set)
    smallest: float | None = None
    largest: float | None = None
    examples: list[str] = field(default_factory=list)

    @property
    def values(self) -> int:
        return self.kinds.total()

    def mostly(self, *kinds: str) -> bool:
        """Whether nine in ten values are of one of these kinds."""
        return self.values > 0 and sum(self.kinds[kind] for kind in kinds) >= 0.9 * self.values

    def share(self, count: int) -> float:
        return count / self.values if self.values else 0.0

    def add(self, value: Any) -> None:
        """Count one value that is not null."""
        structure = decoded(value)
        kind = kind_of(structure)
        self.kinds[kind] += 1
        self.several += isinstance(structure, list) and len(structure) > 1
        if kind == "string":
            self._add_text(value)
        elif kind == "messages":
            self._add_messages(structure)
        number = as_number(structure)
        if number is not None:
            self.numeric += 1
            self.smallest = number if self.smallest is None else min(self.smallest, number)
            self.largest = number if self.largest is None else max(self.largest, number)
        if isinstance(structure, str | int | float) and len(self.distinct) < _DISTINCT:
            self.distinct.add(structure[:_EXAMPLE_LENGTH] if isinstance(structure, str) else structure)
        self._add_example(value)

    def _add_text(self, text: str) -> None:
        self.blank += not text.strip()
        self.words += len(text[:2000].split())
        self.transcripts += is_transcript(text)
        self.hash_marks += HASH_MARKS in text
        self.boxed += "\\boxed{" in text
        self.step_marks += STEP_MARK in text

    def _add_messages(self, value: Any) -> None:
        try:
            self.ends_with_answer += to_messages(value, self.path, {})[-1]["role"] == "assistant"
        except RowProblem:
            # Unknown role tags: the speaker of the last turn is not known, the column is one of messages all the same.
            self.ends_with_answer += 1

    def _add_example(self, value: Any) -> None:
        if len(self.examples) < _EXAMPLES:
            text = str(truncated(value, _EXAMPLE_LENGTH))
            text = text if len(text) <= _EXAMPLE_LENGTH else f"{text[:_EXAMPLE_LENGTH]}…"
            if text and text not in self.examples:
                self.examples.append(text)


def kind_of(value: Any) -> str:
    """The kind of a decoded value, in the words of the report."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if is_message_list(value):
        return "messages"
    if is_message(value):
        return "message"
    if isinstance(value, list):
        return _list_kind(value)
    return "object" if isinstance(value, dict) else "other"


def _list_kind(value: list[Any]) -> str:
    if value and all(isinstance(item, str) for item in value):
        return "list of strings"
    if is_pair_list(value):
        return "questions with answers"
    if is_call_list(value):
        return "tool calls"
    if is_tries(value):
        return "steps with tries"
    if value and all(isinstance(item, bool | int | float) for item in value):
        return "list of numbers"
    return "list"


def observe(rows: Iterable[Row]) -> dict[str, ColumnFacts]:
    """The columns of `rows`, nested ones by their path, in the order they are met."""
    columns: dict[str, ColumnFacts] = {}
    for row in rows:
        for path, value in _leaves(row, "", 0):
            if path not in columns and len(columns) >= _MAX_PATHS:
                continue
            facts = columns.setdefault(path, ColumnFacts(path))
            if value is not None:
                facts.add(value)
    return columns


def _leaves(row: Row, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    """The values a mapping could name: columns, and what is inside objects and at the head of lists of objects."""
    for name, value in row.items():
        path = f"{prefix}{name}"
        yield path, value
        structure = decoded(value)
        if depth >= _NESTING or is_message(structure) or is_message_list(structure):
            continue
        if isinstance(structure, dict):
            yield from _leaves(structure, f"{path}.", depth + 1)
        elif isinstance(structure, list) and structure and isinstance(structure[0], dict):
            yield from _leaves(structure[0], f"{path}.0.", depth + 1)
        elif name == "output" and kind_of(structure) == "list of strings" and len(structure) == 2:
            # The better answer and the worse one, in files for LLaMA-Factory.
            yield from ((f"{path}.{place}", text) for place, text in enumerate(structure))


def as_columns(facts: dict[str, ColumnFacts], rows: int) -> list[Column]:
    """The columns for the report."""
    return [
        Column(
            path=column.path,
            types=dict(column.kinds),
            filled=round((column.values - column.blank) / rows, 4) if rows else 0.0,
            examples=column.examples,
        )
        for column in facts.values()
    ]
