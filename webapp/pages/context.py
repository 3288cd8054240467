"""What the frame around every page shows. Nothing of it is read before a template asks for it."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team, User
from webapp.alerts.selectors import unseen_count
from webapp.runs.models import Project
from webapp.runs.selectors import projects

ONLINE_WITHIN = timedelta(minutes=5)
ONLINE_SHOWN = 5
PROJECTS_SHOWN = 50


@dataclass(frozen=True)
class NavEntry:
    """A line of the rail. `gap` sets it apart from the ones above."""

    label: str
    icon: str
    url: str
    current: bool
    gap: bool


# (URL name, label, icon, starts a group)
_NAV = (
    ("home", "Home", "house", False),
    ("runs", "Runs", "activity", False),
    ("sweeps", "Sweeps", "sliders-horizontal", False),
    ("compare", "Compare", "chart-spline", False),
    ("reports", "Reports", "notebook-text", False),
    ("leaderboard", "Leaderboard", "trophy", False),
    ("datasets", "Datasets", "database", True),
    ("models", "Models", "box", False),
    ("methods", "Methods", "flask-conical", False),
    ("playground", "Playground", "messages-square", False),
    ("queue", "Queue", "list-ordered", True),
    ("team", "Team", "users", False),
)


class Frame:
    """The rail and the top bar for one request."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self.actor: Actor | None = getattr(request, "actor", None)

    @cached_property
    def nav(self) -> list[NavEntry]:
        urls = [reverse(name) for name, *_ in _NAV]
        here = max((url for url in urls if self._is_under(url)), key=len, default="")
        return [
            NavEntry(label, icon, url, url == here, gap) for (_, label, icon, gap), url in zip(_NAV, urls, strict=True)
        ]

    def _is_under(self, url: str) -> bool:
        path = self._request.path
        return path == url if url == "/" else f"{path.rstrip('/')}/".startswith(f"{url.rstrip('/')}/")

    @property
    def team(self) -> Team | None:
        return self.actor.team if self.actor else None

    @cached_property
    def projects(self) -> list[Project]:
        return list(projects(self.actor)[:PROJECTS_SHOWN]) if self.actor and self.team else []

    @cached_property
    def project(self) -> Project | None:
        """The project chosen in the top bar; None shows all of the team's."""
        chosen = self._request.session.get("project")
        return next((project for project in self.projects if str(project.pk) == chosen), None)

    @cached_property
    def unseen_alerts(self) -> int:
        """How many alerts of the team nobody has seen; it counts up to a hundred."""
        return unseen_count(self.team) if self.team else 0

    @property
    def may_manage(self) -> bool:
        """Whether the reader may change the team's projects."""
        return self.actor is not None and self.team is not None and self.actor.holds(Role.ADMIN, self.team.pk)

    @cached_property
    def online(self) -> list[User]:
        """Others of the team who have just been here."""
        if self.actor is None or self.team is None:
            return []
        recent = self.team.members.filter(last_seen_at__gt=timezone.now() - ONLINE_WITHIN)
        return list(recent.exclude(pk=self.actor.user.pk).order_by("-last_seen_at")[:ONLINE_SHOWN])


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context processor: `frame` in every template."""
    return {"frame": Frame(request)}
