"""What there is to know about people and teams."""

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from webapp.accounts import crypto
from webapp.accounts.models import ApiToken, AuditEvent, Invitation, Membership, Role, Team, TeamSecret, User
from webapp.errors import NotFound
from webapp.pagination import DEFAULT_LIMIT, page

MAX_MEMBERS = 500
MAX_ROWS = 100
LAST_USED_GRAIN = timedelta(minutes=1)


def user_for_token(token: str) -> User | None:
    """The user of a bearer token that is neither revoked nor expired and whose user is active.

    Every token costs one look-up by digest, whether it exists or not. Notes when a token was used, to the minute.
    """
    found = ApiToken.objects.select_related("user").filter(token_hash=crypto.digest(token)).first()
    now = timezone.now()
    if found is None or found.revoked_at is not None or not found.user.is_active:
        return None
    if found.expires_at is not None and found.expires_at <= now:
        return None
    if found.last_used_at is None or found.last_used_at < now - LAST_USED_GRAIN:
        ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
    return found.user


def active_user(username: str) -> User:
    """The active user of that name, however it is capitalised. Raises NotFound."""
    user = User.objects.filter(username=username.strip().lower(), is_active=True).first()
    if user is None:
        raise NotFound(
            f"There is no active user {username}.",
            advice="`manage.py api_token <username> --create-admin` makes one, an admin of the starter team.",
        )
    return user


def first_admin() -> User | None:
    """The admin who has been there longest."""
    admins = Membership.objects.filter(role=Role.ADMIN, user__is_active=True).select_related("user")
    first = admins.order_by("user__created_at").first()
    return first.user if first else None


def members(team: Team) -> list[Membership]:
    """The team's members by name."""
    return list(team.memberships.select_related("user").order_by("user__username")[:MAX_MEMBERS])


def open_invitations(team: Team) -> list[Invitation]:
    """Invitations that somebody could still accept, newest first."""
    return list(Invitation.objects.open().filter(team=team).select_related("created_by").order_by("-pk")[:MAX_ROWS])


def open_invitation(token: str, *, lock: bool = False) -> Invitation:
    """The invitation behind a link, on request locked until the transaction ends. Raises NotFound."""
    found = Invitation.objects.open().select_related("team", "created_by").filter(token_hash=crypto.digest(token))
    invitation = (found.select_for_update(of=("self",)) if lock else found).first()
    if invitation is None:
        raise NotFound(
            "This invitation was used or revoked, or is too old.", advice="Ask an admin of the team for a new one."
        )
    return invitation


def user_tokens(user: User) -> list[ApiToken]:
    """A person's tokens that are not revoked, newest first."""
    return list(_live_tokens().filter(user=user).order_by("-pk")[:MAX_ROWS])


def team_tokens(team: Team) -> list[ApiToken]:
    """The tokens that reach into the team: those of its members, newest first."""
    tokens = _live_tokens().filter(user__memberships__team=team)
    return list(tokens.select_related("user").order_by("-pk")[:MAX_ROWS])


def secret_set_at(team: Team, name: str) -> datetime | None:
    """When the team's secret was entered; None when there is none."""
    return TeamSecret.objects.filter(team=team, name=name).values_list("updated_at", flat=True).first()


def audit_page(
    team: Team, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> tuple[list[AuditEvent], str | None]:
    """What happened in the team, and what its members did to their own accounts, newest first."""
    people = Membership.objects.filter(team=team).values("user")
    events = AuditEvent.objects.filter(Q(team=team) | Q(team=None, actor__in=people))
    return page(events.select_related("actor"), limit, cursor)


def _live_tokens() -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(revoked_at=None)
