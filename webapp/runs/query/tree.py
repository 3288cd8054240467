"""What a query says, as a tree. Every node knows which part of the text it was read from."""

import datetime
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Kind(StrEnum):
    """What a field of a run holds, and so what it is compared with."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"


# The fields of a run, with what is said of them while somebody types. Settings (`config.beta`) and metrics
# (`loss`, `eval/loss.min`) are told from them by their names.
FIELDS: dict[str, tuple[Kind, str]] = {
    "name": (Kind.TEXT, "a part of the name"),
    "method": (Kind.TEXT, "the method, as in method:dpo,kto"),
    "status": (Kind.TEXT, "the state, as in status:running"),
    "tag": (Kind.TEXT, "a tag"),
    "project": (Kind.TEXT, "the project"),
    "model": (Kind.TEXT, "a part of the model's name"),
    "dataset": (Kind.TEXT, "a part of the dataset's name"),
    "by": (Kind.TEXT, "who launched it"),
    "created": (Kind.TIME, "a date or an age: created<7d is the last week"),
    "finished": (Kind.TIME, "a date or an age: finished>=2026-01-31"),
    "step": (Kind.NUMBER, "the step it has reached"),
    "hypothesis": (Kind.TEXT, "a part of the hypothesis"),
    "verdict": (Kind.TEXT, "accepted, rejected, unclear, or none for runs without one"),
}
NO_VERDICT = "none"
FIGURES = ("last", "min", "max")
Figure = Literal["last", "min", "max"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """`start` and `end` say where in the text it stands; what is the same elsewhere is equal."""

    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Word(Node):
    """Free text: a part of the name, a whole tag, or a method."""

    text: str


@dataclass(frozen=True)
class OfRun:
    """A field of the run itself: one of `FIELDS`."""

    name: str


@dataclass(frozen=True)
class OfConfig:
    """A setting, by the names that lead to it."""

    path: tuple[str, ...]


@dataclass(frozen=True)
class OfMetric:
    """A figure of a metric."""

    key: str
    figure: Figure = "last"


Subject = OfRun | OfConfig | OfMetric


@dataclass(frozen=True)
class Text:
    """A value that was not read as a number or a time. One in quotes is nothing but text."""

    text: str
    quoted: bool = False


@dataclass(frozen=True)
class Age:
    """How long ago."""

    length: datetime.timedelta


@dataclass(frozen=True)
class Period:
    """A day, or the minute that was typed."""

    start: datetime.datetime
    end: datetime.datetime


Value = Text | float | Age | Period


@dataclass(frozen=True)
class Comparison(Node):
    """One condition. Of several values any will do (with `!=`, none)."""

    of: Subject
    sign: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Not(Node):
    of: Node


@dataclass(frozen=True)
class All(Node):
    of: tuple[Node, ...]


@dataclass(frozen=True)
class AnyOf(Node):
    of: tuple[Node, ...]
