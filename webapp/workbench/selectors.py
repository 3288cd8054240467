"""Reading trials of rewards."""

from typing import Any

from django.db.models import F, QuerySet
from django.db.models.expressions import OrderBy

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.errors import Invalid
from webapp.workbench.models import RewardTrial, TrialRow

# How rows can be ordered: by what people look for.
ORDERS: dict[str, tuple[str | OrderBy, ...]] = {
    "disagreement": ("-disagreement", "place"),
    "lowest": (F("reward").asc(nulls_last=True), "place"),
    "highest": (F("reward").desc(nulls_last=True), "place"),
    "place": ("place",),
}


def trials_visible(actor: Actor) -> QuerySet[RewardTrial]:
    """The trials of the actor's teams, newest first, with what a line shows."""
    return (
        RewardTrial.objects.filter(team__in=actor.team_ids())
        .select_related("team", "dataset_version__dataset", "run", "reward_model", "judge_model", "created_by")
        .order_by("-id")
    )


def trial_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> RewardTrial:
    """One trial. Raises NotFound or Forbidden."""
    return actor.get(trials_visible(actor), pk, role)


def trial_rows(trial: RewardTrial, *, order: str, offset: int, limit: int) -> tuple[list[TrialRow], int | None]:
    """Judged answers from `offset` on, and where the next page begins; None on the last. Raises Invalid."""
    if order not in ORDERS:
        raise Invalid("There is no such order.", fields={"order": [f"must be one of {', '.join(ORDERS)}"]})
    found = list(trial.rows.order_by(*ORDERS[order])[offset : offset + limit + 1])
    return found[:limit], offset + limit if len(found) > limit else None


def trials_wait() -> bool:
    """Whether there are trials for a worker to take up; a scheduler that sees some wakes one."""
    return RewardTrial.objects.claimable().exists()
