"""Projects over REST."""

import datetime
import uuid
from typing import Any, Literal

from ninja import Router, Schema
from pydantic import ConfigDict, Field

from webapp.accounts.models import Role
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.runs.api import ActorRequest
from webapp.runs.models import Project
from webapp.runs.projects import Retention, project_update

router = Router(tags=["projects"])


class RetentionBody(Schema):
    """Which checkpoints of each run are kept; `keep_last` null keeps all."""

    model_config = ConfigDict(extra="forbid")
    keep_last: int | None = Field(None, ge=1, le=10_000)
    best_metric: str = Field("", max_length=200)
    best_mode: Literal["min", "max"] = "min"


class ProjectUpdateIn(Schema):
    model_config = ConfigDict(extra="forbid")
    name: str | None = None
    retention: RetentionBody | None = None


class ProjectOut(Schema):
    id: uuid.UUID
    team: uuid.UUID
    name: str
    retention: RetentionBody
    created_at: datetime.datetime


class ProjectsOut(Schema):
    items: list[ProjectOut]
    next_cursor: str | None


@router.get("/projects", response=ProjectsOut)
def projects(request: ActorRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The projects of the caller's teams, newest first."""
    found = Project.objects.filter(team__in=request.actor.team_ids())
    items, next_cursor = page(found, limit, cursor)
    return {"items": [_project(project) for project in items], "next_cursor": next_cursor}


@router.get("/projects/{project_id}", response=ProjectOut)
def project(request: ActorRequest, project_id: str) -> dict[str, Any]:
    """One project."""
    return _project(request.actor.get(Project, project_id))


@router.patch("/projects/{project_id}", response=ProjectOut)
def project_change(request: ActorRequest, project_id: str, payload: ProjectUpdateIn) -> dict[str, Any]:
    """Rename the project, or change which checkpoints it keeps. Admins only: what is not kept is deleted."""
    found = request.actor.get(Project, project_id, Role.ADMIN)
    retention = Retention(**payload.retention.dict()) if payload.retention is not None else None
    return _project(project_update(actor=request.actor, project=found, name=payload.name, retention=retention))


def _project(project: Project) -> dict[str, Any]:
    return {
        "id": project.pk,
        "team": project.team_id,
        "name": project.name,
        "retention": {
            "keep_last": project.keep_last,
            "best_metric": project.keep_best_metric,
            "best_mode": project.keep_best_mode,
        },
        "created_at": project.created_at,
    }
