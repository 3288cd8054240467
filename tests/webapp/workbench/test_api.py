"""Trials and pinned rewards over the API, and runs that are launched with some."""

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from tests.support.api import ApiClient
from tests.support.checkpoints import make_checkpoint
from tests.webapp.workbench.conftest import REWARDS, MakeTrial
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.datasets.models import DatasetVersion
from webapp.errors import Invalid
from webapp.runs import services
from webapp.runs.models import RewardList, Run
from webapp.runs.reward_lists import reward_list_create
from webapp.workbench.services import trial_stop


@pytest.fixture
def body(team: Team, sums: DatasetVersion) -> dict[str, Any]:
    """A run on the sums."""
    writer = make_checkpoint(team, "writes @ 10", kind="model", step=10)
    return {"method": "rloo", "model": str(writer.pk), "dataset": str(sums.dataset_id)}


def test_a_trial_is_asked_for_and_read(api: ApiClient, sums: DatasetVersion, make_trial: MakeTrial) -> None:
    answer = api.post("/reward-trials", {"dataset": str(sums.dataset_id), "rewards": REWARDS, "most": 5})
    assert answer.status_code == 201
    made = answer.json()
    assert (made["status"], made["most"], made["dataset"]) == ("waiting", 5, str(sums.dataset_id))
    assert (made["rewards"]["math"], made["rewards"]["length"], made["rewards"]["regex"]) == (1.0, 0.5, 0.0)
    assert api.post(f"/reward-trials/{made['id']}/stop").json()["status"] == "stopped"
    ended = make_trial(rows=5)
    found = api.get(f"/reward-trials/{ended.pk}").json()
    assert found["report"]["answers"] == 5
    page = api.get(f"/reward-trials/{ended.pk}/rows", {"limit": 2, "offset": 2}).json()
    assert [row["place"] for row in page["items"]] == [2, 3]
    assert page["next_offset"] == 4
    assert api.get(f"/reward-trials/{ended.pk}/rows", {"order": "highest", "limit": 1}).json()["items"][0]["place"] == 4
    assert api.get(f"/reward-trials/{ended.pk}/rows", {"order": "worst"}).status_code == 422
    assert [one["id"] for one in api.get("/reward-trials").json()["items"]] == [str(ended.pk), made["id"]]


def test_refusals_name_their_fields(api: ApiClient, sums: DatasetVersion) -> None:
    asked = {"dataset": str(sums.dataset_id), "rewards": {"maths": 1}}
    answer = api.post("/reward-trials", asked)
    assert answer.status_code == 422
    assert list(answer.json()["error"]["fields"]) == ["rewards.maths"]
    assert api.post("/reward-trials", {"rewards": REWARDS}).status_code == 422
    assert api.post("/reward-lists", {"name": "x", "rewards": {"maths": 1}}).status_code == 422


def test_lists_take_as_many_queries_however_long_they_are(
    api: ApiClient, make_trial: MakeTrial, actor: Actor, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(4):
        trial_stop(actor=actor, trial=make_trial())
        api.post("/reward-lists", {"name": "sums", "rewards": REWARDS})
    for path in ("/reward-trials", "/reward-lists"):
        with django_assert_max_num_queries(6):
            assert len(api.get(path).json()["items"]) == 4


def test_pinned_rewards_are_numbered_and_launched_with(
    api: ApiClient, make_trial: MakeTrial, body: dict[str, Any]
) -> None:
    first = api.post("/reward-lists", {"name": "Sums", "project": "Maths", "trial": str(make_trial().pk)}).json()
    second = api.post("/reward-lists", {"name": "sums", "project": "Maths", "rewards": ["length"]}).json()
    elsewhere = api.post("/reward-lists", {"name": "sums", "rewards": ["length"]}).json()
    assert [one["version"] for one in (first, second, elsewhere)] == [1, 2, 1]
    assert api.get(f"/reward-lists/{first['id']}").json() == first
    answer = api.post("/runs", body | {"reward_list": first["id"], "config": {"max_steps": 2}})
    assert answer.status_code == 201, answer.json()
    made = api.get(f"/runs/{answer.json()['id']}").json()
    assert made["reward_list"] == first["id"]
    assert made["config"]["rewards"] == first["rewards"]
    assert made["config"]["max_steps"] == 2
    other = api.post("/runs", body | {"reward_list": first["id"], "config": {"rewards": {"math": 2}}})
    assert other.status_code == 422
    assert list(other.json()["error"]["fields"]) == ["reward_list"]


def test_a_list_brings_its_models_and_a_clone_keeps_it_until_its_rewards_change(
    actor: Actor, team: Team, body: dict[str, Any]
) -> None:
    judge = make_checkpoint(team, "judges", kind="model")
    project = services.project_for(actor=actor, team=team, ref=None)
    with pytest.raises(Invalid, match="judge model"):
        reward_list_create(actor=actor, project=project, name="judged", rewards=["judge"])
    pinned = reward_list_create(
        actor=actor, project=project, name="judged", rewards=["judge"], judge_model=str(judge.pk)
    )
    run = services.run_create(actor=actor, **body, reward_list=str(pinned.pk))
    assert run.judge_model == pinned.judge_model
    assert services.run_clone(actor=actor, run=run, changes={"max_steps": 3}).reward_list == pinned
    changed = services.run_clone(actor=actor, run=run, changes={"rewards": {"length": 1}})
    assert changed.reward_list is None
    assert changed.judge_model == pinned.judge_model


def test_anothers_list_and_one_for_another_kind_of_method_are_refused(
    actor: Actor, outsider: Any, other_team: Team, body: dict[str, Any]
) -> None:
    theirs = reward_list_create(
        actor=Actor(outsider),
        project=services.project_for(actor=Actor(outsider), team=other_team, ref=None),
        name="theirs",
        rewards=["length"],
    )
    with pytest.raises(Invalid) as caught:
        services.run_create(actor=actor, **body, reward_list=str(theirs.pk))
    assert list(caught.value.fields) == ["reward_list"]
    assert not Run.objects.exists()
    assert RewardList.objects.count() == 1
