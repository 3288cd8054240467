"""Saved views of the list of runs over REST."""

import uuid
from typing import Any

from ninja import Field, Router, Schema, Status

from webapp.pagination import DEFAULT_LIMIT, Limit, page
from webapp.runs import run_views
from webapp.runs.api import ActorRequest, Body
from webapp.runs.models import RunView
from webapp.runs.run_views import ViewState

router = Router(tags=["runs"])


class ViewIn(Body):
    """`columns` and `sort` are as in the address of the list: `config.beta`, `loss.min`, `-created`."""

    name: str
    shared: bool = False
    query: str = ""
    filters: dict[str, str] = Field(default_factory=dict)
    columns: list[str] = Field(default_factory=list)
    sort: str = ""


class ViewUpdateIn(Body):
    name: str | None = None
    shared: bool | None = None
    query: str | None = None
    filters: dict[str, str] | None = None
    columns: list[str] | None = None
    sort: str | None = None
    default: bool | None = None


class ViewOut(Schema):
    id: uuid.UUID
    name: str
    shared: bool
    owner: str | None
    default: bool
    query: str
    filters: dict[str, str]
    columns: list[str]
    sort: str


class ViewsOut(Schema):
    items: list[ViewOut]
    next_cursor: str | None


@router.get("/run-views", response=ViewsOut)
def run_views_list(request: ActorRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The caller's own views of the list of runs and those of their team, newest first."""
    items, next_cursor = page(run_views.views_visible(request.actor), limit, cursor)
    return {"items": [_view(view) for view in items], "next_cursor": next_cursor}


@router.post("/run-views", response={201: ViewOut})
def run_view_create(request: ActorRequest, payload: ViewIn) -> Status[dict[str, Any]]:
    """Keep a view under a name; `shared` shows it to the whole team."""
    state = ViewState(payload.query, payload.filters, payload.columns, payload.sort)
    made = run_views.view_create(actor=request.actor, name=payload.name, state=state, shared=payload.shared)
    return Status(201, _fresh(request, made))


@router.patch("/run-views/{view_id}", response=ViewOut)
def run_view_update(request: ActorRequest, view_id: str, payload: ViewUpdateIn) -> dict[str, Any]:
    """Change a view; `default` says whether the caller's own list begins with it."""
    view = run_views.view_get(request.actor, view_id)
    given = payload.dict(exclude_unset=True)
    default = given.pop("default", None)
    if given:
        shown = {name: given[name] for name in ("query", "filters", "columns", "sort") if given.get(name) is not None}
        state = ViewState(**{**vars(ViewState.of(view)), **shown}) if shown else None
        name, shared = given.get("name"), given.get("shared")
        run_views.view_update(actor=request.actor, view=view, name=name, state=state, shared=shared)
    if default is not None:
        run_views.view_set_default(actor=request.actor, view=view, default=default)
    return _fresh(request, view)


@router.delete("/run-views/{view_id}", response={204: None})
def run_view_delete(request: ActorRequest, view_id: str) -> Status[None]:
    """Delete a view."""
    run_views.view_delete(actor=request.actor, view=run_views.view_get(request.actor, view_id))
    return Status(204, None)


def _fresh(request: ActorRequest, view: RunView) -> dict[str, Any]:
    return _view(run_views.with_default(RunView.objects.filter(pk=view.pk), request.actor).get())


def _view(view: Any) -> dict[str, Any]:
    return {
        "id": view.pk,
        "name": view.name,
        "shared": view.shared,
        "owner": view.owner.username if view.owner else None,
        "default": view.is_default,
        "query": view.query,
        "filters": view.filters,
        "columns": view.columns,
        "sort": view.sort,
    }
