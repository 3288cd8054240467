"""Methods and runs over REST."""

import datetime
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field

from polm_core import catalogue
from polm_core.method import Method
from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.errors import NotFound
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.runs import queueing, selectors, services
from webapp.runs.config_files import config_yaml
from webapp.runs.models import Run, RunCheckpoint
from webapp.runs.projects import run_set_project

router = Router(tags=["runs"])

MAX_TAIL = 10_000

Tail = Annotated[int | None, Field(ge=1, description=f"how many lines from the end; at most {MAX_TAIL:,} are given")]
Place = Annotated[int, Field(ge=0, lt=2**53)]


class ActorRequest(HttpRequest):
    """A request that the API's authentication has let through."""

    actor: Actor


class Body(Schema):
    model_config = ConfigDict(extra="forbid")


class MethodOut(Schema):
    """Of a method that `makes_checkpoints` these are the result, of others the metrics."""

    slug: str
    paradigm: str | None
    branch: str
    title: str
    summary: str
    when: str
    paper: str
    formats: list[str]
    makes_checkpoints: bool
    teacher: str | None
    merges: bool
    takes_documents: bool
    config_schema: dict[str, Any]


class RunIn(Body):
    method: str
    model: str = "starter"
    dataset: str | None = None
    eval_dataset: str | None = None
    documents: str | None = None
    reward_model: str | None = None
    judge_model: str | None = None
    teacher_model: str | None = None
    merge_models: list[str] = Field(default_factory=list)
    reward_list: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)


class PreflightIn(RunIn):
    row: Place | None = Field(None, description="a training row to show as the model sees it, counted from 0")


class RunCreateIn(RunIn):
    project: str | None = None
    name: str = Field("", max_length=200)
    notes: str = Field("", max_length=20_000)
    hypothesis: str = ""
    priority: int = 0
    labels: list[str] = Field(default_factory=list)
    gpu_memory_gb: int = 0
    tags: list[str] = Field(default_factory=list)
    request_id: str = Field("", max_length=100)


class RunUpdateIn(Body):
    name: str | None = None
    notes: str | None = None
    tags: list[str] | None = None
    priority: int | None = None
    project: str | None = None
    hypothesis: str | None = None
    result: str | None = None
    verdict: str | None = None


class RunCloneIn(Body):
    name: str = Field("", max_length=200)
    config: dict[str, Any] = Field(default_factory=dict)


class RunCreated(Schema):
    id: uuid.UUID
    status: str


class RunOut(Schema):
    id: uuid.UUID
    name: str
    project: str
    method: str
    model: str
    dataset: uuid.UUID | None
    eval_dataset: uuid.UUID | None
    documents: uuid.UUID | None
    reward_model: uuid.UUID | None
    judge_model: uuid.UUID | None
    teacher_model: uuid.UUID | None
    reward_list: uuid.UUID | None
    status: str
    step: int
    total_steps: int
    eta_s: float | None
    stalled_since: datetime.datetime | None
    priority: int
    labels: list[str]
    gpu_memory_gb: int
    devices: list[str]
    tags: list[str]
    notes: str
    hypothesis: str
    result: str
    verdict: str
    error: dict[str, Any] | None
    worker: str | None
    parent: uuid.UUID | None
    created_by: str | None
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None


class RunDetailOut(RunOut):
    merge_models: list[uuid.UUID]
    config: dict[str, Any]
    code_version: str
    resumed_from: list[int]
    progress: dict[str, Any]
    summary: dict[str, dict[str, float | int | None]]


class RunsOut(Schema):
    items: list[RunOut]
    next_cursor: str | None


class MoveIn(Body):
    past: str
    place: Literal["ahead", "behind"] = "ahead"


@router.get("/methods", response=list[MethodOut], tags=["methods"])
def methods(request: ActorRequest) -> list[dict[str, Any]]:
    """The catalogue, with each method's settings as JSON Schema."""
    return [_method(method) for method in catalogue.METHODS]


@router.get("/evaluations", response=list[MethodOut], tags=["methods"])
def evaluations(request: ActorRequest) -> list[dict[str, Any]]:
    """What measures models, in the shape of methods and launched as these are; none trains anything."""
    return [_method(evaluation) for evaluation in catalogue.EVALUATIONS]


@router.get("/methods/{slug}", response=MethodOut, tags=["methods"])
def method(request: ActorRequest, slug: str) -> dict[str, Any]:
    """One method of the catalogue, or one of the evaluations."""
    found = catalogue.find(slug)
    if found is None:
        raise NotFound("There is no such method.", advice="GET /methods lists them.")
    return _method(found)


@router.post("/runs/preflight", response=dict[str, Any])
def run_preflight(request: ActorRequest, payload: PreflightIn) -> dict[str, Any]:
    """How the data looks to the method and what the run will need. Waits for a worker's answer."""
    return services.preflight_answer(actor=request.actor, **payload.dict())


@router.post("/runs", response={201: RunCreated})
def run_create(request: ActorRequest, payload: RunCreateIn) -> Status[Run]:
    """Queue a run. The same `request_id` twice gives the same run."""
    return Status(201, services.run_create(actor=request.actor, **payload.dict()))


@router.get("/runs", response=RunsOut)
def runs(
    request: ActorRequest,
    status: str = "",
    method: str = "",
    tag: str = "",
    project: str = "",
    q: str = "",
    limit: Limit = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Runs of the caller's teams, newest first; `q` is a query, as in the search of the list of runs."""
    found = selectors.runs_filter(
        selectors.runs_visible(request.actor), status=status, method=method, tag=tag, project=project, q=q
    )
    items, next_cursor = page(found, limit, cursor)
    return {"items": [_run(run) for run in items], "next_cursor": next_cursor}


@router.get("/runs/{run_id}", response=RunDetailOut)
def run(request: ActorRequest, run_id: str) -> dict[str, Any]:
    """One run with its settings and the totals of every metric."""
    found = selectors.run_get(request.actor, run_id)
    return {
        **_run(found),
        "merge_models": [one.model_id for one in found.merge_models.all()],
        "config": found.config,
        "code_version": found.code_version,
        "resumed_from": found.resumed_from,
        "progress": found.progress,
        "summary": {
            one["key"]: {name: one[name] for name in ("last", "min", "max", "count")}
            for one in found.series.order_by("key").values("key", "last", "min", "max", "count")
        },
    }


@router.patch("/runs/{run_id}", response=RunOut)
def run_update(request: ActorRequest, run_id: str, payload: RunUpdateIn) -> dict[str, Any]:
    """Change name, notes, tags, priority or the decision line, or move the run to another project, by id or name."""
    found = selectors.run_get(request.actor, run_id, Role.MEMBER)
    changes = payload.dict(exclude_unset=True)
    with transaction.atomic():
        if ref := changes.pop("project", None):
            project = services.project_for(actor=request.actor, team=found.team, ref=ref)
            found = run_set_project(actor=request.actor, run=found, project=project)
        return _run(services.run_update(actor=request.actor, run=found, **changes))


@router.delete("/runs/{run_id}", response={204: None})
def run_delete(request: ActorRequest, run_id: str) -> Status[None]:
    """Delete a run that is not being worked on."""
    services.run_delete(actor=request.actor, run=selectors.run_get(request.actor, run_id, Role.MEMBER))
    return Status(204, None)


@router.post("/runs/{run_id}/clone", response={201: RunCreated})
def run_clone(request: ActorRequest, run_id: str, payload: RunCloneIn | None = None) -> Status[Run]:
    """Queue a run like this one, with the given settings changed."""
    found = selectors.run_get(request.actor, run_id, Role.MEMBER)
    changes = payload or RunCloneIn(name="")
    return Status(201, services.run_clone(actor=request.actor, run=found, changes=changes.config, name=changes.name))


@router.post("/runs/{run_id}/stop", response=RunOut)
def run_stop(request: ActorRequest, run_id: str) -> dict[str, Any]:
    """End the run, keeping a final checkpoint."""
    return _act(request, run_id, services.run_stop)


@router.post("/runs/{run_id}/pause", response=RunOut)
def run_pause(request: ActorRequest, run_id: str) -> dict[str, Any]:
    """Checkpoint and make room."""
    return _act(request, run_id, services.run_pause)


@router.post("/runs/{run_id}/resume", response=RunOut)
def run_resume(request: ActorRequest, run_id: str) -> dict[str, Any]:
    """Go on from the last checkpoint."""
    return _act(request, run_id, services.run_resume)


@router.post("/runs/{run_id}/move", response=RunOut)
def run_move(request: ActorRequest, run_id: str, payload: MoveIn) -> dict[str, Any]:
    """Put a run that waits right ahead of another one, or right behind it: one's own; for admins, any of the team."""
    queueing.run_move(
        actor=request.actor,
        run=selectors.run_get(request.actor, run_id, Role.MEMBER),
        past=selectors.run_get(request.actor, payload.past, Role.MEMBER),
        ahead=payload.place == "ahead",
    )
    return _run(selectors.run_get(request.actor, run_id))


def _act(request: ActorRequest, run_id: str, act: Callable[..., Run]) -> dict[str, Any]:
    act(actor=request.actor, run=selectors.run_get(request.actor, run_id, Role.MEMBER))
    return _run(selectors.run_get(request.actor, run_id))


@router.get("/runs/{run_id}/logs", response=dict[str, Any])
def run_logs(request: ActorRequest, run_id: str, tail: Tail = None, start: Place = 0) -> dict[str, Any]:
    """What the run printed: the last `tail` lines, or the text from byte `start`; `end` is where to go on."""
    found = selectors.run_get(request.actor, run_id)
    limit = None if tail is None else min(tail, MAX_TAIL)
    text, end = selectors.run_log(found, start=start, tail=limit)
    return {"text": text, "end": end}


@router.get("/runs/{run_id}/config.yaml", response=str)
def run_config(request: ActorRequest, run_id: str) -> HttpResponse:
    """The resolved settings, as `python -m polm_core run` takes them."""
    found = selectors.run_get(request.actor, run_id)
    return HttpResponse(config_yaml(found), content_type="application/yaml")


@router.get("/runs/{run_id}/checkpoints", response=dict[str, Any])
def run_checkpoints(request: ActorRequest, run_id: str) -> dict[str, Any]:
    """The run's stored checkpoints, newest first."""
    found = selectors.run_get(request.actor, run_id)
    links = RunCheckpoint.objects.filter(run=found).select_related("checkpoint").order_by("-step")[:500]
    return {
        "items": [
            {
                "id": link.checkpoint_id,
                "step": link.step,
                "kind": link.checkpoint.kind,
                "bytes": link.checkpoint.bytes,
                "sha256": link.checkpoint.sha256,
                "metrics": link.checkpoint.metrics,
                "created_at": link.checkpoint.created_at,
            }
            for link in links
        ],
        "removed_by_retention": list(found.removed_checkpoints.order_by("-step").values("step", "removed_at")[:500]),
        "next_cursor": None,
    }


def _method(method: Method) -> dict[str, Any]:
    return {
        "slug": method.slug,
        "paradigm": method.paradigm,
        "branch": method.branch,
        "title": method.title,
        "summary": method.summary,
        "when": method.when,
        "paper": method.paper.url,
        "formats": list(method.formats),
        "makes_checkpoints": method.makes_checkpoints,
        "teacher": method.teacher,
        "merges": method.merges,
        "takes_documents": method.takes_documents,
        "config_schema": method.config_schema(),
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.pk,
        "name": run.name,
        "project": run.project.name,
        "method": run.method,
        "model": str(run.model_id) if run.model.source != "starter" else "starter",
        "dataset": run.dataset_version.dataset_id if run.dataset_version else None,
        "eval_dataset": run.eval_dataset_version.dataset_id if run.eval_dataset_version else None,
        "documents": run.documents_version.dataset_id if run.documents_version else None,
        "reward_model": run.reward_model_id,
        "judge_model": run.judge_model_id,
        "teacher_model": run.teacher_model_id,
        "reward_list": run.reward_list_id,
        "status": run.status,
        "step": run.step,
        "total_steps": run.total_steps,
        "eta_s": selectors.eta_seconds(run),
        "stalled_since": selectors.stalled_since(run),
        "priority": run.priority,
        "labels": run.labels,
        "gpu_memory_gb": run.gpu_memory_gb,
        "devices": run.devices,
        "tags": run.tags,
        "notes": run.notes,
        "hypothesis": run.hypothesis,
        "result": run.result,
        "verdict": run.verdict,
        "error": run.error,
        "worker": run.worker.name if run.worker else None,
        "parent": run.parent_id,
        "created_by": run.created_by.username if run.created_by else None,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }
