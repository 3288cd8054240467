"""Giving others read access to a checkpoint, and taking it back."""

import uuid
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team, User
from webapp.accounts.services import audit
from webapp.errors import Invalid
from webapp.registry.models import Checkpoint, Share, ShareKind

# A link that was given no end does not stay open for ever.
LINK_LIFETIME = timedelta(days=7)
LONGEST = timedelta(days=366)


def share_create(
    *,
    actor: Actor,
    checkpoint: Checkpoint,
    team: str | None = None,
    user: str | None = None,
    link: bool = False,
    expires_at: datetime | None = None,
) -> Share:
    """Share a checkpoint with a team (slug or id), a person (username or id), or by a link; exactly one of them.

    Sharing again with the same team or person changes the end of the open share. A link ends after 7 days unless
    told otherwise. Raises Invalid for an unknown receiver or an end that is past or more than a year away.
    """
    actor.require(checkpoint.team_id, Role.MEMBER, "checkpoint")
    if [bool(team), bool(user), link].count(True) != 1:
        raise Invalid("Say whom to share with.", fields={"team": ["Give exactly one of team, user and link."]})
    _check_end(expires_at)
    receiver: dict[str, Team | User] = {}
    if team:
        receiver = {"team": _team(team, checkpoint)}
    elif user:
        receiver = {"user": _user(user)}
    with transaction.atomic():
        Checkpoint.objects.select_for_update(of=("self",)).get(pk=checkpoint.pk)  # one share per receiver
        if link:
            share = Share(checkpoint=checkpoint, kind=ShareKind.LINK)
            expires_at = expires_at or timezone.now() + LINK_LIFETIME
        else:
            kind = ShareKind.TEAM if team else ShareKind.USER
            open_share = Share.objects.active().filter(checkpoint=checkpoint, **receiver).first()
            share = open_share or Share(checkpoint=checkpoint, kind=kind, **receiver)
        share.expires_at = expires_at
        share.created_by = actor.user
        share.save()
        audit(
            actor=actor,
            team_id=checkpoint.team_id,
            verb="share.create",
            target=checkpoint,
            detail={
                "share": str(share.pk),
                "kind": share.kind,
                "with": str(next(iter(receiver.values()), "")),
                "expires_at": expires_at.isoformat() if expires_at else None,
            },
        )
    return share


def share_revoke(*, actor: Actor, share_id: uuid.UUID | str) -> Share:
    """End a share at once; one that has ended already stays so. Raises NotFound or Forbidden."""
    share = actor.get(Share.objects.select_related("checkpoint"), share_id, Role.MEMBER, team="checkpoint__team_id")
    with transaction.atomic():
        if Share.objects.filter(pk=share.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit(
                actor=actor,
                team_id=share.checkpoint.team_id,
                verb="share.revoke",
                target=share.checkpoint,
                detail={"share": str(share.pk), "kind": share.kind},
            )
    return share


def share_count_download(share: Share) -> None:
    """Note that what was shared has been fetched once more."""
    Share.objects.filter(pk=share.pk).update(downloads=F("downloads") + 1)


def _check_end(expires_at: datetime | None) -> None:
    if expires_at is None:
        return
    if timezone.is_naive(expires_at):
        raise Invalid(
            "The end is not accepted.", fields={"expires": ["Give a time with its zone, as 2030-01-31T12:00Z."]}
        )
    if not timezone.now() < expires_at <= timezone.now() + LONGEST:
        raise Invalid("The end is not accepted.", fields={"expires": ["Give a time from now to a year ahead."]})


def _team(ref: str, checkpoint: Checkpoint) -> Team:
    found = Team.objects.filter(_id_or(ref, slug=ref)).first() if ref.isprintable() else None
    if found is None:
        raise Invalid("There is no such team.", fields={"team": ["Give the team's slug; its admins see it on Team."]})
    if found.pk == checkpoint.team_id:
        raise Invalid("The checkpoint is this team's own.", fields={"team": ["Name another team."]})
    return found


def _user(ref: str) -> User:
    people = User.objects.filter(is_active=True)
    found = people.filter(_id_or(ref, username__iexact=ref)).first() if ref.isprintable() else None
    if found is None:
        raise Invalid("There is no such person.", fields={"user": ["Give the username of somebody with an account."]})
    return found


def _id_or(ref: str, **otherwise: str) -> Q:
    try:
        return Q(pk=uuid.UUID(ref))
    except ValueError:
        return Q(**otherwise)
