"""Sweeps over REST: started, read, stopped, gone on with, each refusal with its field."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.api import ApiClient
from tests.support.sweeps import carry_out, end, make_sweep, running
from webapp.accounts.access import Actor
from webapp.sweeps.services import sweep_advance

pytestmark = pytest.mark.django_db

GRID = {"strategy": "grid", "space": {"batch_size": [2, 4], "seed": [1, 2, 3]}, "max_trials": None}


def test_start_read_stop_go_on_and_delete(api: ApiClient, actor: Actor) -> None:
    model = make_sweep(actor, "other ")
    run = running(model)[0].run
    body = {"method": "sft", "model": str(run.model_id), "dataset": str(run.dataset_version.dataset_id), **GRID}
    answer = api.post("/sweeps", {**body, "metric": "eval/loss", "name": "ours", "request_id": "r", "parallel": 2})
    assert answer.status_code == 201
    made = answer.json()
    assert api.post("/sweeps", {**body, "metric": "eval/loss", "request_id": "r"}).json()["id"] == made["id"]
    assert (made["name"], made["state"], made["max_trials"], made["space"]) == ("ours", "running", 6, GRID["space"])
    sweep_advance(made["id"])
    place = f"/sweeps/{made['id']}"
    assert api.delete(place).status_code == 409
    assert api.post(f"{place}/resume").status_code == 409
    stopped = api.post(f"{place}/stop").json()
    assert (stopped["state"], stopped["trials"], stopped["running"]) == ("stopped", 2, 0)
    assert [one["state"] for one in api.get(f"{place}/trials").json()["items"]] == ["held", "held"]
    assert api.post(f"{place}/resume").json()["state"] == "running"
    api.post(f"{place}/stop")
    assert api.delete(place).status_code == 204
    assert api.get(place).status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"space": {"learning_rat": [1]}}, "space.learning_rat"),
        ({"space": {"learning_rate": {"min": 1}}}, "space.learning_rate"),
        ({"space": 3}, "space"),
        ({"max_trials": 0}, "max_trials"),
        ({"metric": "\n"}, "metric"),
        ({"direction": "up"}, "direction"),
        ({"strategy": "bayes"}, "strategy"),
        ({"config": {"epochs": 0}}, "config.epochs"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_is_refused_names_its_field(api: ApiClient, actor: Actor, changes: dict[str, Any], field: str) -> None:
    run = running(make_sweep(actor))[0].run
    body = {"method": "sft", "model": str(run.model_id), "dataset": str(run.dataset_version.dataset_id)}
    answer = api.post("/sweeps", {**body, "space": {"seed": [1, 2]}, "metric": "loss", "max_trials": 2, **changes})
    assert answer.status_code == 422
    assert field in answer.json()["error"]["fields"]


def test_trials_tell_their_values_and_what_matters_in_few_queries(api: ApiClient, actor: Actor) -> None:
    sweep = make_sweep(actor, **GRID)
    carry_out(sweep, lambda params: params["batch_size"] + params["seed"] / 100)
    with CaptureQueriesContext(connection) as queries:
        told = api.get(f"/sweeps/{sweep.pk}/trials").json()
    assert len(queries) <= 6
    assert [one["value"] for one in told["items"]] == [2.01, 2.02, 2.03, 4.01, 4.02, 4.03]
    assert told["importance"][0]["field"] == "batch_size"
    assert told["importance"][0]["correlation"] > 0.8
    best = api.get(f"/sweeps/{sweep.pk}").json()["best"]
    assert (best["number"], best["params"]) == (1, {"batch_size": 2, "seed": 1})


def test_the_list_takes_as_many_queries_for_many_as_for_one(api: ApiClient, actor: Actor) -> None:
    first = make_sweep(actor)
    end(running(first)[0], 1.0)
    counts = []
    api.get("/sweeps")  # the first call notes when the token was used
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            found = api.get("/sweeps").json()["items"]
        counts.append(len(queries))
        again = {"model": first.request["model"], "dataset": running(first)[0].run.dataset_version.dataset_id}
        for mark in ("a", "b"):
            end(running(make_sweep(actor, name=mark, **again))[0], 2.0)
    assert counts[0] == counts[1]
    assert found[0]["best"]["value"] == 2.0
    assert api.get("/sweeps?project=nowhere").json()["items"] == []
