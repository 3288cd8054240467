"""Datasets over the API."""

import datetime
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from django.core.files.uploadedfile import TemporaryUploadedFile
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from ninja import File, Form, Query, Router, Schema, Status
from ninja.files import UploadedFile
from pydantic import ConfigDict, Field

from polm_core.data.detect import Candidate
from polm_core.data.identify import FileFacts
from polm_core.data.mapping import Mapping
from polm_core.data.observe import Column
from polm_core.data.preview import Preview
from polm_core.data.report import PrepareReport, Problem, Stats
from polm_core.gym.tasks import MAX_ROWS, table
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.datasets import selectors, services
from webapp.datasets.downloads import image_response, rows_response
from webapp.datasets.mappings import parse_mapping
from webapp.datasets.models import Dataset, DatasetVersion, Origin
from webapp.errors import Invalid
from webapp.pagination import DEFAULT_LIMIT, Limit

router = Router(tags=["datasets"])


class ApiRequest(HttpRequest):
    """A request that the API has authenticated."""

    actor: Actor


class Failure(Schema):
    """Why a file could not be used."""

    code: str
    message: str
    advice: str = ""
    fields: dict[str, list[str]] = {}


class DatasetOut(Schema):
    """A dataset with the state of its latest version. `runs` trained on it, `eval_runs` were evaluated on it."""

    id: uuid.UUID
    team: uuid.UUID
    name: str
    description: str
    origin: str
    origin_model: str
    status: str
    version: int
    format: str
    rows: int
    bytes: int
    filename: str
    source_bytes: int
    runs: int
    eval_runs: int
    created_at: datetime.datetime
    created_by: str | None


class VersionOut(Schema):
    number: int
    status: str
    format: str
    rows: int
    created_at: datetime.datetime


class MadeFrom(Schema):
    """The version whose rows were converted or added to."""

    dataset: uuid.UUID
    name: str
    version: int


class DatasetDetail(DatasetOut):
    """As in the list, with what preparation found. `problem_counts` counts by rule what `problems` lists up to 200.

    A fault of the whole file (`error`) is among `problems` too where no row is at fault; it has no row.
    """

    progress: dict[str, Any] = {}
    error: Failure | None = None
    file: FileFacts | None = None
    confidence: float | None = None
    why: str = ""
    alternatives: list[Candidate] = []
    columns: list[Column] = []
    mapping: Mapping | None = None
    rows_total: int = 0
    problems: list[Problem] = []
    problem_counts: dict[str, int] = {}
    stats: Stats | None = None
    sha256: str = ""
    versions: list[VersionOut] = []
    derivation: dict[str, Any] = Field({}, description="what the rows are made of, where no file was uploaded")
    made_from: MadeFrom | None = None


class ConversionOut(Schema):
    """A format that the rows can become: `rows` of them, or at most so many unless `exact`."""

    to: str
    title: str
    says: str
    rows: int
    exact: bool


class ConversionList(Schema):
    items: list[ConversionOut]


class Convert(Schema):
    model_config = ConfigDict(extra="forbid")
    to: str
    name: str = Field("", description="by default the dataset's name and the format")
    version: int | None = Field(None, ge=1, lt=2**31, description="by default the latest that is ready")


class DatasetCreated(Schema):
    id: uuid.UUID
    status: str
    version: int


class LevelOut(Schema):
    """How hard a task can be: a step of its curriculum, and what it sets."""

    level: int
    settings: dict[str, Any]


class TaskOut(Schema):
    """A task of reasoning-gym with the beginning of a row. Without levels it is always as hard."""

    name: str
    category: str
    levels: list[LevelOut]
    question: str
    answer: str


class TaskList(Schema):
    """`left_out` are the tasks of that version of reasoning-gym which are not offered, and why."""

    version: str
    items: list[TaskOut]
    left_out: dict[str, str]


class Generate(Schema):
    model_config = ConfigDict(extra="forbid")
    task: str = Field(description="the name of a task, as `GET /tasks` lists them")
    level: int | None = Field(None, description="one of the task's levels; by default what is usual for the task")
    size: int = Field(description=f"how many rows, 1 to {MAX_ROWS:,}")
    seed: int = Field(0, description="the same seed gives the same rows")
    name: str = Field("", description="by default the task, its level and the size")
    description: str = ""
    team: str = Field("", description="id or slug of the team; by default the first one joined")


class DatasetList(Schema):
    items: list[DatasetOut]
    next_cursor: str | None


class RowsOut(Schema):
    """Canonical rows from `offset` on. `next_offset` is null at the end; large rows make a page shorter."""

    items: list[dict[str, Any]]
    offset: int
    total: int
    next_offset: int | None


class DatasetForm(Schema):
    name: str
    format: str = ""
    mapping: str = Field(
        "", description="a mapping as JSON: format, columns and options; beside `format`, the columns alone will do"
    )
    origin: str = Origin.UNKNOWN
    origin_model: str = ""
    description: str = ""
    team: str = Field("", description="id or slug of the team; by default the first one joined")


class DatasetPatch(Schema):
    model_config = ConfigDict(extra="forbid")
    name: str | None = None
    description: str | None = None
    origin: str | None = None
    origin_model: str | None = None


class Remap(Schema):
    model_config = ConfigDict(extra="forbid")
    format: str = ""
    mapping: dict[str, Any] | None = None


@router.post("/datasets", response={201: DatasetCreated})
def dataset_create(request: ApiRequest, form: Form[DatasetForm], file: File[UploadedFile]) -> Any:
    """Upload a file. A worker prepares it; ask for the dataset until its status is `ready` or `invalid`."""
    _refuse_unknown_fields(request)
    dataset = services.dataset_create(
        actor=request.actor,
        team=_team(request.actor, form.team),
        file=_on_disk(file),
        filename=file.name or "file",
        name=form.name,
        format=form.format,
        mapping=parse_mapping(form.mapping),
        origin=form.origin,
        origin_model=form.origin_model,
        description=form.description,
    )
    return Status(201, created(dataset))


@router.get("/tasks", response=TaskList)
def task_list(request: ApiRequest) -> Any:
    """The tasks of reasoning-gym that rows can be made of."""
    found = table()
    return {"version": found.version, "items": found.tasks, "left_out": found.left_out}


# Before the addresses of datasets, or its name would be taken for an id.
@router.post("/datasets/generate", response={201: DatasetCreated})
def dataset_generate(request: ApiRequest, payload: Generate) -> Any:
    """Make a dataset of prompts with answers from a task of reasoning-gym. A worker does it, as after an upload."""
    values = payload.dict(exclude={"team"})
    made = services.dataset_generate(actor=request.actor, team=_team(request.actor, payload.team), **values)
    return Status(201, created(made.dataset))


@router.get("/datasets", response=DatasetList)
def dataset_list(
    request: ApiRequest, q: str = "", team: str = "", limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
) -> Any:
    """Datasets of your teams, newest first; `q` is looked for in their names."""
    wanted = _team(request.actor, team, Role.VIEWER) if team else None
    entries, next_cursor = selectors.datasets_page(actor=request.actor, team=wanted, q=q, limit=limit, cursor=cursor)
    return {"items": [_summary(entry) for entry in entries], "next_cursor": next_cursor}


@router.get("/datasets/{dataset_id}", response=DatasetDetail)
def dataset_detail(request: ApiRequest, dataset_id: str) -> Any:
    """A dataset with its state, problems and statistics."""
    return _detail(selectors.dataset_get(request.actor, dataset_id))


@router.patch("/datasets/{dataset_id}", response=DatasetDetail)
def dataset_update(request: ApiRequest, dataset_id: str, payload: DatasetPatch) -> Any:
    """Change name, description or origin."""
    dataset = selectors.dataset_get(request.actor, dataset_id, Role.MEMBER)
    services.dataset_update(actor=request.actor, dataset=dataset, **payload.dict())
    return _detail(dataset)


@router.delete("/datasets/{dataset_id}", response={204: None})
def dataset_delete(request: ApiRequest, dataset_id: str) -> Any:
    """Delete a dataset with its files. 409 with the runs' ids in `error.fields.runs` when a run used it."""
    dataset = selectors.dataset_get(request.actor, dataset_id, Role.MEMBER)
    services.dataset_delete(actor=request.actor, dataset=dataset)
    return Status(204, None)


@router.get("/datasets/{dataset_id}/rows", response=RowsOut)
def dataset_rows(
    request: ApiRequest,
    dataset_id: str,
    offset: Annotated[int, Field(ge=0, lt=2**53)] = 0,
    limit: Limit = DEFAULT_LIMIT,
    version: Annotated[int | None, Field(ge=1, lt=2**31)] = None,
) -> Any:
    """Rows as methods get them, of the latest version that is ready or of the one asked for."""
    dataset = selectors.dataset_get(request.actor, dataset_id)
    return selectors.rows_page(selectors.version_with_rows(dataset, version), offset=offset, limit=limit)


@router.api_operation(["GET", "HEAD"], "/datasets/{dataset_id}/rows.jsonl")
def dataset_download(
    request: ApiRequest, dataset_id: str, version: Annotated[int | None, Field(ge=1, lt=2**31)] = None
) -> HttpResponseBase:
    """All rows as methods get them in one file, of the latest version that is ready or of the one asked for."""
    dataset = selectors.dataset_get(request.actor, dataset_id)
    return rows_response(request, selectors.version_with_rows(dataset, version))


@router.api_operation(["GET", "HEAD"], "/datasets/{dataset_id}/images/{name}")
def dataset_image(
    request: ApiRequest, dataset_id: str, name: str, version: Annotated[int | None, Field(ge=1, lt=2**31)] = None
) -> HttpResponseBase:
    """An image that the rows name, of the latest version that is ready or of the one asked for."""
    dataset = selectors.dataset_get(request.actor, dataset_id)
    return image_response(request, selectors.version_with_rows(dataset, version), name, small=False)


@router.get("/datasets/{dataset_id}/preview", response=Preview)
def dataset_preview(
    request: ApiRequest,
    dataset_id: str,
    mapping: Annotated[str, Query(description="a mapping as JSON; the detected one by default")] = "",
    limit: Annotated[int, Field(ge=1, le=50)] = 20,
) -> Any:
    """The first rows of the file, and what a mapping makes of them."""
    dataset = selectors.dataset_get(request.actor, dataset_id)
    return selectors.version_preview(selectors.version_get(dataset), parse_mapping(mapping), limit=limit)


@router.post("/datasets/{dataset_id}/remap", response={201: DatasetCreated})
def dataset_remap(request: ApiRequest, dataset_id: str, payload: Remap) -> Any:
    """Read the same file another way, as a new version."""
    dataset = selectors.dataset_get(request.actor, dataset_id, Role.MEMBER)
    services.dataset_remap(actor=request.actor, dataset=dataset, format=payload.format, mapping=payload.mapping)
    return Status(201, created(dataset))


@router.get("/datasets/{dataset_id}/conversions", response=ConversionList)
def dataset_conversions(
    request: ApiRequest, dataset_id: str, version: Annotated[int | None, Field(ge=1, lt=2**31)] = None
) -> Any:
    """The formats that the rows can become, of the latest version that is ready or of the one asked for."""
    dataset = selectors.dataset_get(request.actor, dataset_id)
    found = selectors.conversions(selectors.version_with_rows(dataset, version))
    return {"items": [{**asdict(one), "title": one.title} for one in found]}


@router.post("/datasets/{dataset_id}/convert", response={201: DatasetCreated})
def dataset_convert(request: ApiRequest, dataset_id: str, payload: Convert) -> Any:
    """Turn the rows into another format, as a new dataset. A worker does it, as after an upload."""
    dataset = selectors.dataset_get(request.actor, dataset_id, Role.MEMBER)
    version = selectors.version_with_rows(dataset, payload.version)
    made = services.dataset_convert(actor=request.actor, version=version, to=payload.to, name=payload.name)
    return Status(201, created(made.dataset))


def _team(actor: Actor, ref: str, role: Role = Role.MEMBER) -> Team:
    if not ref:
        return actor.current_team
    for membership in actor.memberships:
        if ref in (str(membership.team_id), membership.team.slug):
            actor.require(membership.team_id, role, "team")
            return membership.team
    raise Invalid("There is no such team.", fields={"team": ["names no team of yours"]})


def _refuse_unknown_fields(request: HttpRequest) -> None:
    """A field that is spelled wrong must not pass for one left out."""
    if unknown := set(request.POST) - set(DatasetForm.model_fields):
        known = ", ".join(DatasetForm.model_fields)
        raise Invalid(
            "Some fields are not known.", fields={name[:100]: [f"must be one of {known}"] for name in sorted(unknown)}
        )


def _on_disk(file: UploadedFile) -> Path:
    """Where the upload handler has written the file."""
    if not isinstance(file, TemporaryUploadedFile):
        raise TypeError("uploads are expected on disk: see FILE_UPLOAD_HANDLERS")
    return Path(file.temporary_file_path())


def created(dataset: Dataset) -> dict[str, Any]:
    version = selectors.version_get(dataset)
    return {"id": dataset.pk, "status": version.status, "version": version.number}


def _summary(entry: selectors.DatasetEntry) -> dict[str, Any]:
    dataset, latest = entry.dataset, entry.latest
    return {
        "id": dataset.pk,
        "team": dataset.team_id,
        "name": dataset.name,
        "description": dataset.description,
        "origin": dataset.origin,
        "origin_model": dataset.origin_model,
        "status": latest.status,
        "version": latest.number,
        "format": latest.format or latest.requested_format,
        "rows": latest.rows,
        "bytes": latest.bytes,
        "filename": latest.filename,
        "source_bytes": latest.source_bytes,
        "runs": entry.runs,
        "eval_runs": entry.eval_runs,
        "created_at": dataset.created_at,
        "created_by": dataset.created_by.username if dataset.created_by else None,
    }


def _fault_of_the_file(report: PrepareReport) -> list[Problem]:
    """What is wrong with a file as a whole, where no row is at fault: an invalid dataset has a problem to show."""
    if report.error is None:
        return []
    error = Failure.model_validate(report.error)
    return [Problem(rule=error.code, message=error.message, remedy=error.advice)]


def _detail(dataset: Dataset) -> dict[str, Any]:
    entry = selectors.dataset_entry(dataset)
    # The status and what was found belong together: a worker may finish between two looks.
    version = selectors.version_get(dataset, entry.latest.number)
    entry = replace(entry, latest=version)
    report = selectors.report_of(version)
    found = {}
    if report is not None:
        found = report.model_dump(exclude={"status", "format", "rows_used", "bytes", "sha256"})
        found["problems"] = found["problems"] or _fault_of_the_file(report)
    return {
        **_summary(entry),
        **found,
        "progress": version.progress,
        "sha256": version.sha256,
        "versions": selectors.versions(dataset),
        "derivation": version.derivation,
        "made_from": _made_from(version.made_from),
    }


def _made_from(version: DatasetVersion | None) -> dict[str, Any] | None:
    if version is None:
        return None
    return {"dataset": version.dataset_id, "name": version.dataset.name, "version": version.number}
