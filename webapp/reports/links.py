"""Showing a report or a comparison to people outside, by a signed link that ends and can be revoked."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import parse_qsl, urlencode

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.errors import Conflict, Invalid, NotFound
from webapp.metrics.groups import group_runs
from webapp.registry.links import signed, unsigned
from webapp.registry.shares import LINK_LIFETIME, check_end
from webapp.reports.models import Report, ViewLink
from webapp.reports.rules import MAX_RUNS, clean_title
from webapp.runs.models import Run

MAX_LINKS = 500
MAX_VIEW = 5000
MAX_GROUP = 250
LISTED = 50
_SALT = "webapp.reports.link"
# What of a comparison's address is part of its link: how it is drawn. What is drawn, the link's row says.
SHOWN_BY_ADDRESS = ("x", "smoothing", "weighting", "logx", "logy", "outliers", "band", "hide", "zoom")


def link_create(
    *,
    actor: Actor,
    report: Report | None = None,
    runs: Sequence[uuid.UUID] = (),
    title: str = "",
    group: str = "",
    view: str = "",
    expires_at: datetime | None = None,
) -> ViewLink:
    """A link to a report, or to a comparison of runs of one team; it ends after 7 days unless told otherwise.

    `view` is the query of the comparison's address. Raises Invalid, NotFound or Forbidden, Conflict for too many.
    """
    check_end(expires_at)
    if (report is None) == (not runs):
        raise Invalid("Say what to share.", fields={"report": ["Give either a report or runs."]})
    team = report.team_id if report is not None else _team_of(actor, runs, group)
    actor.require(team, Role.MEMBER, "report" if report is not None else "run")
    view = shown_by_address(view)
    if len(group) > MAX_GROUP or len(view) > MAX_VIEW:
        raise Invalid("The view is too long to be shared.", fields={"view": [f"at most {MAX_VIEW} characters"]})
    if ViewLink.objects.active().filter(team=team).count() >= MAX_LINKS:
        raise Conflict(f"There are {MAX_LINKS} open links already.", advice="Revoke some that are not needed.")
    with transaction.atomic():
        link = ViewLink.objects.create(
            team_id=team,
            report=report,
            runs=list(dict.fromkeys(runs)),
            title=clean_title(title) if title.strip() else "",
            group=group,
            view=view,
            expires_at=expires_at or timezone.now() + LINK_LIFETIME,
            created_by=actor.user,
        )
        audit(
            actor=actor,
            team_id=team,
            verb="link.create",
            target=link,
            detail={
                "report": str(report.pk) if report is not None else None,
                "runs": [str(pk) for pk in link.runs],
                "expires_at": link.expires_at.isoformat(),
            },
        )
    return link


def link_revoke(*, actor: Actor, link: ViewLink) -> None:
    """End a link at once; one that has ended already stays so."""
    actor.require(link.team_id, Role.MEMBER, "link")
    with transaction.atomic():
        if ViewLink.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit(actor=actor, team_id=link.team_id, verb="link.revoke", target=link)


def links_visible(actor: Actor) -> QuerySet[ViewLink]:
    """The links of the actor's teams that still open something, newest first: for those who may revoke them."""
    teams = actor.team_ids(Role.MEMBER)
    return ViewLink.objects.active().filter(team__in=teams).select_related("report", "created_by").order_by("-pk")


def links_to(shown: Report | Sequence[Run]) -> QuerySet[ViewLink]:
    """The open links to a report, or to a comparison of just these runs in this order, newest first."""
    if isinstance(shown, Report):
        found = ViewLink.objects.filter(report=shown)
    else:
        found = ViewLink.objects.filter(team=shown[0].team_id, runs=[run.pk for run in shown])
    return found.active().select_related("created_by").order_by("-pk")[:LISTED]


def link_for_token(token: str) -> ViewLink:
    """The link that this token opens. Raises NotFound when it is forged, revoked or has ended."""
    pk = unsigned(token, _SALT)
    query = ViewLink.objects.active().select_related("team", "report__project")
    found = query.filter(pk=pk).first() if pk else None
    if found is None:
        raise NotFound("This link does not open anything.", advice="It was revoked, has ended, or is incomplete.")
    return found


def link_url(request: HttpRequest, link: ViewLink) -> str:
    """The address that a link opens, with how its charts are drawn."""
    address = reverse("shared-view", args=[signed(link.pk, _SALT)])
    return request.build_absolute_uri(f"{address}?{link.view}" if link.view else address)


def shown_by_address(query: str) -> str:
    """The part of a comparison's address that says how it is drawn."""
    return urlencode([(name, value) for name, value in parse_qsl(query) if name in SHOWN_BY_ADDRESS])


def _team_of(actor: Actor, runs: Sequence[uuid.UUID], group: str) -> uuid.UUID:
    """Whose the runs are, all of them the actor's to see and of one team."""
    if len(set(runs)) > MAX_RUNS:
        raise Invalid("Too many runs.", fields={"runs": [f"at most {MAX_RUNS}"]})
    query = Run.objects.select_related("model", "dataset_version__dataset").filter(team__in=actor.team_ids())
    found = query.in_bulk(list(runs))
    if len(found) < len(set(runs)):
        raise NotFound("There is no such run.")
    teams = {run.team_id for run in found.values()}
    if len(teams) > 1:
        raise Invalid("The runs are of several teams.", fields={"runs": ["Share those of one team at a time."]})
    if group:
        group_runs(list(found.values()), group)
    return teams.pop()
