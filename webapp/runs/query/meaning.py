"""What a query asks of a run, as conditions that Postgres checks. What people typed is only ever a parameter.

Each condition is true or false of every run, never unknown: `not` is the rest of the runs.
"""

import datetime
import operator
from functools import reduce
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import Exists, F, Func, JSONField, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.fields.json import DataContains
from django.db.models.lookups import Exact, GreaterThan, GreaterThanOrEqual, LessThan, LessThanOrEqual
from django.utils import timezone

from webapp.runs.models import Run
from webapp.runs.query import tree
from webapp.runs.query.syntax import parse
from webapp.runs.query.tree import Age, All, AnyOf, Comparison, Node, Not, OfConfig, OfMetric, Text, Word

_LOOKUPS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte", "=": "exact", ":": "exact"}
_ORDERS = {"<": LessThan, "<=": LessThanOrEqual, ">": GreaterThan, ">=": GreaterThanOrEqual}
# Longer ago is earlier.
_TURNED = {"<": "gt", "<=": "gte", ">": "lt", ">=": "lte"}
_CONSTANTS = {"true": True, "false": False, "null": None}
# By `:` and by `=`.
_TEXTS = {
    "name": ("name__icontains", "name__iexact"),
    "method": ("method", "method"),
    "status": ("status", "status"),
    "project": ("project__name__iexact", "project__name__iexact"),
    "model": ("model__name__icontains", "model__name__iexact"),
    "dataset": ("dataset_version__dataset__name__icontains", "dataset_version__dataset__name__iexact"),
    "by": ("created_by__username", "created_by__username"),
    "hypothesis": ("hypothesis__icontains", "hypothesis__iexact"),
}
_TIMES = {"created": "created_at", "finished": "finished_at"}


def runs_matching(runs: QuerySet[Run], text: str) -> QuerySet[Run]:
    """The runs that a query is true of. Raises QueryError, which points at what cannot be read."""
    node = parse(text)
    return runs.filter(wanted(node)) if node else runs


def word_wanted(word: str) -> Q:
    """What a bare word asks: a part of the name, a whole tag, or the method."""
    return Q(name__icontains=word) | Q(tags__contains=[word]) | Q(method=word)


def setting(path: tuple[str, ...]) -> Func:
    """The value of a setting as JSON; `null` for one that a run does not have."""
    found = Value(list(path), output_field=ArrayField(TextField()))
    template = "COALESCE(%(expressions)s, 'null'::jsonb)"
    return Func(F("config"), found, template=template, arg_joiner=" #> ", output_field=JSONField())


def series_of_runs() -> QuerySet[Any]:
    """The series of metrics, which stand on the runs and are not to be imported here."""
    model: Any = Run._meta.get_field("series").related_model
    return QuerySet(model)


def wanted(node: Node) -> Q:
    """The condition that the tree of a query stands for."""
    match node:
        case All(parts):
            return reduce(operator.and_, map(wanted, parts))
        case AnyOf(parts):
            return reduce(operator.or_, map(wanted, parts))
        case Not(part):
            return ~wanted(part)
        case Word(text):
            return word_wanted(text)
        case Comparison(OfMetric() as metric, sign, (float() as number,)):
            return _metric(metric, sign, number)
        case Comparison(OfConfig(path), ("<" | "<=" | ">" | ">=") as sign, (float() as number,)):
            return _setting_beside(path, sign, number)
        case Comparison(of, "!=", values):
            return ~wanted(Comparison(of, "=", values))
        case Comparison(OfConfig(path), _, values):
            return reduce(operator.or_, (_setting_is(path, value) for value in values if isinstance(value, Text)))
        case Comparison(tree.OfRun(name), sign, values):
            return reduce(operator.or_, (_field(name, sign, value) for value in values))
    raise AssertionError(f"There is no meaning for {node}.")


def _field(name: str, sign: str, value: tree.Value) -> Q:
    match value:
        case Text(text) if name == "tag":
            return Q(tags__contains=[text])
        case Text(text) if name == "verdict":
            return Q(verdict="" if text.lower() == tree.NO_VERDICT else text.lower())
        case Text(text):
            return Q(**{_TEXTS[name][sign == "="]: text.lower() if name == "status" else text})
        case float():
            return _step(sign, value)
        case Age(length):
            return Q(**{f"{_TIMES[name]}__{_TURNED[sign]}": timezone.now() - length})
        case tree.Period(start, end):
            return _when(_TIMES[name], sign, start, end)


def _step(sign: str, number: float) -> Q:
    if sign in ("=", ":") and not number.is_integer():
        return Q(pk__in=[])
    return Q(**{f"step__{_LOOKUPS[sign]}": int(number) if number.is_integer() else number})


def _when(column: str, sign: str, start: datetime.datetime, end: datetime.datetime) -> Q:
    """Before, within or after a period of time."""
    if sign in ("=", ":"):
        return Q(**{f"{column}__gte": start, f"{column}__lt": end})
    lookup, bound = {"<": ("lt", start), "<=": ("lt", end), ">": ("gte", end), ">=": ("gte", start)}[sign]
    return Q(**{f"{column}__{lookup}": bound})


def _metric(metric: OfMetric, sign: str, number: float) -> Q:
    """By a figure of a metric: a run that has none, or one that is NaN, satisfies no comparison."""
    series = series_of_runs().filter(run=OuterRef("pk"), key=metric.key, **{f"{metric.figure}__isnull": False})
    series = series.exclude(**{metric.figure: float("nan")})
    if sign == "!=":
        return Q(Exists(series.exclude(**{metric.figure: number})))
    return Q(Exists(series.filter(**{f"{metric.figure}__{_LOOKUPS[sign]}": number})))


def _setting_beside(path: tuple[str, ...], sign: str, number: float) -> Q:
    """Whether a setting is a number on that side of another."""
    kind = Func(setting(path), function="jsonb_typeof", output_field=TextField())
    beside = _ORDERS[sign](setting(path), Value(number, output_field=JSONField()))
    return Q(Exact(kind, "number")) & Q(beside)


def _setting_is(path: tuple[str, ...], value: Text) -> Q:
    """Whether a setting is that, or a list that has it: the text, and without quotes the number or the constant."""
    meant: list[Any] = [value.text]
    if not value.quoted:
        try:
            meant.append(_CONSTANTS[value.text.lower()])
        except KeyError:
            meant.extend(_numbers(value.text))
    return reduce(operator.or_, (Q(DataContains(setting(path), Value(one, JSONField()))) for one in meant))


def _numbers(text: str) -> list[float]:
    try:
        number = float(text)
    except ValueError:
        return []
    return [number] if abs(number) < float("inf") else []
