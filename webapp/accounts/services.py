"""Everything that changes people, teams and their rights. Each deed writes its audit event in its own transaction."""

import math
import re
import secrets
import uuid
from datetime import timedelta
from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Min, Model
from django.utils import timezone
from django.utils.text import slugify

from webapp.accounts import crypto
from webapp.accounts.access import Actor
from webapp.accounts.models import (
    ApiToken,
    AuditEvent,
    Invitation,
    Membership,
    Role,
    SignInAttempt,
    SignInLink,
    Team,
    TeamSecret,
    User,
)
from webapp.accounts.selectors import open_invitation
from webapp.errors import Conflict, Forbidden, Invalid, NotFound

ATTEMPTS = 10
ATTEMPTS_WINDOW = timedelta(minutes=15)
SIGN_IN_LINK_LIFETIME = timedelta(hours=24)
INVITATION_LIFETIME = timedelta(days=7)
MAX_TOKENS = 50
TOKEN_PREFIX = "polm_"  # noqa: S105 - what a token begins with, so that scanners and people recognise one

HUB_TOKEN = "hub_token"  # noqa: S105 - the name of a secret
STARTER_TEAM = "Starter"
FIRST_ADMIN = "admin"


class TooManyAttempts(Forbidden):
    """Sign-in is closed for this name and address for a while."""

    code = "too_many_attempts"


def audit(
    *,
    actor: Actor | None,
    team_id: uuid.UUID | None,
    verb: str,
    target: Model | None = None,
    detail: dict[str, Any] | None = None,
) -> AuditEvent:
    """Record who did what, in the transaction of the deed. Call it before a deletion: afterwards `target` has no key.

    `actor` is None for what the studio does by itself, `team_id` for what concerns a person and no team.
    `verb` reads `<noun>.<verb>`; `detail` must hold no secrets.
    """
    return AuditEvent.objects.create(
        actor=actor.user if actor else None,
        team_id=team_id,
        verb=verb,
        target=str(target._meta.verbose_name) if target else "",
        target_id=str(target.pk) if target else "",
        detail=detail or {},
    )


# --- people -----------------------------------------------------------------------------------------------------------


def user_create(*, username: str, password: str | None = None, full_name: str = "", email: str = "") -> User:
    """A new account; without a password it can be entered through a sign-in link only. Raises Invalid."""
    user = User(username=username.strip().lower(), full_name=full_name.strip(), email=email)
    _check(user, exclude=["password"])
    if password is not None:
        _check_password(user, password)
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError:
        raise Invalid(
            "This username is taken.", fields={"username": ["Somebody has this name. Choose another."]}
        ) from None
    return user


def user_rename(*, actor: Actor, full_name: str, email: str | None = None) -> User:
    """Set the name that others see, and the address that alerts are mailed to where one is given. Raises Invalid."""
    user = actor.user
    user.full_name = full_name.strip()
    if email is not None:
        user.email = email.strip()
    _check(user, exclude=["password", "username"])
    user.save(update_fields=["full_name", "email"])
    return user


@transaction.atomic
def password_set(*, actor: Actor, password: str) -> User:
    """Set one's own password; every other session of the person ends. Raises Invalid for a weak one."""
    _check_password(actor.user, password)
    actor.user.set_password(password)
    actor.user.save(update_fields=["password"])
    audit(actor=actor, team_id=None, verb="password.set", target=actor.user)
    return actor.user


def password_check(*, username: str, password: str, address: str) -> User:
    """The active user with that name and password.

    Raises Invalid when there is none, TooManyAttempts after ten failures from one address within 15 minutes. The
    attempt is on record before the password is looked at, so that parallel guesses count too.
    """
    now = timezone.now()
    SignInAttempt.objects.filter(at__lt=now - ATTEMPTS_WINDOW).delete()
    key = crypto.digest(f"{username.lower()}\0{address}")
    attempts = SignInAttempt.objects.filter(key=key)
    attempt = SignInAttempt.objects.create(key=key)
    if attempts.count() > ATTEMPTS:
        since = attempts.aggregate(since=Min("at"))["since"] or now
        attempt.delete()
        minutes = math.ceil((since + ATTEMPTS_WINDOW - now).total_seconds() / 60)
        raise TooManyAttempts(f"Too many failed attempts. Try again in {minutes} min.")
    user = authenticate(username=username, password=password)
    if not isinstance(user, User):
        raise Invalid("The username or the password is not right.")
    attempts.delete()
    return user


@transaction.atomic
def sign_in_link_create(*, user: User) -> str:
    """A token that signs `user` in once, within 24 hours, at `/welcome/<token>`."""
    token = crypto.new_token()
    SignInLink.objects.create(
        user=user, token_hash=crypto.digest(token), expires_at=timezone.now() + SIGN_IN_LINK_LIFETIME
    )
    audit(actor=None, team_id=None, verb="sign_in_link.create", target=user)
    return token


@transaction.atomic
def sign_in_link_use(*, token: str) -> User:
    """The user whom the link signs in; the link is spent. Raises NotFound."""
    now = timezone.now()
    links = SignInLink.objects.filter(token_hash=crypto.digest(token))
    spent = links.filter(used_at=None, expires_at__gt=now).update(used_at=now)
    user = User.objects.filter(sign_in_links__in=links, is_active=True).first() if spent else None
    if user is None:
        raise NotFound(
            "This link was used already, or is too old.", advice="`manage.py sign_in_link` prints a new one."
        )
    audit(actor=Actor(user), team_id=None, verb="sign_in_link.use", target=user)
    return user


# --- teams and their members ------------------------------------------------------------------------------------------


@transaction.atomic
def team_create(*, actor: Actor, name: str) -> Team:
    """A new team with its creator as admin. Raises Invalid."""
    team = Team(name=name.strip(), slug=_free_slug(name))
    _check(team)
    team.save()
    Membership.objects.create(team=team, user=actor.user, role=Role.ADMIN)
    audit(actor=actor, team_id=team.pk, verb="team.create", target=team, detail={"name": team.name})
    return team


@transaction.atomic
def team_rename(*, actor: Actor, team: Team, name: str) -> Team:
    """Give the team another name. Raises Invalid."""
    actor.require(team.pk, Role.ADMIN, "team")
    before, team.name = team.name, name.strip()
    _check(team)
    team.save(update_fields=["name"])
    audit(actor=actor, team_id=team.pk, verb="team.rename", target=team, detail={"from": before, "to": team.name})
    return team


def team_ensure_starter() -> Team:
    """The team that a fresh studio begins with."""
    return Team.objects.get_or_create(slug=slugify(STARTER_TEAM), defaults={"name": STARTER_TEAM})[0]


@transaction.atomic
def admin_ensure(*, username: str = FIRST_ADMIN) -> User:
    """The user of that name as an admin of the starter team; both are made when missing. Raises Invalid."""
    team = team_ensure_starter()
    user = User.objects.filter(username=username.strip().lower()).first() or user_create(username=username)
    membership, created = Membership.objects.get_or_create(team=team, user=user, defaults={"role": Role.ADMIN})
    if created or membership.role != Role.ADMIN:
        membership.role = Role.ADMIN
        membership.save(update_fields=["role"])
        audit(actor=None, team_id=team.pk, verb="admin.ensure", target=user, detail={"user": user.username})
    return user


@transaction.atomic
def membership_change_role(*, actor: Actor, team: Team, user_id: uuid.UUID, role: Role) -> Membership:
    """Give a member another role. Raises Conflict when the team would lose its last admin."""
    actor.require(team.pk, Role.ADMIN, "team")
    membership = _locked_membership(team, user_id)
    before = membership.role
    if role != Role.ADMIN:
        _give_up_admin(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    detail = {"user": membership.user.username, "from": before, "to": role}
    audit(actor=actor, team_id=team.pk, verb="membership.change_role", target=membership.user, detail=detail)
    return membership


@transaction.atomic
def membership_remove(*, actor: Actor, team: Team, user_id: uuid.UUID) -> Membership:
    """Take somebody out of the team, or leave it oneself. Raises Conflict for the last admin."""
    actor.require(team.pk, Role.VIEWER if user_id == actor.user.pk else Role.ADMIN, "team")
    membership = _locked_membership(team, user_id)
    _give_up_admin(membership)
    detail = {"user": membership.user.username, "role": membership.role}
    audit(actor=actor, team_id=team.pk, verb="membership.remove", target=membership.user, detail=detail)
    membership.delete()
    return membership


def _locked_membership(team: Team, user_id: uuid.UUID) -> Membership:
    """A membership, while no other change of the team's roles goes on."""
    Team.objects.select_for_update().get(pk=team.pk)
    membership = Membership.objects.select_related("user").filter(team=team, user_id=user_id).first()
    if membership is None:
        raise NotFound("There is no such member.")
    return membership


def _give_up_admin(membership: Membership) -> None:
    """Make sure of another admin, and close the invitations that could bring the person back as one."""
    if membership.role != Role.ADMIN:
        return
    others = Membership.objects.filter(team_id=membership.team_id, role=Role.ADMIN, user__is_active=True)
    if not others.exclude(pk=membership.pk).exists():
        raise Conflict(f"{membership.user} is the team's last admin.", advice="Make somebody else an admin first.")
    invitations = Invitation.objects.open().filter(team_id=membership.team_id, created_by=membership.user)
    invitations.update(revoked_at=timezone.now())


# --- invitations ------------------------------------------------------------------------------------------------------


@transaction.atomic
def invitation_create(*, actor: Actor, team: Team, role: Role, note: str = "") -> tuple[Invitation, str]:
    """An invitation for one person and the token of its link `/join/<token>`, which cannot be had again."""
    actor.require(team.pk, Role.ADMIN, "team")
    token = crypto.new_token()
    invitation = Invitation(
        team=team,
        role=role,
        note=note.strip(),
        token_hash=crypto.digest(token),
        created_by=actor.user,
        expires_at=timezone.now() + INVITATION_LIFETIME,
    )
    _check(invitation)
    invitation.save()
    audit(actor=actor, team_id=team.pk, verb="invitation.create", target=invitation, detail={"role": role})
    return invitation, token


@transaction.atomic
def invitation_accept(*, actor: Actor, token: str) -> Membership:
    """Join the team. The invitation is spent, except by somebody who is a member already (Conflict)."""
    invitation = open_invitation(token, lock=True)
    if Membership.objects.filter(team_id=invitation.team_id, user=actor.user).exists():
        raise Conflict(f"You are a member of {invitation.team} already.")
    membership = Membership.objects.create(team=invitation.team, user=actor.user, role=invitation.role)
    invitation.accepted_by = actor.user
    invitation.accepted_at = timezone.now()
    invitation.save(update_fields=["accepted_by", "accepted_at"])
    detail = {"user": actor.user.username, "role": invitation.role}
    audit(actor=actor, team_id=invitation.team_id, verb="invitation.accept", target=invitation, detail=detail)
    return membership


@transaction.atomic
def invitation_join(*, token: str, username: str, password: str, full_name: str = "") -> User:
    """A new account that joins the team at once; neither without the other."""
    open_invitation(token, lock=True)
    user = user_create(username=username, password=password, full_name=full_name)
    invitation_accept(actor=Actor(user), token=token)
    return user


@transaction.atomic
def invitation_revoke(*, actor: Actor, invitation: Invitation) -> Invitation:
    """Close an invitation that nobody used yet. Raises Conflict otherwise."""
    actor.require(invitation.team_id, Role.ADMIN, "invitation")
    if not Invitation.objects.open().filter(pk=invitation.pk).update(revoked_at=timezone.now()):
        raise Conflict("This invitation was used or revoked already, or is too old to be used.")
    audit(actor=actor, team_id=invitation.team_id, verb="invitation.revoke", target=invitation)
    return invitation


# --- API tokens and secrets -------------------------------------------------------------------------------------------


@transaction.atomic
def token_create(*, actor: Actor, name: str, days: int | None = None) -> tuple[ApiToken, str]:
    """A bearer token of one's own, for `days` days or without end; its text cannot be had again. Raises Invalid."""
    if ApiToken.objects.filter(user=actor.user, revoked_at=None).count() >= MAX_TOKENS:
        raise Conflict(f"You have {MAX_TOKENS} tokens.", advice="Revoke one that is not used any more.")
    text = TOKEN_PREFIX + crypto.new_token()
    token = ApiToken(
        user=actor.user,
        name=name.strip(),
        prefix=text[:12],
        token_hash=crypto.digest(text),
        expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
    )
    _check(token)
    token.save()
    audit(actor=actor, team_id=None, verb="token.create", target=token, detail={"prefix": token.prefix})
    return token, text


@transaction.atomic
def token_revoke(*, actor: Actor, token_id: uuid.UUID) -> ApiToken:
    """End a token of one's own. Raises NotFound; a token that is revoked already stays so."""
    token = ApiToken.objects.filter(pk=token_id, user=actor.user).first()
    if token is None:
        raise NotFound("There is no such token.")
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        audit(actor=actor, team_id=None, verb="token.revoke", target=token, detail={"prefix": token.prefix})
    return token


@transaction.atomic
def secret_set(*, actor: Actor, team: Team, name: str, value: str) -> TeamSecret:
    """Keep a secret for the team's workers, encrypted; it is never shown again. Raises Invalid."""
    actor.require(team.pk, Role.ADMIN, "team")
    if not re.fullmatch(r"[!-~]{1,500}", value):
        raise Invalid(
            "This is not a token.", fields={"value": ["Paste the token alone: up to 500 characters without spaces."]}
        )
    return secret_keep(actor=actor, team=team, name=name, value=value)


@transaction.atomic
def secret_keep(*, actor: Actor, team: Team, name: str, value: str) -> TeamSecret:
    """The same for a value that was looked at already."""
    actor.require(team.pk, Role.ADMIN, "team")
    secret, _ = TeamSecret.objects.update_or_create(
        team=team, name=name, defaults={"ciphertext": crypto.encrypt(value, _purpose(team.pk, name))}
    )
    audit(actor=actor, team_id=team.pk, verb="secret.set", detail={"name": name})
    return secret


@transaction.atomic
def secret_delete(*, actor: Actor, team: Team, name: str) -> None:
    """Forget a secret; one that is not there is no error."""
    actor.require(team.pk, Role.ADMIN, "team")
    if TeamSecret.objects.filter(team=team, name=name).delete()[0]:
        audit(actor=actor, team_id=team.pk, verb="secret.delete", detail={"name": name})


def secret_get(*, team_id: uuid.UUID, name: str) -> str | None:
    """A team's secret, for workers alone; None when it has none. Raises Invalid after a change of SECRET_KEY."""
    secret = TeamSecret.objects.filter(team_id=team_id, name=name).first()
    if secret is None:
        return None
    value = crypto.decrypt(secret.ciphertext, _purpose(team_id, name))
    if value is None:
        raise Invalid(
            f"The team's {name.replace('_', ' ')} cannot be read, because SECRET_KEY has changed.",
            advice="Enter it again on the team's page, or add the old key to SECRET_KEY_FALLBACKS.",
        )
    return value


def _purpose(team_id: uuid.UUID, name: str) -> str:
    return f"team-secret:{team_id}:{name}"


# --- checks -----------------------------------------------------------------------------------------------------------


def _check(thing: Model, exclude: list[str] | None = None) -> None:
    """Apply the model's own rules. Raises Invalid with the fields at fault."""
    try:
        thing.full_clean(exclude=exclude)
    except ValidationError as error:
        raise Invalid("Some values are not accepted.", fields=error.message_dict) from None


def _check_password(user: User, password: str) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid("This password is not accepted.", fields={"password": error.messages}) from None


def _free_slug(name: str) -> str:
    slug = slugify(name)[:80] or "team"
    return f"{slug}-{secrets.token_hex(4)}" if Team.objects.filter(slug=slug).exists() else slug
