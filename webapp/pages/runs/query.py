"""The search of the list of runs: words, and conditions such as `method:dpo`, `tag:baseline` or `loss<0.4`."""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

from django.db.models import Exists, OuterRef, Q, QuerySet

from webapp.errors import Invalid
from webapp.metrics.models import MetricSeries
from webapp.runs.models import Run, Status

MAX_CONDITIONS = 10
MAX_LENGTH = 500
_COMPARISONS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_FIGURE = re.compile(r"(?P<key>[\w./@-]+)(?P<sign><=|>=|<|>)(?P<value>[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?)")
_FIELD = re.compile(r"(?P<name>status|method|tag|project|model|dataset|by):(?P<value>.+)")


@dataclass(frozen=True)
class Condition:
    """One condition as it was typed, and what it asks of a run."""

    text: str
    wanted: Q


def conditions(text: str) -> list[Condition]:
    """The conditions of a search; all of them must hold. Raises Invalid, saying what would be right."""
    return [_condition(word) for word in text[:MAX_LENGTH].split()[:MAX_CONDITIONS]]


def narrowed(runs: QuerySet[Run], wanted: Iterable[Condition]) -> QuerySet[Run]:
    """The runs for which every condition holds."""
    return runs.filter(reduce(operator.and_, (condition.wanted for condition in wanted), Q()))


def _condition(word: str) -> Condition:
    if figure := _FIGURE.fullmatch(word):
        return Condition(word, _by_figure(figure["key"], figure["sign"], float(figure["value"])))
    if field := _FIELD.fullmatch(word):
        return Condition(word, _FIELDS[field["name"]](field["value"]))
    if re.search(r"[<>]", word):
        raise Invalid(f"{word} is not a condition.", advice="Compare a metric with a number, such as loss<0.4.")
    return Condition(word, Q(name__icontains=word) | Q(tags__contains=[word]) | Q(method=word))


def _by_figure(key: str, sign: str, value: float) -> Q:
    """By the newest value of a metric; one that is NaN satisfies no comparison."""
    newest = {f"last__{_COMPARISONS[sign]}": value}
    series = MetricSeries.objects.filter(run=OuterRef("pk"), key=key, **newest).exclude(last=float("nan"))
    return Q(Exists(series))


def _by_status(value: str) -> Q:
    wanted = value.split(",")
    if unknown := set(wanted) - set(Status.values):
        raise Invalid(
            f"There is no status {', '.join(sorted(unknown))}.", advice=f"There are {', '.join(Status.values)}."
        )
    return Q(status__in=wanted)


_FIELDS: dict[str, Callable[[str], Q]] = {
    "status": _by_status,
    "method": lambda value: Q(method__in=value.split(",")),
    "tag": lambda value: Q(tags__contains=[value]),
    "project": lambda value: Q(project__name__iexact=value),
    "model": lambda value: Q(model__name__icontains=value),
    "dataset": lambda value: Q(dataset_version__dataset__name__icontains=value),
    "by": lambda value: Q(created_by__username=value),
}
