"""The columns of the list of runs: what an address may name, how each sorts, and what stands in it for a run.

Besides a few of its own the list has a column for every setting (`config.beta`) and every figure of a metric
(`loss.min`, `eval/loss.last`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.db.models import F, FilteredRelation, Q, QuerySet, Value
from django.db.models.expressions import OrderBy
from django.db.models.functions import NullIf

from polm_core.settings import as_text
from webapp.metrics.keys import is_usable
from webapp.metrics.selectors import summaries
from webapp.pages.lists import RunEntry
from webapp.runs.config_files import flat_settings
from webapp.runs.models import Run
from webapp.runs.query.meaning import setting
from webapp.runs.query.tree import FIGURES, Figure, OfConfig, OfMetric
from webapp.runs.run_views import MAX_COLUMN_NAME, MAX_COLUMNS

NEWEST = "-created"
DEFAULT = ("state", "loss", "method", "dataset", "created")


@dataclass(frozen=True)
class Column:
    """A column; `name` is how addresses have it, and `of` the setting or figure that it shows, if it is of one.

    `first` is how it sorts when it is first asked to: the newest, the furthest and the best come first. `note` is what
    of the label must never be cut off.
    """

    name: str
    label: str
    of: OfConfig | OfMetric | None = None
    first: str = ""
    note: str = ""


# The run's name is always there, in front.
NAME = Column("name", "Run", first="name")
OWN = {
    column.name: column
    for column in (
        NAME,
        Column("state", "State"),
        Column("loss", "Loss", first="loss"),
        Column("method", "Method", first="method"),
        Column("dataset", "Dataset"),
        Column("created", "Created", first=NEWEST),
        Column("finished", "Finished", first="-finished"),
        Column("step", "Step", first="-step"),
        Column("verdict", "Verdict", first="verdict"),
    )
}
_FIELDS = {"name": "name", "method": "method", "created": "pk", "finished": "finished_at", "step": "step"}


@dataclass(frozen=True)
class Cell:
    """What stands in a column for one run: a figure, or the text of a setting."""

    column: Column
    figure: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Row:
    """A run of the list with what stands in the columns behind its name."""

    entry: RunEntry
    cells: list[Cell]


def find(name: str) -> Column | None:
    """The column that an address means, or None for what is no column."""
    if name in OWN:
        return OWN[name]
    if not is_usable(name) or len(name) > MAX_COLUMN_NAME:
        return None
    if name.startswith("config."):
        path = name.removeprefix("config.")
        parts = tuple(path.split("."))
        return Column(name, path, OfConfig(parts), first=name) if all(parts) else None
    key, _, figure = name.rpartition(".")
    if not key or figure not in FIGURES:
        return None
    of, first = OfMetric(key, cast(Figure, figure)), f"-{name}" if figure == "max" else name
    return Column(name, key, of, first, note="" if figure == "last" else figure)


def chosen(names: Iterable[str]) -> list[Column]:
    """The columns that an address names, each once; the usual ones where it names none."""
    found = [column for name in dict.fromkeys(names) if (column := find(name)) and column != NAME]
    return found[:MAX_COLUMNS] or [OWN[name] for name in DEFAULT]


def sort_of(text: str) -> str:
    """What the list is sorted by, with a minus for the other way round; the newest first for what sorts nothing."""
    column = find(text.removeprefix("-"))
    return text if column and column.first else NEWEST


def sorted_by(runs: QuerySet[Run], sort: str) -> QuerySet[Run]:
    """The runs by a column; those without a value come last either way."""
    column = find(sort.removeprefix("-"))
    if column is None or column.name == "created":
        return runs.order_by("pk" if sort == "created" else "-pk")
    of = OfMetric("loss") if column.name == "loss" else column.of
    if isinstance(of, OfMetric):
        # A join: Postgres looks up a subquery for one run after the other.
        series = FilteredRelation("series", condition=Q(series__key=of.key))
        value: Any = NullIf(F(f"sorting__{of.figure}"), Value(float("nan")))
        runs = runs.annotate(sorting=series)
    elif isinstance(of, OfConfig):
        value = NullIf(setting(of.path), Value(None, output_field=setting(of.path).output_field))
    elif column.name == "verdict":
        value = NullIf(F("verdict"), Value(""))
    else:
        value = F(_FIELDS[column.name])
    return runs.order_by(OrderBy(value, descending=sort.startswith("-"), nulls_last=True), "-pk")


def rows(entries: Sequence[RunEntry], columns: Sequence[Column]) -> list[Row]:
    """The runs with what stands in the columns; the figures of all are read in one query, if any are shown."""
    keys = sorted({column.of.key for column in columns if isinstance(column.of, OfMetric)})
    figures = summaries([entry.run.pk for entry in entries], keys) if keys else {}
    return [Row(entry, _cells(entry.run, columns, figures.get(entry.run.pk, {}))) for entry in entries]


def _cells(run: Run, columns: Sequence[Column], figures: dict[str, dict[str, Any]]) -> list[Cell]:
    settings = flat_settings(run.config) if any(isinstance(column.of, OfConfig) for column in columns) else {}
    cells = []
    for column in columns:
        match column.of:
            case OfMetric(key, figure):
                cells.append(Cell(column, figure=figures.get(key, {}).get(figure)))
            case OfConfig(path):
                cells.append(Cell(column, text=as_text(settings.get(".".join(path)))))
            case _:
                cells.append(Cell(column))
    return cells
