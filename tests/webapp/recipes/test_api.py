"""Pipelines over REST: started, read, stopped, started again, each refusal with its field."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.api import ApiClient
from tests.support.checkpoints import make_base_model
from tests.support.pipelines import finish, make_pipeline, make_slots, run_of
from webapp.accounts.access import Actor
from webapp.recipes.models import Pipeline

pytestmark = pytest.mark.django_db


@pytest.fixture
def body(actor: Actor) -> dict[str, Any]:
    base = make_base_model(actor.current_team)
    return {"recipe": "instructgpt", "models": {"base": str(base.pk)}, "datasets": make_slots(actor)}


def test_the_cookbook_tells_all_that_starting_a_recipe_takes(api: ApiClient) -> None:
    recipe = api.get("/recipes").json()["items"][0]
    assert recipe["slug"] == "instructgpt"
    assert [slot["name"] for slot in recipe["models"]] == ["base"]
    assert {slot["name"]: slot["formats"][0] for slot in recipe["datasets"]} == {
        "demonstrations": "conversation",
        "comparisons": "preference",
        "prompts": "prompt",
    }
    policy = recipe["stages"][2]
    assert (policy["start"], policy["uses"], policy["dataset"]) == ("sft", {"reward_model": "reward"}, "prompts")
    assert all(config["rewards"]["reward_model"] == 1 for config in policy["methods"].values())


def test_start_stop_restart_and_delete(api: ApiClient, body: dict[str, Any]) -> None:
    answer = api.post("/pipelines", {**body, "name": "ours", "request_id": "r-1", "project": "Alignment"})
    assert answer.status_code == 201
    made = answer.json()
    assert api.post("/pipelines", {**body, "request_id": "r-1"}).json()["id"] == made["id"]
    assert (made["name"], made["state"], made["project"]) == ("ours", "running", "Alignment")
    assert [stage["state"] for stage in made["stages"]] == ["queued", "waiting", "waiting"]
    assert made["stages"][0]["model"] == body["models"]["base"]
    assert made["stages"][2]["dataset"] == body["datasets"]["prompts"]
    place = f"/pipelines/{made['id']}"
    refused = api.post(f"{place}/restart", {"stage": "sft"})
    assert (refused.status_code, refused.json()["error"]["advice"]) == (409, "Stop the pipeline first.")
    assert api.delete(place).status_code == 409
    assert api.post(f"{place}/stop").json()["state"] == "stopped"
    assert api.post(f"{place}/stop").status_code == 409
    again = api.post(f"{place}/restart", {"stage": "sft", "config": {"max_steps": 3}}).json()
    assert again["state"] == "running"
    assert again["stages"][0]["config"]["max_steps"] == 3
    assert again["stages"][0]["run"] != made["stages"][0]["run"]
    api.post(f"{place}/stop")
    assert api.delete(place).status_code == 204
    assert api.get(place).status_code == 404
    assert api.get(f"/runs/{made['stages'][0]['run']}").status_code == 200


def test_a_stage_tells_its_checkpoint_and_its_problem(api: ApiClient, actor: Actor) -> None:
    pipeline = make_pipeline(actor)
    sft = run_of(actor, pipeline, "sft")
    finish(sft)
    stages = api.get(f"/pipelines/{pipeline.pk}").json()["stages"]
    assert stages[0]["checkpoint"] == str(sft.run_checkpoints.get().checkpoint_id)
    Pipeline.objects.update(carried_by=None)
    finish(run_of(actor, pipeline, "reward"))
    failed = api.get(f"/pipelines/{pipeline.pk}").json()
    assert failed["state"] == "failed"
    assert "left the studio" in failed["stages"][2]["error"]["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipe": "o2"}, "recipe"),
        ({"datasets": {}}, "datasets.demonstrations"),
        ({"stages": {"policy": {"config": {"num_generations": 3}}}}, "stages.policy.config.num_generations"),
        ({"stages": {"policy": {"settings": {}}}}, "stages.policy.settings"),
        ({"labels": ["a,b"]}, "labels"),
    ],
)
def test_what_is_not_accepted_is_named(
    api: ApiClient, body: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    answer = api.post("/pipelines", {**body, **change})
    assert answer.status_code == 422, answer.content
    assert field in answer.json()["error"]["fields"]
    assert not Pipeline.objects.exists()


def test_restarting_names_what_is_not_accepted(api: ApiClient, actor: Actor) -> None:
    place = f"/pipelines/{make_pipeline(actor).pk}"
    api.post(f"{place}/stop")
    for change, status, field in (
        ({"stage": "rlhf"}, 422, "stage"),
        ({"stage": "sft", "config": {"learning_rate": 5}}, 422, "config.learning_rate"),
        ({"stage": "policy"}, 409, "stage"),
        ({}, 422, "stage"),
    ):
        answer = api.post(f"{place}/restart", change)
        assert (answer.status_code, list(answer.json()["error"]["fields"])) == (status, [field])


def test_the_list_pages_filters_and_costs_the_same_however_long_it_is(api: ApiClient, actor: Actor) -> None:
    datasets = make_slots(actor)
    made = [str(make_pipeline(actor, datasets=datasets).pk)]
    api.get("/pipelines")  # the first call notes that its token is in use
    with CaptureQueriesContext(
        connection,
    ) as one:
        api.get("/pipelines")
    made += [str(make_pipeline(actor, datasets=datasets).pk) for _ in range(3)]
    with CaptureQueriesContext(connection) as four:
        found = api.get("/pipelines").json()
    assert [item["id"] for item in found["items"]] == made[::-1]
    assert len(four) == len(one)
    first = api.get("/pipelines?limit=3").json()
    rest = api.get(f"/pipelines?limit=3&cursor={first['next_cursor']}").json()
    assert [item["id"] for item in first["items"] + rest["items"]] == made[::-1]
    assert api.get("/pipelines?recipe=o1").json()["items"] == []
    assert len(api.get("/pipelines?recipe=instructgpt").json()["items"]) == 4
