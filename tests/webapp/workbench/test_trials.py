"""Trials of rewards: what may be asked for, and how workers share them."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from polm_core.errors import PolmError
from polm_core.gym.library import task_rows
from polm_core.gym.tasks import TaskChoice
from tests.support.judge import KEY, judging
from tests.support.runs import make_run
from tests.webapp.workbench.conftest import REWARDS, MakeTrial
from webapp.accounts.access import Actor
from webapp.accounts.judges import judge_endpoint_set
from webapp.accounts.models import Team, User
from webapp.claimed import WorkStatus
from webapp.datasets.models import DatasetVersion
from webapp.datasets.services import dataset_generate
from webapp.errors import Conflict, Forbidden, Invalid
from webapp.runs.models import RunSample
from webapp.workbench import services
from webapp.workbench.models import RewardTrial
from workers import trials
from workers.datasets import process


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"dataset": None}, "dataset", "either a dataset or a run"),
        ({"dataset": "x"}, "dataset", "no dataset of yours"),
        ({"dataset": None, "run": "x"}, "run", "no run of yours"),
        ({"most": 0}, "most", "from 1 to 2,000"),
        ({"most": 2001}, "most", "from 1 to 2,000"),
        ({"rewards": []}, "rewards", "at least one reward"),
        ({"rewards": {"maths": 1}}, "rewards.maths", "Did you mean math"),
        ({"rewards": {"regex": 1}}, "rewards.regex_pattern", "must be a regular expression"),
        ({"rewards": {"reward_model": 1}}, "reward_model", "must name a reward model"),
        ({"rewards": {"judge": 1}}, "judge_model", "must name a judge model"),
    ],
)
def test_what_makes_no_sense_is_refused_beside_its_field(
    make_trial: MakeTrial, values: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(Invalid) as caught:
        make_trial(**values)
    assert said in " ".join(caught.value.fields[field])


def test_what_holds_no_answers_is_refused(make_trial: MakeTrial, team: Team, sums: DatasetVersion) -> None:
    with pytest.raises(Invalid, match="no samples") as caught:
        make_trial(dataset=None, run=make_run(team).pk)
    assert list(caught.value.fields) == ["run"]
    sums.format = "prompt"
    sums.save()
    with pytest.raises(Invalid, match="no answers"):
        make_trial()


def test_trials_are_bounded(make_trial: MakeTrial, team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_OPEN", 2)
    monkeypatch.setattr(services, "KEPT", 3)
    first = make_trial()
    make_trial()
    with pytest.raises(Conflict, match="outstanding"):
        make_trial()
    for _ in range(3):
        RewardTrial.objects.update(status=WorkStatus.DONE)
        make_trial()
    assert RewardTrial.objects.count() == 3
    assert not RewardTrial.objects.filter(pk=first.pk).exists()


def test_only_members_try(make_trial: MakeTrial, viewer: Any, sums: DatasetVersion) -> None:
    with pytest.raises(Forbidden):
        services.trial_create(actor=Actor(viewer), dataset=sums.dataset_id, rewards=REWARDS)


def test_a_worker_judges_what_waits(make_trial: MakeTrial) -> None:
    made = make_trial()
    trials.try_rewards()
    made.refresh_from_db()
    assert (made.status, made.error) == (WorkStatus.DONE, None)
    report = made.report
    assert report is not None
    assert [one["mean"] for one in report["rewards"]] == [1.0, 1.0]
    rows = list(made.rows.order_by("place"))
    assert [row.prompt for row in rows] == [f"{n} + 1 =" for n in range(8)]
    assert (rows[0].completion, rows[0].reference, rows[0].reward) == ("1", "1", 1.5)


def test_the_newest_samples_of_a_run_are_judged(make_trial: MakeTrial, team: Team) -> None:
    run = make_run(team)
    for step in range(3):
        RunSample.objects.create(
            run=run, step=step, offset=step, prompt="1 + 1?", completion=f"\u00fc {step}", data={"reference": "2"}
        )
    made = make_trial(dataset=None, run=run.pk, most=2)
    trials.try_rewards()
    made.refresh_from_db()
    assert made.status == WorkStatus.DONE, made.error
    assert [(row.completion, row.scores["math"]) for row in made.rows.order_by("place")] == [("ü 2", 1.0), ("ü 1", 0.0)]


def test_tasks_verify_the_answers_of_rows_and_of_runs(make_trial: MakeTrial, team: Team, actor: Actor) -> None:
    version = dataset_generate(actor=actor, team=team, task="gcd", level=1, size=4)
    process(str(version.pk))
    of_rows = make_trial(dataset=version.dataset_id, rewards=["reasoning_gym"])
    (row,) = task_rows(TaskChoice(task="gcd", level=1, size=1))
    run, known = make_run(team), {"reference": row["answer"], "task": json.dumps(row["task"])}
    for step, (said, data) in enumerate([("It is 0.", known), (f"It is {row['answer']}.", known), ("1", {})]):
        RunSample.objects.create(run=run, step=step, offset=step, prompt=row["prompt"], completion=said, data=data)
    of_run = make_trial(dataset=None, run=run.pk, most=3, rewards=["reasoning_gym"])
    trials.try_rewards()
    given = [
        [row.scores["reasoning_gym"] for row in RewardTrial.objects.get(pk=made.pk).rows.order_by("place")]
        for made in (of_rows, of_run)
    ]
    assert given == [[1.0] * 4, [None, 1.0, 0.0]]


def test_the_teams_endpoint_judges(
    make_trial: MakeTrial, team: Team, admin: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JUDGE_HOSTS = "127.0.0.1"
    monkeypatch.setenv("POLM_JUDGE_HOSTS", "127.0.0.1")  # as the worker's child has it
    monkeypatch.setenv("POLM_JUDGE_URL", "https://judges.example.com/v1")
    with judging() as server:
        judge_endpoint_set(actor=Actor(admin), team=team, url=server.url, model=server.endpoint.model, key=KEY)
        server.reply = lambda question: "Well." if "1 + 1 =" in question else "4"
        made = make_trial(rewards={"math": 1, "judge": 1, "judge_by": "endpoint", "judge_rubric": "Short is good."})
        trials.try_rewards()
    made.refresh_from_db()
    assert made.status == WorkStatus.DONE, made.error
    assert len(server.asked) == 8
    assert "Short is good." in server.asked[0]["messages"][0]["content"]
    given = [row.scores["judge"] for row in made.rows.order_by("place")]
    assert given == [0.75, None, *[0.75] * 6]
    assert made.report is not None
    assert [one["judged"] for one in made.report["rewards"]] == [8, 7]


def test_what_a_process_refuses_is_told(make_trial: MakeTrial) -> None:
    made = make_trial(rewards={"math": 0, "judge": 1, "judge_by": "endpoint"})
    trials.try_rewards()
    made.refresh_from_db()
    assert made.status == WorkStatus.FAILED
    assert made.error is not None
    assert made.error["code"] == "judge.endpoint"
    assert "Team page" in made.error["advice"]


def test_a_claim_is_one_workers_and_a_lost_one_is_taken_over_once(make_trial: MakeTrial) -> None:
    made = make_trial()
    first = services.trial_claim()
    assert first == made
    assert services.trial_claim() is None
    lost = timezone.now() - timedelta(seconds=1)
    RewardTrial.objects.update(lease_until=lost)
    second = services.trial_claim()
    assert second is not None
    assert not services.trial_progress(trial=first, progress={"done": 1, "total": 2})
    assert services.trial_progress(trial=second, progress={"done": 1, "total": 2})
    assert not services.trial_finish(trial=first, report={}, rows=[])
    RewardTrial.objects.update(lease_until=lost)
    assert services.trial_claim() is None
    made.refresh_from_db()
    assert made.status == WorkStatus.FAILED
    assert made.error is not None
    assert made.error["code"] == "trial.lost"


def test_a_trial_that_was_stopped_stays_so(make_trial: MakeTrial, actor: Actor) -> None:
    made = make_trial()
    claimed = services.trial_claim()
    assert claimed is not None
    services.trial_stop(actor=actor, trial=made)
    assert not services.trial_progress(trial=claimed, progress={})
    services.trial_release(trial=claimed)
    services.trial_fail(trial=claimed, error=PolmError("late"))
    made.refresh_from_db()
    assert made.status == WorkStatus.STOPPED
