"""Reports, and links to reports and comparisons, over REST."""

import uuid
from datetime import datetime
from typing import Any

from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.reports import links, selectors, services
from webapp.reports.models import Report, ReportVersion, ViewLink
from webapp.reports.rules import MAX_RUNS

router = Router(tags=["reports"])


class Body(Schema):
    model_config = ConfigDict(extra="forbid")


class ReportIn(Body):
    """`project` is an id or a name; a new name makes a new project."""

    project: str = ""
    title: str
    body: str = ""


class ReportPatch(Body):
    """What changes; `version` is the one that the text was read at."""

    version: int = Field(ge=1)
    title: str | None = None
    body: str | None = None


class RestoreIn(Body):
    version: int = Field(ge=1)


class ReportOut(Schema):
    id: uuid.UUID
    project: uuid.UUID = Field(alias="project_id")
    title: str
    version: int = Field(alias="number")
    created_at: datetime
    updated_at: datetime


class ReportText(ReportOut):
    body: str


class ReportsOut(Schema):
    items: list[ReportOut]
    next_cursor: str | None


class VersionOut(Schema):
    version: int = Field(alias="number")
    title: str
    created_at: datetime


class VersionsOut(Schema):
    items: list[VersionOut]
    next_cursor: str | None


class LinkIn(Body):
    """A report, or the runs of a comparison with what its address says besides them (`x=epoch&logy=1`)."""

    report: str | None = None
    runs: list[uuid.UUID] = Field([], max_length=MAX_RUNS)
    title: str = ""
    group: str = ""
    view: str = ""
    expires_at: datetime | None = None


class LinkOut(Schema):
    id: uuid.UUID
    url: str
    title: str
    report: uuid.UUID | None = Field(alias="report_id")
    runs: list[uuid.UUID]
    group: str
    expires_at: datetime
    created_at: datetime


class LinksOut(Schema):
    items: list[LinkOut]
    next_cursor: str | None


@router.post("/reports", response={201: ReportText})
def report_create(request: StudioRequest, payload: ReportIn) -> Status[Report]:
    """Write a report: markdown with live blocks."""
    return Status(201, _text(services.report_begin(actor=request.actor, **payload.model_dump())))


@router.get("/reports", response=ReportsOut)
def reports(request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The reports of your teams, newest first."""
    items, next_cursor = page(selectors.reports_visible(request.actor), limit, cursor)
    return {"items": items, "next_cursor": next_cursor}


@router.get("/reports/{report_id}", response=ReportText)
def report(request: StudioRequest, report_id: str, version: int | None = None) -> Report:
    """One report with its text, or as it was at a `version`."""
    return _text(selectors.report_get(request.actor, report_id), version)


@router.patch("/reports/{report_id}", response=ReportText)
def report_update(request: StudioRequest, report_id: str, payload: ReportPatch) -> Report:
    """Save a report; 409 when somebody has saved another version since `version`."""
    found = selectors.report_get(request.actor, report_id, Role.MEMBER)
    services.report_save(
        actor=request.actor, report=found, base=payload.version, title=payload.title, body=payload.body
    )
    return _text(selectors.report_get(request.actor, report_id))


@router.delete("/reports/{report_id}", response={204: None})
def report_delete(request: StudioRequest, report_id: str) -> Status[None]:
    """Delete a report with its history and the links to it."""
    found = selectors.report_get(request.actor, report_id, Role.MEMBER)
    services.report_delete(actor=request.actor, report=found)
    return Status(204, None)


@router.get("/reports/{report_id}/versions", response=VersionsOut)
def report_versions(
    request: StudioRequest, report_id: str, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
) -> dict[str, Any]:
    """The versions of a report, newest first; none is ever changed."""
    found = selectors.report_get(request.actor, report_id)
    items, next_cursor = page(selectors.versions_of(found), limit, cursor)
    return {"items": items, "next_cursor": next_cursor}


@router.post("/reports/{report_id}/restore", response=ReportText)
def report_restore(request: StudioRequest, report_id: str, payload: RestoreIn) -> Report:
    """Make an old version the newest again."""
    found = selectors.report_get(request.actor, report_id, Role.MEMBER)
    services.report_restore(actor=request.actor, report=found, number=payload.version)
    return _text(selectors.report_get(request.actor, report_id))


@router.post("/view-links", response={201: LinkOut})
def link_create(request: StudioRequest, payload: LinkIn) -> Status[ViewLink]:
    """Show a report or a comparison to whoever has the link, for 7 days unless told otherwise."""
    actor = request.actor
    actor.require(actor.current_team.pk, Role.VIEWER, "team")
    found = selectors.report_get(actor, payload.report, Role.MEMBER) if payload.report else None
    made = links.link_create(actor=actor, report=found, **payload.model_dump(exclude={"report"}))
    return Status(201, _with_url(request, made))


@router.get("/view-links", response=LinksOut)
def view_links(request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The open links of the teams in which you may make some, newest first."""
    items, next_cursor = page(links.links_visible(request.actor), limit, cursor)
    return {"items": [_with_url(request, one) for one in items], "next_cursor": next_cursor}


@router.delete("/view-links/{link_id}", response={204: None})
def link_revoke(request: StudioRequest, link_id: str) -> Status[None]:
    """End a link at once."""
    links.link_revoke(actor=request.actor, link=request.actor.get(ViewLink, link_id, Role.MEMBER))
    return Status(204, None)


def _text(report: Report, version: int | None = None) -> Report:
    """With the text of a version, which the answer takes for the report's own."""
    found: ReportVersion = selectors.version_of(report, version)
    report.title, report.number = found.title, found.number
    report.body = found.body  # type: ignore[attr-defined]
    return report


def _with_url(request: StudioRequest, link: ViewLink) -> ViewLink:
    link.url = links.link_url(request, link)  # type: ignore[attr-defined]
    return link
