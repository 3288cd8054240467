"""Reading models, checkpoints and shares, each limited to what the reader may see."""

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.errors import NotFound
from webapp.registry.links import share_id
from webapp.registry.models import BaseModel, Checkpoint, ModelSource, Share, ShareKind

STARTER = "starter"
MAX_ANCESTORS = 20
MAX_DESCENDANTS = 50


def models_visible(actor: Actor, team_id: uuid.UUID | None = None) -> QuerySet[BaseModel]:
    """The starter and the models of the actor's teams, or of that one team; `run_count` is of those teams' runs."""
    teams = _teams(actor, team_id)
    return (
        BaseModel.objects.filter(Q(team__isnull=True) | Q(team_id__in=teams))
        .select_related("team", "created_by", "checkpoint")
        .annotate(run_count=Count("runs", filter=Q(runs__team_id__in=teams)))
    )


def model_get(actor: Actor, ref: Any) -> BaseModel:
    """The model with that id, or the one that `starter` names. Raises NotFound."""
    named = {"source": ModelSource.STARTER} if ref == STARTER else {"pk": _key(ref, "model")}
    found = models_visible(actor).filter(**named).first()
    if found is None:
        raise NotFound("There is no such model.")
    return found


def source_get(actor: Actor, ref: Any, team: Team) -> BaseModel | Checkpoint:
    """What `ref` names for use in `team`: `starter`, a model of the team, or a checkpoint the actor may read.

    A model that stands for a checkpoint is of use as long as the checkpoint may be read. Raises NotFound.
    """
    try:
        model = model_get(actor, ref)
    except NotFound:
        return checkpoint_get(actor, ref)
    if model.team_id not in (None, team.pk):
        raise NotFound("There is no such model in this team.")
    if model.checkpoint_id:
        checkpoint_get(actor, model.checkpoint_id)
    return model


def team_of_source(actor: Actor, ref: Any) -> Team:
    """Whose a run is that starts from what `ref` names and takes no dataset: the team's whose model or checkpoint that
    is, if the actor is of it, else the current one's."""
    for get in (model_get, checkpoint_get):
        with suppress(NotFound):
            owner = get(actor, ref).team
            return owner if owner is not None and owner.pk in actor.roles else actor.current_team
    return actor.current_team


def models_to_wake() -> list[uuid.UUID]:
    """Models that wait to be prepared and that no living worker is preparing."""
    return list(BaseModel.objects.to_prepare().values_list("pk", flat=True)[:100])


def checkpoints_visible(actor: Actor, team_id: uuid.UUID | None = None) -> QuerySet[Checkpoint]:
    """The checkpoints of the actor's teams (or of that one team), and those shared with it or the actor."""
    teams = _teams(actor, team_id)
    return (
        Checkpoint.objects.filter(
            Q(team_id__in=teams) | Exists(_shares_with(actor, teams).filter(checkpoint=OuterRef("pk")))
        )
        .select_related("team", "base_model", "run_checkpoint__run")
        .defer("base_model__progress", "base_model__notes")
    )


def checkpoint_get(actor: Actor, pk: Any, role: Role | None = None) -> Checkpoint:
    """The checkpoint, if the actor may read it: their team's own, or shared with them.

    With a `role`, it must be their team's own and they must hold that role there. Raises NotFound or Forbidden.
    """
    if role is not None:
        return actor.get(Checkpoint.objects.select_related("team", "base_model"), pk, role)
    found = checkpoints_visible(actor).filter(pk=_key(pk, "checkpoint")).first()
    if found is None:
        raise NotFound("There is no such checkpoint.")
    return found


def results_of(actor: Actor, source: BaseModel | Checkpoint) -> QuerySet[Any]:
    """What evaluations by the actor's teams have measured of a model or checkpoint, newest first; each is kept.

    A model that stands for a checkpoint has the checkpoint's.
    """
    if isinstance(source, BaseModel) and source.checkpoint is not None:
        source = source.checkpoint
    return (
        source.results.filter(run__team__in=actor.team_ids())
        .select_related("run__dataset_version__dataset")
        .defer("row_scores")
        .order_by("-pk")
    )


def share_that_opens(actor: Actor, checkpoint: Checkpoint) -> Share | None:
    """The share through which the actor reads another team's checkpoint; None for their own team's."""
    if checkpoint.team_id in actor.roles:
        return None
    return _shares_with(actor, actor.team_ids()).filter(checkpoint=checkpoint).first()


def share_for_token(token: str) -> Share:
    """The link share that this token opens. Raises NotFound when it is forged, revoked or has ended."""
    links = Share.objects.active().filter(kind=ShareKind.LINK)
    pk = share_id(token)
    found = pk and links.select_related("checkpoint__base_model", "checkpoint__team").filter(pk=pk).first()
    if not found:
        raise NotFound("This link does not open anything.", advice="It was revoked, has ended, or is incomplete.")
    return found


def shares_of(checkpoint: Checkpoint) -> QuerySet[Share]:
    """The shares of a checkpoint that are still open, newest first."""
    return checkpoint.shares.active().select_related("team", "user", "created_by").order_by("-pk")


@dataclass(frozen=True)
class Lineage:
    """Where a checkpoint comes from (nearest first) and what came of it (newest first), if the reader may see it.

    `merged` are the models that the run which made it merged with the one that it started from, in their order.
    """

    ancestors: list[Checkpoint]
    merged: list[BaseModel]
    descendants: list[Checkpoint]
    registrations: list[BaseModel]


def lineage(actor: Actor, checkpoint: Checkpoint) -> Lineage:
    """At most 20 generations back, and 50 checkpoints that trained on from this one."""
    visible = checkpoints_visible(actor)
    ancestors: list[Checkpoint] = []
    seen, parent_id = {checkpoint.pk}, checkpoint.parent_id
    while parent_id and parent_id not in seen and len(ancestors) < MAX_ANCESTORS:
        parent = visible.filter(pk=parent_id).first()
        if parent is None:
            break
        ancestors.append(parent)
        seen.add(parent.pk)
        parent_id = parent.parent_id
    return Lineage(
        ancestors=ancestors,
        merged=list(
            models_visible(actor).filter(merges__run__run_checkpoints__checkpoint=checkpoint).order_by("merges__place")
        ),
        descendants=list(
            visible.filter(Q(parent=checkpoint) | Exists(_merges_of(checkpoint))).order_by("-pk")[:MAX_DESCENDANTS]
        ),
        registrations=list(models_visible(actor).filter(checkpoint=checkpoint).order_by("-pk")[:MAX_DESCENDANTS]),
    )


def _merges_of(checkpoint: Checkpoint) -> QuerySet[BaseModel]:
    """The models that stand for it where a run merged them and made the checkpoint of the outer query."""
    made = "merges__run__run_checkpoints__checkpoint"
    return BaseModel.objects.filter(checkpoint=checkpoint, **{made: OuterRef("pk")})


def _shares_with(actor: Actor, teams: list[uuid.UUID]) -> QuerySet[Share]:
    """Open shares with these teams or this person."""
    return Share.objects.active().filter(Q(team_id__in=teams) | Q(user=actor.user))


def _teams(actor: Actor, team_id: uuid.UUID | None) -> list[uuid.UUID]:
    return [team for team in actor.team_ids() if team_id in (None, team)]


def _key(ref: Any, what: str) -> uuid.UUID:
    try:
        return ref if isinstance(ref, uuid.UUID) else uuid.UUID(str(ref))
    except ValueError:
        raise NotFound(f"There is no such {what}.") from None
