"""Giving others read access to a checkpoint, and taking it back."""

import uuid
from datetime import datetime, timedelta
from typing import Any

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
    """Share a checkpoint with a team (name, slug or id), a person (username or id), or by a link; exactly one of them.

    Sharing again with the same team or person changes the end of the open share. A link ends after 7 days unless
    told otherwise. Raises Invalid for an unknown receiver or an end that is past or more than a year away.
    """
    actor.require(checkpoint.team_id, Role.MEMBER, "checkpoint")
    if [bool(team), bool(user), link].count(True) != 1:
        raise Invalid("Say whom to share with.", fields={"team": ["Give exactly one of team, user and link."]})
    check_end(expires_at)
    receiver = _receiver(checkpoint, team, user)
    with transaction.atomic():
        Checkpoint.objects.select_for_update(of=("self",)).get(pk=checkpoint.pk)  # one share per receiver
        known = None if link else Share.objects.active().filter(checkpoint=checkpoint, **receiver).first()
        share = known or Share(checkpoint=checkpoint, **receiver)
        share.expires_at = timezone.now() + LINK_LIFETIME if link and expires_at is None else expires_at
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
                "with": str(share.team or share.user or ""),
                "expires_at": share.expires_at.isoformat() if share.expires_at else None,
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


def check_end(expires_at: datetime | None) -> None:
    """Raise Invalid for an end that is past, too far away or has no zone."""
    if expires_at is None:
        return
    if timezone.is_naive(expires_at):
        raise Invalid(
            "The end is not accepted.", fields={"expires": ["Give a time with its zone, as 2030-01-31T12:00Z."]}
        )
    if not timezone.now() < expires_at <= timezone.now() + LONGEST:
        raise Invalid("The end is not accepted.", fields={"expires": ["Give a time from now to a year ahead."]})


def _receiver(checkpoint: Checkpoint, team: str | None, user: str | None) -> dict[str, Any]:
    """The fields of a share that say whom it is for."""
    if team:
        return {"kind": ShareKind.TEAM, "team": _team(team, checkpoint)}
    if user:
        return {"kind": ShareKind.USER, "user": _user(user)}
    return {"kind": ShareKind.LINK}


def _team(ref: str, checkpoint: Checkpoint) -> Team:
    found: list[Team] = []
    if ref.isprintable():
        found = list(Team.objects.filter(_id_or(ref, slug=ref))) or list(Team.objects.filter(name__iexact=ref)[:2])
    if not found:
        raise Invalid("There is no such team.", fields={"team": ["Give the team's name as its members see it."]})
    if len(found) > 1:
        raise Invalid("Several teams have this name.", fields={"team": ["Ask them for the team's id, and give that."]})
    if found[0].pk == checkpoint.team_id:
        raise Invalid("The checkpoint is this team's own.", fields={"team": ["Name another team."]})
    return found[0]


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
