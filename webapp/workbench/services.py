"""Trials of rewards that people ask for, and how a worker carries them out."""

import uuid
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from polm_core.data.completions import ANSWERED
from polm_core.errors import PolmError
from polm_core.formats import Format
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.accounts.services import audit
from webapp.claimed import MAX_ATTEMPTS, WorkStatus
from webapp.datasets.models import DatasetVersion
from webapp.datasets.selectors import version_to_use
from webapp.errors import Conflict, Invalid, NotFound
from webapp.runs.models import Project, RewardList, Run, RunSample
from webapp.runs.reward_lists import reward_list_create, rewards_parse, scoring_models
from webapp.tasks import REWARDS_TRY, wake
from webapp.workbench.models import RewardTrial, TrialRow

DEFAULT_MOST = 200
MAX_MOST = 2000
MAX_OPEN = 10
# The newest trials of a team; older ones that have ended make room.
KEPT = 200
_BATCH = 500


def trial_create(
    *,
    actor: Actor,
    rewards: Any,
    dataset: str | uuid.UUID | None = None,
    run: str | uuid.UUID | None = None,
    most: int = DEFAULT_MOST,
    reward_model: str | None = None,
    judge_model: str | None = None,
) -> RewardTrial:
    """Try rewards on at most `most` answers of a dataset, evenly spread, or on the newest samples of a run.

    Raises Invalid with the fields at fault, Conflict when the team has too many trials outstanding.
    """
    if bool(dataset) == bool(run):
        problem = ["give either a dataset or a run"]
        raise Invalid("There is nothing to try the rewards on.", fields={"dataset": problem})
    if not 1 <= most <= MAX_MOST:
        raise Invalid("That many answers cannot be tried.", fields={"most": [f"must be from 1 to {MAX_MOST:,}"]})
    settings = rewards_parse(rewards)
    version = _version(actor, dataset) if dataset else None
    sampled = _run(actor, run) if run else None
    team: Team = version.dataset.team if version is not None else sampled.team  # type: ignore[union-attr]
    models = scoring_models(actor, team, settings, reward_model, judge_model)
    with transaction.atomic():
        Team.objects.select_for_update().get(pk=team.pk)  # the limit holds for parallel requests too
        if RewardTrial.objects.open().filter(team=team).count() >= MAX_OPEN:
            raise Conflict("Too many trials are outstanding.", advice="Wait for them, or stop some.")
        made = RewardTrial.objects.create(
            team=team,
            dataset_version=version,
            run=sampled,
            most=most,
            rewards=settings,
            created_by=actor.user,
            **models,
        )
        _forget_old(team)
        audit(actor=actor, team_id=team.pk, verb="reward_trial.create", target=made)
        wake(REWARDS_TRY, made.pk)
    return made


def trial_stop(*, actor: Actor, trial: RewardTrial) -> None:
    """End a trial; one that has ended stays as it is."""
    actor.require(trial.team_id, Role.MEMBER, "trial")
    RewardTrial.objects.open().filter(pk=trial.pk).update(status=WorkStatus.STOPPED, lease_until=None)


def trial_pin(*, actor: Actor, trial: RewardTrial, project: Project, name: str) -> RewardList:
    """Keep a trial's rewards, with the models that gave them, under a name in a project of its team."""
    if project.team_id != trial.team_id:
        raise Invalid("There is no such project.", fields={"project": ["names no project of the trial's team"]})
    return reward_list_create(
        actor=actor,
        project=project,
        name=name,
        rewards=trial.rewards,
        reward_model=str(trial.reward_model_id) if trial.reward_model_id else None,
        judge_model=str(trial.judge_model_id) if trial.judge_model_id else None,
    )


# --- by workers -------------------------------------------------------------------------------------------------------
def trial_claim() -> RewardTrial | None:
    """Take the oldest trial that waits or has lost its worker; the row's `attempts` is the claim's number."""
    lost = PolmError(
        "The process that judges was lost twice.",
        code="trial.lost",
        advice="Most often the worker ran out of memory: take a smaller model, or fewer answers.",
    )
    return RewardTrial.objects.take(most=MAX_ATTEMPTS, lost=lost, progress={})


def trial_progress(*, trial: RewardTrial, progress: dict[str, Any]) -> bool:
    """Tell how far it is and renew the claim; False when it was stopped or another worker has it."""
    return RewardTrial.objects.renew(trial, progress=progress)


def trial_finish(*, trial: RewardTrial, report: dict[str, Any], rows: Iterable[dict[str, Any]]) -> bool:
    """Store what came out; False when it was stopped or another worker has it."""
    with transaction.atomic():
        held = RewardTrial.objects.end(trial, report=report)
        if held:
            made = (TrialRow(trial=trial, place=place, **row) for place, row in enumerate(rows))
            TrialRow.objects.bulk_create(made, batch_size=_BATCH)
    return held


def trial_fail(*, trial: RewardTrial, error: PolmError) -> bool:
    """End a trial with the reason why nothing came out."""
    return RewardTrial.objects.fail(trial, error)


def trial_release(*, trial: RewardTrial) -> None:
    """Give a claim back unused, as a worker does that shuts down."""
    RewardTrial.objects.release(trial)


# --- helpers ----------------------------------------------------------------------------------------------------------
def _forget_old(team: Team) -> None:
    kept = RewardTrial.objects.filter(team=team).order_by("-id").values("pk")[:KEPT]
    RewardTrial.objects.filter(team=team).exclude(pk__in=list(kept.values_list("pk", flat=True))).delete()


def _version(actor: Actor, ref: str | uuid.UUID) -> DatasetVersion:
    version = version_to_use(actor, ref)
    if Format(version.format) not in ANSWERED:
        right = f"must hold answers: {version.format} rows have none, {', '.join(ANSWERED)} rows do"
        raise Invalid(f"{version.dataset.name} has no answers.", fields={"dataset": [right]})
    return version


def _run(actor: Actor, ref: str | uuid.UUID) -> Run:
    try:
        run = actor.get(Run.objects.select_related("team"), ref, Role.MEMBER)
    except NotFound:
        raise Invalid("There is no such run.", fields={"run": ["names no run of yours"]}) from None
    if not RunSample.objects.filter(run=run).exists():
        raise Invalid(
            f"{run.name} has written no samples.",
            advice="Choose a run whose Samples tab shows answers.",
            fields={"run": ["has no samples"]},
        )
    return run
