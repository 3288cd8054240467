"""Saved views of the list of runs: a person's own, and those of the team."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.errors import Conflict, Forbidden, Invalid
from webapp.runs.models import DefaultRunView, RunView
from webapp.runs.query.syntax import parse

MAX_VIEWS = 100
MAX_COLUMNS = 30
MAX_COLUMN_NAME = 250
FILTERS = ("status", "method", "tag", "project")


@dataclass(frozen=True)
class ViewState:
    """What a view shows. Columns and order are as addresses of the list have them."""

    query: str = ""
    filters: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()
    sort: str = ""

    @classmethod
    def of(cls, view: RunView) -> "ViewState":
        return cls(view.query, view.filters, tuple(view.columns), view.sort)


def views_visible(actor: Actor) -> QuerySet[RunView]:
    """The person's own views and their current team's, by name."""
    visible = RunView.objects.filter(team=actor.current_team).filter(Q(shared=True) | Q(owner=actor.user))
    return with_default(visible, actor).order_by("name", "pk")


def with_default(views: QuerySet[RunView], actor: Actor) -> QuerySet[RunView]:
    """The views with `is_default`, which marks the one that the person's list begins with."""
    chosen = DefaultRunView.objects.filter(view=OuterRef("pk"), user=actor.user)
    return views.annotate(is_default=Exists(chosen)).select_related("owner")


def view_get(actor: Actor, pk: Any) -> RunView:
    """The view, if it is the person's own or one of a team of theirs. Raises NotFound."""
    return actor.get(RunView.objects.filter(Q(shared=True) | Q(owner=actor.user)), pk)


def may_change(actor: Actor, view: RunView) -> bool:
    """One's own, while it is nobody else's concern; a team's as a member who made it, or as an admin."""
    if view.owner_id == actor.user.pk:
        return actor.holds(Role.MEMBER if view.shared else Role.VIEWER, view.team_id)
    return view.shared and actor.holds(Role.ADMIN, view.team_id)


def view_create(*, actor: Actor, name: str, state: ViewState, shared: bool = False) -> RunView:
    """Keep a view under a name in the current team. To share one takes a member."""
    team = actor.current_team
    actor.require(team.pk, Role.MEMBER if shared else Role.VIEWER, "team")
    kept = RunView.objects.filter(team=team, shared=shared)
    if (kept if shared else kept.filter(owner=actor.user)).count() >= MAX_VIEWS:
        raise Conflict(f"There are {MAX_VIEWS} views already.", advice="Delete one that is not used any more.")
    view = RunView(team=team, owner=actor.user, shared=shared)
    return _save(actor, view, "view.create", name=name, state=state)


def view_update(
    *,
    actor: Actor,
    view: RunView,
    name: str | None = None,
    state: ViewState | None = None,
    shared: bool | None = None,
) -> RunView:
    """Rename a view, have it show something else, or share it. What is not given stays."""
    _require(actor, view)
    if shared is not None and shared != view.shared:
        actor.require(view.team_id, Role.MEMBER, "view")
        if view.owner_id != actor.user.pk:
            raise Forbidden("The view is somebody else's.", advice="They alone can take it back from the team.")
        view.shared = shared
        if not shared:
            DefaultRunView.objects.filter(view=view).exclude(user=actor.user).delete()
    return _save(actor, view, "view.update", name=name, state=state)


def view_delete(*, actor: Actor, view: RunView) -> None:
    """Delete a view; lists that began with it begin with all runs again."""
    _require(actor, view)
    with transaction.atomic():
        audit(actor=actor, team_id=view.team_id, verb="view.delete", target=view, detail={"name": view.name})
        view.delete()


def view_set_default(*, actor: Actor, view: RunView, default: bool = True) -> None:
    """Have the person's list of runs begin with a view they can see, or no longer."""
    actor.require(view.team_id, Role.VIEWER, "view")
    if default:
        DefaultRunView.objects.update_or_create(team=view.team, user=actor.user, defaults={"view": view})
    else:
        DefaultRunView.objects.filter(view=view, user=actor.user).delete()


def _require(actor: Actor, view: RunView) -> None:
    actor.require(view.team_id, Role.VIEWER, "view")
    if not may_change(actor, view):
        raise Forbidden("The view is not yours to change.", advice="Its owner, or an admin of the team, can.")


def _save(actor: Actor, view: RunView, verb: str, *, name: str | None, state: ViewState | None) -> RunView:
    if name is not None:
        view.name = name.strip()
        if not 0 < len(view.name) <= 100:
            raise Invalid("The name is not accepted.", fields={"name": ["must have 1 to 100 characters"]})
    if state is not None:
        _show(view, state)
    try:
        with transaction.atomic():
            view.save()
            audit(actor=actor, team_id=view.team_id, verb=verb, target=view)
    except IntegrityError:
        whose = "The team has" if view.shared else "You have"
        raise Conflict(f"{whose} a view of the name {view.name} already.", advice="Choose another name.") from None
    return view


def _show(view: RunView, state: ViewState) -> None:
    parse(state.query)  # what cannot be read is not kept
    problems = {}
    if unknown := set(state.filters) - set(FILTERS):
        problems["filters"] = [f"{', '.join(sorted(unknown))}: must be one of {', '.join(FILTERS)}"]
    if any(len(value) > 200 for value in state.filters.values()):
        problems["filters"] = ["must have at most 200 characters each"]
    if len(state.columns) > MAX_COLUMNS or any(not 0 < len(name) <= MAX_COLUMN_NAME for name in state.columns):
        problems["columns"] = [f"at most {MAX_COLUMNS} names of at most {MAX_COLUMN_NAME} characters"]
    if len(state.sort) > MAX_COLUMN_NAME:
        problems["sort"] = [f"at most {MAX_COLUMN_NAME} characters"]
    if problems:
        raise Invalid("The view is not accepted.", fields=problems)
    view.query = state.query.strip()
    view.filters = {name: value.strip() for name, value in state.filters.items() if value.strip()}
    view.columns, view.sort = list(dict.fromkeys(state.columns)), state.sort
