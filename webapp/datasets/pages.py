"""What the pages show of a dataset version, gathered from its report, its rows and the catalogue."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polm_core import catalogue
from polm_core.data.convert import Compatibility, compatible
from polm_core.data.mapping import SHAPES
from polm_core.data.mapping import Mapping as ColumnMapping
from polm_core.data.report import PrepareReport, Problem
from polm_core.errors import PolmError
from polm_core.formats import SPECS, Format, FormatSpec
from polm_core.method import Method
from webapp.datasets import selectors
from webapp.datasets.forms import MappingForm
from webapp.datasets.models import DatasetVersion
from webapp.datasets.presenting import RowView, as_json, row_view

PREVIEW_ROWS = 8


@dataclass(frozen=True)
class FormatChoice:
    """A format that the file may be read as, and what detection thinks of that. Without a mapping it found none."""

    spec: FormatSpec
    confidence: float
    why: str
    mapping: ColumnMapping | None


@dataclass(frozen=True)
class PreviewLine:
    """A source row beside what the mapping makes of it, or beside its problem."""

    number: int
    source: str
    view: RowView | None
    problem: Problem | None


@dataclass(frozen=True)
class PreviewView:
    """What a mapping makes of the first rows; `problems` say why it cannot be applied at all."""

    lines: list[PreviewLine] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def fitting(self) -> int:
        return sum(line.view is not None for line in self.lines)


@dataclass(frozen=True)
class RowLine:
    """A row with its number, counted from 1."""

    number: int
    view: RowView


@dataclass(frozen=True)
class RowsView:
    """A page of rows with the offsets of its neighbours."""

    lines: list[RowLine]
    total: int
    previous: int | None
    next: int | None

    @property
    def neighbours(self) -> list[tuple[int | None, str, str]]:
        """Offset, words and icon of the way back and the way on."""
        return [(self.previous, "Rows before", "chevron-left"), (self.next, "Rows after", "chevron-right")]

    @property
    def first(self) -> int:
        return self.lines[0].number if self.lines else 0

    @property
    def last(self) -> int:
        return self.lines[-1].number if self.lines else 0


def format_choices(version: DatasetVersion) -> list[FormatChoice]:
    """Every format a file can be read as: what is in use first, then by how likely it is."""
    report = selectors.report_of(version)
    found: dict[Format, FormatChoice] = {}
    if report is not None:
        if report.mapping is not None and report.format is not None:
            found[report.format] = FormatChoice(SPECS[report.format], report.confidence, report.why, report.mapping)
        for candidate in report.alternatives:
            choice = FormatChoice(SPECS[candidate.format], candidate.confidence, candidate.why, candidate.mapping)
            found.setdefault(candidate.format, choice)
    rest = [FormatChoice(SPECS[format], 0.0, "", None) for format in SHAPES if format not in found]
    return [*found.values(), *rest]


def mapping_form(version: DatasetVersion, data: Mapping[str, Any] | None = None) -> MappingForm:
    """The editor for the format asked for, or for the one in use, filled as asked for or as detected."""
    report = selectors.report_of(version)
    choices = {choice.spec.format: choice for choice in format_choices(version)}
    wanted = (data or {}).get("format", "")
    choice = choices[Format(wanted)] if wanted in SHAPES else next(iter(choices.values()))
    filled = data if data and any(name.startswith("column-") for name in data) else None
    columns = [column.path for column in report.columns] if report else []
    return MappingForm(choice.spec.format, columns, filled, mapping=choice.mapping)


def preview(version: DatasetVersion, form: MappingForm) -> PreviewView:
    """What the mapping in the form makes of the first rows."""
    if form.is_bound and not form.is_valid():
        return PreviewView(problems=_in_words(form.errors))
    mapping = form.mapping() if form.is_bound else form.suggested()
    if mapping is None:
        return PreviewView(problems=[f"Choose the columns for {SPECS[form.format].title.lower()}."])
    try:
        found = selectors.version_preview(version, mapping, limit=PREVIEW_ROWS)
    except PolmError as error:
        return PreviewView(problems=_in_words(error.fields) or [error.message])
    return PreviewView(
        [
            PreviewLine(
                row.row, as_json(row.source), row_view(form.format, row.mapped) if row.mapped else None, row.problem
            )
            for row in found.rows
        ]
    )


def _in_words(fields: Mapping[str, Iterable[Any]]) -> list[str]:
    """Problems by field as sentences; the last part of a field's name is what people know it by."""
    return [
        f"{name.rpartition('.')[2].rpartition('-')[2].replace('_', ' ').capitalize()}: {problem}"
        for name, problems in fields.items()
        for problem in problems
    ]


def rows(version: DatasetVersion, *, offset: int, limit: int) -> RowsView:
    """Rows of a ready version for reading."""
    page = selectors.rows_page(version, offset=offset, limit=limit)
    lines = [RowLine(number, row_view(version.format, row)) for number, row in enumerate(page.items, page.offset + 1)]
    return RowsView(lines, page.total, max(0, offset - limit) if offset else None, page.next_offset)


def serves(format: Format) -> list[tuple[Method, Compatibility]]:
    """The methods that can use data of this format, as it is or converted."""
    fits = [(method, compatible(method.formats, format)) for method in catalogue.METHODS]
    return [(method, fit) for method, fit in fits if fit.ok]


@dataclass(frozen=True)
class Share:
    """A part of the rows, for a bar: how many, and of a hundred. `tone` is good or bad."""

    name: str
    count: int
    percent: int
    tone: str


def labels(report: PrepareReport | None) -> list[Share]:
    """How the labels of a rating are spread; empty for data without labels."""
    counts = report.stats.labels if report else {}
    total = sum(counts.values())
    return [
        Share(
            "good" if label == "true" else "bad",
            count,
            round(100 * count / total),
            "good" if label == "true" else "bad",
        )
        for label, count in sorted(counts.items(), reverse=True)
    ]


@dataclass(frozen=True)
class Tab:
    """A tab of the dataset's page; `panel` is the id of what it opens, rendered from `datasets/_<panel>.html`."""

    panel: str
    label: str
    count: int | None = None

    @property
    def template(self) -> str:
        return f"datasets/_{self.panel}.html"


def tabs(context: Mapping[str, Any]) -> list[Tab]:
    """The tabs that the page has something for. The first is the one to open: rows, or what is wrong with the file."""
    count = context["problem_total"]
    problems = [Tab("problems", "Problems", count)] if count else []
    ready = "page" in context
    return [
        *([Tab("rows", "Rows")] if ready else problems),
        Tab("card", "Card"),
        *([Tab("mapping", "Mapping")] if "form" in context else []),
        *([Tab("serves", "Methods", len(context["serves"]))] if ready else []),
        *([Tab("conversions", "Make others", len(context["conversions"])), *problems] if ready else []),
        Tab("versions", "Versions", len(context["versions"])),
        Tab("uses", "Used by", len(context["uses"])),
    ]
