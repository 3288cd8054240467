"""Reading datasets: lists, one with all its page shows, its rows."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from polm_core.data.convert import conversions_of
from polm_core.data.mapping import Mapping
from polm_core.data.preview import Preview, preview_head
from polm_core.data.report import PrepareReport
from polm_core.data.rows import read_rows
from polm_core.data.values import is_storable
from polm_core.formats import SPECS, Format
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.datasets.mappings import clean_mapping
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.datasets.services import head_folder, most_rows
from webapp.errors import Conflict, Invalid, NotFound
from webapp.pagination import DEFAULT_LIMIT, page

MAX_ROWS = 200
# An answer with rows ends early rather than grow beyond this; rows may have several megabytes each.
MAX_ROWS_BYTES = 4 * 1024**2
MAX_VERSIONS = 100
MAX_USES = 50
MAX_OFFERED = 500


@dataclass(frozen=True)
class DatasetEntry:
    """A line of a list. `runs` trained on it, `eval_runs` had it as their held-out set."""

    dataset: Dataset
    latest: DatasetVersion
    runs: int
    eval_runs: int


@dataclass(frozen=True)
class RowsPage:
    """Canonical rows from `offset` on; `next_offset` is None at the end."""

    items: list[dict[str, Any]]
    offset: int
    total: int
    next_offset: int | None


@dataclass(frozen=True)
class Use:
    """A run that trained on a version of the dataset, answered from it, or was evaluated on it."""

    run_id: uuid.UUID
    name: str
    method: str
    status: str
    version: int
    held_out: bool


def dataset_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> Dataset:
    """The dataset. Raises NotFound or Forbidden."""
    return actor.get(Dataset.objects.select_related("team", "created_by"), pk, role)


def datasets_page(
    *, actor: Actor, team: Team | None = None, q: str = "", limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> tuple[list[DatasetEntry], str | None]:
    """Datasets of a team, or of all the actor's teams, newest first, each with its latest version."""
    queryset = Dataset.objects.filter(team__in=actor.team_ids()).select_related("team", "created_by")
    if team is not None:
        queryset = queryset.filter(team=team)
    if q.strip():
        queryset = queryset.filter(name__icontains=q.strip()) if is_storable(q) else queryset.none()
    items, next_cursor = page(_with_uses(queryset), limit, cursor)
    return _entries(items), next_cursor


def version_to_use(actor: Actor, ref: str | uuid.UUID) -> DatasetVersion:
    """The newest version of the dataset with that id, with its dataset and team. Raises Invalid when there is no such
    dataset, Conflict while it is not ready."""
    try:
        dataset = actor.get(Dataset.objects.select_related("team"), ref, Role.MEMBER)
    except NotFound:
        raise Invalid("There is no such dataset.", fields={"dataset": ["names no dataset of yours"]}) from None
    version = dataset.versions.select_related("dataset__team").order_by("-number").first()
    if version is None or version.status != VersionStatus.READY:
        raise Conflict(f"The dataset {dataset.name} is not ready.", advice="See its page for how far it is.")
    return version


def rows_keys(versions: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Where the rows of these versions lie, of those that are there."""
    return dict(DatasetVersion.objects.filter(pk__in=versions).values_list("pk", "rows_key"))


def datasets_of_formats(team_id: uuid.UUID, formats: Collection[str]) -> list[DatasetVersion]:
    """The newest ready version of each of a team's newest datasets, where it has one of these formats."""
    newest = (
        DatasetVersion.objects.filter(dataset__team=team_id, status=VersionStatus.READY)
        .select_related("dataset")
        .defer("report")
        .order_by("-dataset", "-number")
        .distinct("dataset")
    )
    return [version for version in newest[:MAX_OFFERED] if version.format in formats]


def dataset_entry(dataset: Dataset) -> DatasetEntry:
    """A dataset as a line of a list."""
    return _entries(list(_with_uses(Dataset.objects.filter(pk=dataset.pk).select_related("team", "created_by"))))[0]


def versions(dataset: Dataset) -> list[DatasetVersion]:
    """The dataset's versions without their reports, newest first."""
    return list(dataset.versions.select_related("created_by").defer("report").order_by("-number")[:MAX_VERSIONS])


def version_get(dataset: Dataset, number: int | None = None) -> DatasetVersion:
    """The version with that number, or the latest. Raises NotFound."""
    found = dataset.versions.all() if number is None else dataset.versions.filter(number=number)
    version = found.select_related("made_from__dataset").defer("made_from__report").order_by("-number").first()
    if version is None:
        raise NotFound(f"The dataset has no version {number}.")
    version.dataset = dataset
    return version


def version_find(pk: Any) -> DatasetVersion | None:
    """The version of that id without its report, if it is there; whoever asks has seen to it that they may."""
    return DatasetVersion.objects.filter(pk=pk).defer("report").first()


def version_with_rows(dataset: Dataset, number: int | None = None) -> DatasetVersion:
    """The latest version that is ready, or the one with that number. Raises Conflict when there are no rows (yet)."""
    if number is None:
        ready = dataset.versions.filter(status=VersionStatus.READY).order_by("-number").first()
        version = ready or version_get(dataset)
    else:
        version = version_get(dataset, number)
    if version.status == VersionStatus.PROCESSING:
        raise Conflict("The dataset is still being processed.", advice="Its rows can be read when it is ready.")
    if version.status == VersionStatus.INVALID:
        raise Conflict("The file could not be used, so there are no rows.", advice="See the problems of the dataset.")
    return version


@dataclass(frozen=True)
class Conversion:
    """A format that the rows of a version can become. It gives `rows` rows, or, unless `exact`, at most so many."""

    to: Format
    says: str
    rows: int
    exact: bool

    @property
    def title(self) -> str:
        return SPECS[self.to].title


def conversions(version: DatasetVersion) -> list[Conversion]:
    """What the rows of a version can become; nothing until it is ready."""
    if version.status != VersionStatus.READY:
        return []
    return [
        Conversion(target, found.says, most_rows(version, target), found.exact)
        for target, found in conversions_of(Format(version.format)).items()
    ]


def source_run(version: DatasetVersion) -> uuid.UUID | None:
    """The run whose answers the rows are, while it is there."""
    return DatasetVersion.objects.filter(pk=version.pk).values_list("run_dataset__run", flat=True).first()


def made_into(dataset: Dataset) -> list[DatasetVersion]:
    """The newest versions of other datasets that were made of this one's rows."""
    found = DatasetVersion.objects.filter(made_from__dataset=dataset).exclude(dataset=dataset)
    return list(
        found.select_related("dataset", "made_from").defer("report", "made_from__report").order_by("-pk")[:MAX_USES]
    )


def report_of(version: DatasetVersion) -> PrepareReport | None:
    """What preparation found; None while the version is being processed."""
    return PrepareReport.model_validate(version.report) if version.report else None


def version_preview(version: DatasetVersion, mapping: dict[str, Any] | None = None, *, limit: int = 20) -> Preview:
    """The first rows of the uploaded file under `mapping`, or under the detected one.

    Raises Conflict before the file was looked at and where there is none, Invalid when no row could be read or for a
    mapping that makes no sense, and DataError for one whose columns the file does not have.
    """
    if version.status == VersionStatus.PROCESSING:
        raise Conflict("The dataset is still being processed.", advice="Its columns are known when it is done.")
    if version.derivation:
        raise Conflict("The rows were not read from a file, so there is nothing to map.", advice="Read them as rows.")
    cleaned = clean_mapping(mapping)
    folder = head_folder(version.pk)
    if not artifacts.exists(folder):
        raise Invalid(
            "No row could be read from the file.", code="data.no-head", advice="See the problems of the dataset."
        )
    return preview_head(artifacts.local_folder(folder), Mapping.model_validate(cleaned) if cleaned else None, limit)


def rows_page(version: DatasetVersion, *, offset: int = 0, limit: int = DEFAULT_LIMIT) -> RowsPage:
    """Rows of a ready version from `offset` on: at most `limit`, fewer where they are large."""
    folder = artifacts.local_folder(version.rows_key)
    items: list[dict[str, Any]] = []
    size = 0
    while len(items) < limit and size < MAX_ROWS_BYTES:
        found = read_rows(folder, offset + len(items), 1)
        if not found:
            break
        items += found
        size += len(str(found))
    end = offset + len(items)
    return RowsPage(items, offset, version.rows, end if items and end < version.rows else None)


def uses(dataset: Dataset) -> list[Use]:
    """The newest runs that trained on the dataset or were evaluated on it."""
    found = [
        *_uses(dataset, "runs", held_out=False),
        *_uses(dataset, "document_runs", held_out=False),
        *_uses(dataset, "eval_runs", held_out=True),
    ]
    return sorted(found, key=lambda use: use.run_id, reverse=True)[:MAX_USES]


def _uses(dataset: Dataset, relation: str, *, held_out: bool) -> list[Use]:
    rows = (
        dataset.versions.filter(**{f"{relation}__isnull": False})
        .order_by(f"-{relation}__pk")
        .values(
            "number",
            run_id=F(f"{relation}__pk"),
            name=F(f"{relation}__name"),
            method=F(f"{relation}__method"),
            run_status=F(f"{relation}__status"),
        )[:MAX_USES]
    )
    return [Use(row["run_id"], row["name"], row["method"], row["run_status"], row["number"], held_out) for row in rows]


def _with_uses(queryset: QuerySet[Dataset]) -> QuerySet[Any]:
    return queryset.annotate(run_count=_count_of("runs"), eval_run_count=_count_of("eval_runs"))


def _count_of(relation: str) -> Coalesce:
    per_dataset = DatasetVersion.objects.filter(dataset=OuterRef("pk")).order_by().values("dataset")
    return Coalesce(
        Subquery(per_dataset.annotate(count=Count(relation)).values("count"), output_field=IntegerField()), 0
    )


def _entries(datasets: Sequence[Any]) -> list[DatasetEntry]:
    newest = (
        DatasetVersion.objects.filter(dataset__in=datasets)
        .defer("report")
        .order_by("dataset", "-number")
        .distinct("dataset")
    )
    latest = {version.dataset_id: version for version in newest}
    return [DatasetEntry(d, latest[d.pk], d.run_count, d.eval_run_count) for d in datasets]
