"""Who may do what. Pages, API and services ask here and nowhere else.

Every view says who may call it, with one of the decorators below; the middleware refuses a view that says nothing.
A view's role is the coarse gate ("holds this role in some team"); each object is then checked against its own team,
through `Actor.get` or `Actor.require`.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from webapp.accounts.models import Membership, Role, Team, User
from webapp.errors import Forbidden, NotFound

View = TypeVar("View", bound=Callable[..., Any])
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Access:
    """What a view asks of its caller: nothing (`role` is None and `public`), a session, or a role in some team."""

    role: Role | None = None
    public: bool = False


PUBLIC = Access(public=True)
SIGNED_IN = Access()


def public(view: View) -> View:
    """Anyone may call this view."""
    view.access = PUBLIC  # type: ignore[attr-defined]
    return view


def signed_in(view: View) -> View:
    """Anyone with an account may call this view, with or without a team."""
    view.access = SIGNED_IN  # type: ignore[attr-defined]
    return view


def requires(role: Role) -> Callable[[View], View]:
    """Only people who hold at least `role` in some team may call this view."""

    def mark(view: View) -> View:
        view.access = Access(role=role)  # type: ignore[attr-defined]
        return view

    return mark


class Actor:
    """A person with their roles: the first argument of every service and selector that guards something."""

    def __init__(self, user: User, current_team: uuid.UUID | None = None) -> None:
        self.user = user
        self._wanted_team = current_team

    @cached_property
    def memberships(self) -> list[Membership]:
        return list(self.user.memberships.select_related("team").order_by("team__created_at"))

    @cached_property
    def roles(self) -> dict[uuid.UUID, Role]:
        return {m.team_id: Role(m.role) for m in self.memberships}

    @cached_property
    def team(self) -> Team | None:
        """The team whose things the pages show: the one chosen, else the first joined."""
        teams = {m.team_id: m.team for m in self.memberships}
        if self._wanted_team in teams:
            return teams[self._wanted_team]
        return next(iter(teams.values()), None)

    @property
    def current_team(self) -> Team:
        """As `team`, for callers that cannot go on without one."""
        if self.team is None:
            raise Forbidden("You are not a member of any team.", advice="Ask a team's admin for an invitation.")
        return self.team

    def team_ids(self, at_least: Role = Role.VIEWER) -> list[uuid.UUID]:
        """The teams in which this person holds at least that role."""
        return [team for team, role in self.roles.items() if role.includes(at_least)]

    def holds(self, role: Role, team_id: uuid.UUID | None = None) -> bool:
        """Whether the person holds at least `role` in that team, or in any when none is named."""
        if team_id is None:
            return bool(self.team_ids(role))
        return team_id in self.roles and self.roles[team_id].includes(role)

    @cached_property
    def runs_the_studio(self) -> bool:
        """Whether the person may act on what all teams share: an admin of the first team, which came with the studio.

        Anybody may found a team and is its admin; that makes nobody an admin of the machines.
        """
        first = Team.objects.order_by("pk").values_list("pk", flat=True).first()
        return self.holds(Role.ADMIN, first) if first is not None else False

    def require(self, team_id: uuid.UUID | None, role: Role, what: str = "this") -> None:
        """Raise NotFound for another team's things, Forbidden for too small a role."""
        if team_id not in self.roles:
            raise NotFound(f"There is no such {what}.")
        if not self.roles[team_id].includes(role):
            raise Forbidden(
                f"Your role in this team is {self.roles[team_id].label.lower()}.",
                advice=f"Ask an admin of the team for the role {role.label.lower()}.",
            )

    def get(self, query: type[M] | QuerySet[M], pk: Any, role: Role = Role.VIEWER, *, team: str = "team_id") -> M:
        """The object with that key, if it belongs to one of the person's teams and they hold `role` there.

        `team` names the path to the owning team (`"dataset__team_id"`). Raises NotFound (also for a malformed key)
        or Forbidden.
        """
        queryset = query if isinstance(query, QuerySet) else query._default_manager.all()
        what = queryset.model._meta.verbose_name
        try:
            key = pk if isinstance(pk, uuid.UUID) else uuid.UUID(str(pk))
        except ValueError:
            raise NotFound(f"There is no such {what}.") from None
        found = queryset.filter(pk=key, **{f"{team}__in": self.team_ids()}).first()
        if found is None:
            raise NotFound(f"There is no such {what}.")
        owner: Any = found
        for part in team.split("__"):
            owner = getattr(owner, part)
        self.require(owner, role, str(what))
        return found
