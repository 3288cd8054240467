"""Reads a query: `method:dpo and config.beta>=0.1 and (loss.min<0.4 or not tag:baseline)`.

    any       = all { "or" all }
    all       = one { ["and"] one }
    one       = "not" one | "(" any ")" | condition | word
    condition = subject sign value { "," value }
    sign      = ":" | "=" | "!=" | "<" | "<=" | ">" | ">="

A subject is a field of `tree.FIELDS`, a setting (`config.adapter.type`) or a metric (`loss`, `eval/loss.min`). What is
followed by `:` or `=` and is none of the first two is a word, as people have `lr=1e-4` and `12:30` in their names.
Quotes make text of anything, and a metric of a name with blanks: `"my loss"<1`.
"""

import dataclasses
import datetime
import difflib
import math
import re
from typing import cast

from django.utils import timezone

from webapp.errors import Invalid
from webapp.runs.models import Status, Verdict
from webapp.runs.query.tree import (
    FIELDS,
    FIGURES,
    NO_VERDICT,
    Age,
    All,
    AnyOf,
    Comparison,
    Figure,
    Kind,
    Node,
    Not,
    OfConfig,
    OfMetric,
    OfRun,
    Period,
    Subject,
    Text,
    Value,
    Word,
)

MAX_LENGTH = 1_000
MAX_CONDITIONS = 40
MAX_DEPTH = 20
MAX_VALUES = 50
MAX_AGE_DAYS = 36_500

# Control characters, and halves of characters, which Postgres cannot store.
_UNUSABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_SPACE = re.compile(r"\s*")
_KEYWORD = re.compile(r'(?P<word>and|or|not)(?=[\s()"]|$)', re.IGNORECASE)
_WORD = re.compile(r'[^\s()"]+')
_BARE = re.compile(r'[^\s(),"]+')
_QUOTED = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"', re.DOTALL)
_NAME = re.compile(r"[\w./@-]+")
_FIGURE = re.compile(r"\.(last|min|max)(?![\w./@-])")
# A sign may stand apart; not so the colon, which words end with.
_SIGN = re.compile(r"\s*(?P<sign><=|>=|!=|<|>|=)|(?P<colon>:)")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_AGE = re.compile(r"(?P<count>\d{1,6}(\.\d{1,3})?)(?P<unit>min|h|d|w)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?P<time>[T ]\d{2}:\d{2})?", re.ASCII)
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EQUAL = (":", "=", "!=")
# The fields that have few values, with what these are called where a wrong one is given.
_CHOICES: dict[Subject, tuple[str, list[str]]] = {
    OfRun("status"): ("state", Status.values),
    OfRun("verdict"): ("verdict", [*Verdict.values, NO_VERDICT]),
}


class QueryError(Invalid):
    """A query that cannot be read; `start` to `end` is the part of its text that is at fault."""

    code = "query"

    def __init__(self, text: str, said: str, start: int, end: int) -> None:
        # What is missing at the end is shown at the last character there is.
        self.start, self.end = min(start, max(0, len(text) - 1)), end
        message = f"{said}, at character {self.start + 1}"
        super().__init__(message, fields={"q": [message]})


def parse(text: str) -> Node | None:
    """The tree of a query; None where nothing was typed. Raises QueryError and nothing else."""
    if len(text) > MAX_LENGTH:
        raise QueryError(text, f"a query has at most {MAX_LENGTH:,} characters", MAX_LENGTH, len(text))
    if unusable := _UNUSABLE.search(text):
        what = "NUL" if unusable[0] == "\0" else "a character that cannot be printed"
        raise QueryError(text, f"{what} cannot be searched for: take it out", *unusable.span())
    return _Reader(text).query()


def conjuncts(text: str) -> list[tuple[str, str]]:
    """The conditions that must all hold, as typed, each with the query that is left without it."""
    node = parse(text)
    parts = node.of if isinstance(node, All) else (node,) if node else ()
    said = [text[part.start : part.end] for part in parts]
    return [(one, " and ".join(said[:place] + said[place + 1 :])) for place, one in enumerate(said)]


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._conditions = 0
        self._last_end = 0
        self._before = ""  # what was read last, for what is said of something missing

    def query(self) -> Node | None:
        self._skip()
        if self._ended():
            return None
        node = self._any(0)
        if not self._ended():
            raise self._fault("): there is no ( that it closes", self._at, self._at + 1)
        return node

    # --- how conditions are joined ---

    def _any(self, depth: int) -> Node:
        start, parts = self._at, [self._all(depth)]
        while self._take_keyword("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts), start=start, end=parts[-1].end)

    def _all(self, depth: int) -> Node:
        start, parts = self._at, [self._one(depth)]
        while self._take_keyword("and") or self._goes_on():
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts), start=start, end=parts[-1].end)

    def _goes_on(self) -> bool:
        return not self._ended() and self._text[self._at] != ")" and self._keyword() != "or"

    def _one(self, depth: int) -> Node:
        start = self._at
        if depth > MAX_DEPTH:
            raise self._fault(f"conditions can be nested {MAX_DEPTH} deep, not deeper", start, start + 1)
        if self._ended() or self._text[start] == ")":
            raise self._fault(f"{self._before}: a condition was expected after {self._before}", start, start + 1)
        if self._take_keyword("not"):
            negated = self._one(depth + 1)
            return Not(negated, start=start, end=negated.end)
        if word := self._keyword():
            raise self._fault(f"{word}: a condition was expected before {word}", start, start + len(word))
        if self._text[start] == "(":
            return self._group(depth)
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise self._fault(f"a query has at most {MAX_CONDITIONS} conditions", start, len(self._text))
        return self._condition() or self._word()

    def _group(self, depth: int) -> Node:
        start = self._at
        self._move(start + 1, "(")
        inner = self._any(depth + 1)
        if self._ended():
            raise self._fault("(: a ) was expected to close it", start, start + 1)
        self._move(self._at + 1, ")")
        # What stands in brackets is a part of its own: it is taken out with them.
        return dataclasses.replace(inner, start=start, end=self._last_end)

    def _keyword(self) -> str:
        found = _KEYWORD.match(self._text, self._at)
        return found["word"].lower() if found else ""

    def _take_keyword(self, wanted: str) -> bool:
        if self._keyword() != wanted:
            return False
        self._move(self._at + len(wanted), wanted)
        return True

    # --- conditions and words ---

    def _word(self) -> Word:
        start = self._at
        if quoted := self._take_quoted():
            return Word(quoted.text, start=start, end=self._last_end)
        found = self._match(_WORD)
        if sign := re.search(r"[<>]", found):
            place = start + sign.start()
            raise self._fault(f"{sign[0]}: the name of a metric was expected before {sign[0]}", place, place + 1)
        self._move(start + len(found), found)
        return Word(found, start=start, end=self._last_end)

    def _condition(self) -> Comparison | None:
        """The condition that begins here; None where it is a word."""
        start = self._at
        name, figure = _QUOTED.match(self._text, start), None
        if name is not None:
            figure = _FIGURE.match(self._text, name.end())
        else:
            name = _NAME.match(self._text, start)
        after = (figure or name).end() if name else start
        sign = _SIGN.match(self._text, after)
        if name is None or sign is None:
            return None
        said = sign["sign"] or ":"
        quoted = name.groupdict().get("text")
        if quoted is None:
            subject = self._subject(name[0], said)
        else:
            subject = _metric(_unquoted(quoted), figure[1] if figure else "", said)
        if subject is None:
            return None
        self._move(sign.end(), self._text[start : sign.end()])
        values = self._values(subject, said)
        return Comparison(subject, said, values, start=start, end=self._last_end)

    def _subject(self, name: str, sign: str) -> Subject | None:
        """What a name that a sign follows stands for; None where both belong to a word."""
        lowered = name.lower()
        if lowered in FIELDS:
            return OfRun(lowered)
        if lowered.startswith("config."):
            path = tuple(name.split(".")[1:])
            if not all(path):
                end = self._at + len(name)
                raise self._fault(f"{name}: the name of a setting was expected after config.", self._at, end)
            return OfConfig(path)
        if sign == ":" and (meant := difflib.get_close_matches(lowered, FIELDS, n=1, cutoff=0.75)):
            said = f'{name}: there is no such field; did you mean {meant[0]}? As "{name}:" it is text'
            raise self._fault(said, self._at, self._at + len(name))
        key, _, figure = name.rpartition(".")
        return _metric(key, figure, sign) if key and figure in FIGURES else _metric(name, "", sign)

    def _values(self, subject: Subject, sign: str) -> tuple[Value, ...]:
        before = self._before
        kind = _kind(subject, sign)
        if kind == Kind.TEXT and sign not in _EQUAL:
            said = f"{before}: text is compared with :, = or !=, not with {sign}"
            raise self._fault(said, self._last_end - len(sign), self._last_end)
        if kind == Kind.NUMBER:
            return (self._number(sign, before),)
        if kind == Kind.TIME:
            return (self._time(sign, before),)
        values = [self._text_value(subject, sign, before)]
        while self._text[self._last_end : self._last_end + 1] == ",":
            self._move(self._last_end + 1, f"{before}{values[-1].text},")
            values.append(self._text_value(subject, ",", self._before))
            if len(values) > MAX_VALUES:
                raise self._fault(f"{before}: at most {MAX_VALUES} values can be given", self._at, len(self._text))
        return tuple(values)

    def _text_value(self, subject: Subject, after: str, before: str) -> Text:
        start = self._at
        value = self._take_quoted()
        if value is None:
            bare = self._match(_BARE)
            if not bare:
                raise self._missing("a value", after, before)
            self._move(start + len(bare), before + bare)
            value = Text(bare)
        what, known = _CHOICES.get(subject, ("", []))
        if known and value.text.lower() not in known:
            said = f"{before}{value.text}: there is no such {what}; there are {', '.join(known)}"
            raise self._fault(said, start, self._last_end)
        return value

    def _number(self, sign: str, before: str) -> float:
        found = self._match(_WORD)
        if not _NUMBER.fullmatch(found) or not math.isfinite(float(found)):
            raise self._missing("a number", sign, before)
        self._move(self._at + len(found), before + found)
        return float(found)

    def _time(self, sign: str, before: str) -> Age | Period:
        start = self._at
        if quoted := self._take_quoted():
            found = quoted.text
        else:
            found = self._match(_WORD)
            self._move(start + len(found), before + found)
        value = _moment(found)
        if value is None:
            self._at = start
            raise self._missing("a date such as 2026-01-31 or an age such as 7d, 12h or 30min", sign, before)
        if isinstance(value, Age) and sign in _EQUAL:
            said = f"{before}{found}: an age is compared with < or >, not with {sign}"
            raise self._fault(said, start, self._last_end)
        return value

    def _missing(self, wanted: str, after: str, before: str) -> QueryError:
        end = self._at + len(self._match(_WORD))
        return self._fault(f"{before}: {wanted} was expected after {after}", self._at, end)

    # --- moving on ---

    def _take_quoted(self) -> Text | None:
        if self._text[self._at : self._at + 1] != '"':
            return None
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            raise self._fault('": a second " was expected to close the text', self._at, len(self._text))
        self._move(found.end(), found[0])
        return Text(_unquoted(found["text"]), quoted=True)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        return found[0] if found else ""

    def _move(self, to: int, read: str) -> None:
        self._before, self._last_end = read, to
        self._at = to
        self._skip()

    def _skip(self) -> None:
        if space := _SPACE.match(self._text, self._at):
            self._at = space.end()

    def _ended(self) -> bool:
        return self._at >= len(self._text)

    def _fault(self, said: str, start: int, end: int) -> QueryError:
        return QueryError(self._text, said, start, end)


def _metric(key: str, figure: str, sign: str) -> OfMetric | None:
    """A figure of a metric; that it equals a number has to be asked of one by name, as in `loss.min=0`."""
    if sign == ":" or (sign in _EQUAL and not figure):
        return None
    return OfMetric(key, cast(Figure, figure or "last"))


def _kind(subject: Subject, sign: str) -> Kind:
    """What a subject is compared with. A setting is a number to `<`, and what is typed to `=`."""
    if isinstance(subject, OfRun):
        return FIELDS[subject.name][0]
    return Kind.TEXT if isinstance(subject, OfConfig) and sign in _EQUAL else Kind.NUMBER


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _moment(text: str) -> Age | Period | None:
    """The age or the date that is meant; None for anything else. Dates are those of the studio's time zone."""
    if age := _AGE.fullmatch(text):
        length = datetime.timedelta(**{_UNITS[age["unit"]]: float(age["count"])})
        return Age(length) if length.days <= MAX_AGE_DAYS else None
    date = _DATE.fullmatch(text)
    if date is None:
        return None
    try:
        start = timezone.make_aware(datetime.datetime.fromisoformat(text))
        length = datetime.timedelta(minutes=1) if date["time"] else datetime.timedelta(days=1)
        return Period(start, start + length)
    except (ValueError, OverflowError):
        return None
