"""Holding models against each other by what evaluations have measured of them."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import QuerySet

from polm_core import catalogue
from polm_core.evaluation.intervals import Difference, Interval, difference, unpaired
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.evaluations.models import Better, EvaluationResult
from webapp.evaluations.scores import unpacked
from webapp.registry.models import BaseModel
from webapp.runs.config_files import flat_settings
from webapp.runs.models import Project

MAX_RESULTS = 4000
MAX_COLUMNS = 20
MAX_ROWS = 200
# Scores of rows that are read for one page; where there would be more, differences are told from the intervals.
MAX_SCORES = 1_000_000
BY_MODEL = "model"


@dataclass(frozen=True)
class Filters:
    """Which results are shown: of one project, one evaluation, one dataset; empty for all."""

    project: Project | None = None
    method: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class Column:
    """What was measured alike of several models; `settings` are those by which it differs from columns of the same
    name."""

    key: str
    example: EvaluationResult
    settings: Mapping[str, Any]

    @property
    def metric(self) -> str:
        return self.example.metric

    @property
    def better(self) -> str:
        return self.example.better

    @property
    def title(self) -> str:
        method = catalogue.find(self.example.run.method)
        return method.title if method else self.example.run.method

    def best_first(self, value: float) -> float:
        return value if self.better == Better.LOWER else -value


@dataclass(frozen=True)
class Cell:
    """The newest result of a model in a column; `change` is how much higher it is than the baseline's."""

    result: EvaluationResult
    is_best: bool
    change: Difference | None

    @property
    def verdict(self) -> str:
        """Whether it is clearly `better` or `worse` than the baseline; empty where that cannot be said."""
        if self.change is None or not self.change.is_clear or not self.result.better:
            return ""
        return "better" if (self.change.value > 0) == (self.result.better == Better.HIGHER) else "worse"


@dataclass(frozen=True)
class Line:
    """A model with its cells, in the order of the columns."""

    model: BaseModel
    cells: Sequence[Cell | None]
    is_baseline: bool


class Leaderboard:
    """Models by what was measured of them: the newest result of each under each condition.

    Of very many the newest are shown. `sort` is `model` or the key of a column, with a `-` before it the other way
    round; the first column for any other.
    """

    def __init__(self, actor: Actor, team: Team, filters: Filters, *, baseline: str = "", sort: str = "") -> None:
        actor.require(team.pk, Role.VIEWER, "team")
        self.filters = filters
        self.all_results = list(_newest(team, filters.project)[:MAX_RESULTS])
        self._results = [one for one in self.all_results if _shown(one, filters)]
        self._baseline = baseline
        self.sort = sort

    @cached_property
    def columns(self) -> list[Column]:
        """Those in which most models were measured come first, and of these the newest."""
        found: dict[str, list[EvaluationResult]] = {}
        for one in self._results:
            found.setdefault(_column_key(one), []).append(one)
        kept = sorted(found.items(), key=lambda item: -len(item[1]))[:MAX_COLUMNS]
        examples = {key: results[0] for key, results in kept}
        differing = _differing(examples.values())
        return [Column(key, one, differing[one.pk]) for key, one in examples.items()]

    @cached_property
    def lines(self) -> list[Line]:
        """The models, best first in the column that they are ordered by."""
        columns = {column.key: column for column in self.columns}
        cells: dict[uuid.UUID, dict[str, EvaluationResult]] = {}
        for one in self._results:
            if _column_key(one) in columns:
                cells.setdefault(one.model_id, {})[_column_key(one)] = one
        ordered = sorted(cells.items(), key=lambda item: self._rank(item[1]), reverse=self.sort.startswith("-"))
        shown = dict(ordered[:MAX_ROWS])
        best = {key: min((one.value for one in _in_column(shown, key)), key=columns[key].best_first) for key in columns}
        changes = self._changes(shown)
        return [
            Line(
                next(iter(own.values())).model,
                [
                    Cell(own[key], bool(columns[key].better) and own[key].value == best[key], changes.get(own[key].pk))
                    if key in own
                    else None
                    for key in columns
                ],
                str(model) == self._baseline,
            )
            for model, own in shown.items()
        ]

    @property
    def baseline(self) -> BaseModel | None:
        """The model that the others are held against, if it stands in the table."""
        return next((line.model for line in self.lines if line.is_baseline), None)

    @property
    def orders(self) -> list[str]:
        """What the models can be ordered by."""
        return [BY_MODEL, *(column.key for column in self.columns)]

    def _rank(self, own: Mapping[str, EvaluationResult]) -> tuple[bool, float, str]:
        """The place of a model: without a figure it is last, whichever way round."""
        name, turned = self.sort.removeprefix("-"), self.sort.startswith("-")
        called = next(iter(own.values())).model.name.lower()
        if name == BY_MODEL:
            return False, 0.0, called
        column = next((one for one in self.columns if one.key == name), self.columns[0])
        found = own.get(column.key)
        return (found is None) != turned, column.best_first(found.value) if found else 0.0, called

    def _changes(self, shown: Mapping[uuid.UUID, Mapping[str, EvaluationResult]]) -> dict[uuid.UUID, Difference]:
        """How much higher each result is than that of the baseline in its column, by the result's id."""
        base = next((own for model, own in shown.items() if str(model) == self._baseline), None)
        if base is None:
            return {}
        pairs = [
            (one, base[key]) for own in shown.values() if own is not base for key, one in own.items() if key in base
        ]
        wanted = {one.pk: one.rows for pair in pairs for one in pair}
        scores: dict[uuid.UUID, Any] = {}
        if sum(wanted.values()) <= MAX_SCORES:
            packed = EvaluationResult.objects.filter(pk__in=wanted).values_list("pk", "row_scores")
            scores = {pk: unpacked(data) for pk, data in packed}
        return {
            one.pk: (difference(scores[one.pk], scores[other.pk]) if scores else None)
            or unpaired(_interval(one), _interval(other))
            for one, other in pairs
        }


def _newest(team: Team, project: Project | None) -> QuerySet[EvaluationResult]:
    """The newest listed result of each model under each condition, newest first."""
    results = EvaluationResult.objects.filter(run__team=team, listed=True)
    if project is not None:
        results = results.filter(run__project=project)
    alike = ("model_id", "conditions", "metric")
    return (
        EvaluationResult.objects.filter(pk__in=results.order_by(*alike, "-id").distinct(*alike).values("pk"))
        .select_related("model", "run__dataset_version__dataset")
        .defer("row_scores")
        .order_by("-id")
    )


def _shown(one: EvaluationResult, filters: Filters) -> bool:
    dataset = str(one.version.dataset_id)
    return filters.method in ("", one.run.method) and filters.dataset in ("", dataset)


def _column_key(one: EvaluationResult) -> str:
    return f"{one.conditions}:{one.metric}"


def _in_column(shown: Mapping[uuid.UUID, Mapping[str, EvaluationResult]], key: str) -> list[EvaluationResult]:
    return [own[key] for own in shown.values() if key in own]


def _interval(one: EvaluationResult) -> Interval:
    return Interval(one.value, one.low, one.high)


def _differing(examples: Iterable[EvaluationResult]) -> dict[uuid.UUID, dict[str, Any]]:
    """The settings in which results of the same metric on the same dataset version were measured differently."""
    alike: dict[tuple[Any, ...], list[EvaluationResult]] = {}
    for one in examples:
        alike.setdefault((one.run.method, one.run.dataset_version_id, one.metric), []).append(one)
    found: dict[uuid.UUID, dict[str, Any]] = {}
    for same in alike.values():
        settings = {one.pk: flat_settings(one.run.config) for one in same}
        names = {name for own in settings.values() for name in own}
        differ = sorted(name for name in names if len({repr(own.get(name)) for own in settings.values()}) > 1)
        found |= {pk: {name: own.get(name) for name in differ} for pk, own in settings.items()}
    return found
