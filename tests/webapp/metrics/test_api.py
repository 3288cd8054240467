"""Metrics over REST: shapes, bounds, and who may read."""

import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api import ApiClient
from tests.support.runs import make_run
from tests.webapp.metrics.conftest import START, Log
from webapp.accounts.models import Team, User
from webapp.metrics.models import IngestPosition
from webapp.runs.models import Run


def test_the_list_of_metrics(api: ApiClient, run: Run, log: Log) -> None:
    log(run, {"eval/loss": [(1, 3.0), (2, 1.0)], "lr": [(1, math.nan)]})
    IngestPosition.objects.create(run=run, bad_lines=1, refused_values=2)
    answer = api.get(f"/runs/{run.pk}/metrics")
    assert answer.status_code == 200
    first = {"key": "eval/loss", "count": 2, "not_finite": 0, "last_step": 2, "last": 1.0, "min": 1.0, "max": 3.0}
    second = {"key": "lr", "count": 1, "not_finite": 1, "last_step": 1, "last": None, "min": None, "max": None}
    assert answer.json() == {"items": [first, second], "next_cursor": None, "bad_lines": 1, "refused_values": 2}


def test_one_metric(api: ApiClient, run: Run, log: Log) -> None:
    log(run, {"eval/loss": [(10, 1 / 3), (20, math.inf), (30, 123456.789)]})
    answer = api.get(f"/runs/{run.pk}/metrics/eval/loss")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer.json() == {
        "key": "eval/loss",
        "total_points": 3,
        "level": 0,
        "width": 1,
        "start": START + 10,
        "step": [10, 20, 30],
        "time": [START + 10, START + 20, START + 30],
        "count": [1, 0, 1],
        "min": [0.33333, None, 123460.0],
        "mean": [0.33333, None, 123460.0],
        "max": [0.33333, None, 123460.0],
        "not_finite": [[20, 1]],
        "resumed_from": [],
        "x": None,
    }


def test_resolution_and_window(api: ApiClient, run: Run, log: Log) -> None:
    log(run, {"loss": [(step, float(step)) for step in range(5000)]})
    whole = api.get(f"/runs/{run.pk}/metrics/loss?points=100").json()
    assert 50 <= len(whole["step"]) <= 100
    assert (whole["total_points"], whole["level"], whole["width"]) == (5000, 4, 64)
    window = api.get(f"/runs/{run.pk}/metrics/loss?points=100&from=1000&to=1099").json()
    assert (window["step"], window["mean"]) == (list(range(1000, 1100)), [float(step) for step in range(1000, 1100)])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("points=0", "points"),
        ("points=5001", "points"),
        ("points=many", "points"),
        ("from=-1", "from"),
        ("to=1e99", "to"),
        (f"to={2**70}", "to"),
        ("from=5&to=4", "from"),
    ],
)
def test_values_out_of_bounds(api: ApiClient, run: Run, log: Log, query: str, field: str) -> None:
    log(run, {"loss": [(1, 1.0)]})
    answer = api.get(f"/runs/{run.pk}/metrics/loss?{query}")
    assert answer.status_code == 422
    assert any(field in name for name in answer.json()["error"]["fields"])


@pytest.mark.parametrize("path", ["/metrics", "/metrics/loss", "/events"])
def test_only_the_team_may_read(
    api_of: Callable[[User], ApiClient], viewer: User, outsider: User, run: Run, log: Log, path: str
) -> None:
    log(run, {"loss": [(1, 1.0)]})
    assert api_of(viewer).get(f"/runs/{run.pk}{path}").status_code == 200
    assert api_of(outsider).get(f"/runs/{run.pk}{path}").status_code == 404
    assert ApiClient().get(f"/runs/{run.pk}{path}").status_code == 401
    assert api_of(viewer).get(f"/runs/{uuid.uuid4()}{path}").status_code == 404
    assert api_of(viewer).get(f"/runs/nonsense{path}").status_code == 404


@pytest.mark.parametrize("key", ["lose", "a%00b", "k" * 1000, "..%2f..%2fetc", "%ed%a0%80"])
def test_an_unknown_key(api: ApiClient, team: Team, run: Run, key: str) -> None:
    answer = api.get(f"/runs/{run.pk}/metrics/{key}")
    assert answer.status_code == 404
    assert "has logged nothing" in answer.json()["error"]["message"]
    compared = compare(api, run, make_run(team, "other"), key=key, x=key)
    assert [one["step"] for one in compared.json()["runs"]] == [[], []]


def test_a_key_with_a_slash_may_be_encoded(api: ApiClient, run: Run, log: Log) -> None:
    log(run, {"reward/the length, in %": [(1, 1.0)]})
    assert api.get(f"/runs/{run.pk}/metrics/reward%2Fthe%20length%2C%20in%20%25").json()["total_points"] == 1


def compare(api: ApiClient, *runs: object, **query: object) -> Any:
    ids = "&".join(f"run={getattr(run, 'pk', run)}" for run in runs)
    return api.get(f"/compare?{ids}&" + "&".join(f"{name}={value}" for name, value in query.items()))


def test_comparing_runs(api: ApiClient, team: Team, run: Run, log: Log) -> None:
    other = make_run(team, "other", config={"seed": 2})
    third = make_run(team, "third")
    log(run, {"loss": [(step, 1.0) for step in range(1000)], "epoch": [(step, step / 1e3) for step in range(1000)]})
    log(other, {"loss": [(1, 5.0)]})
    answer = compare(api, other, run, third, key="loss", points=100, x="epoch")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["key"], body["x"], body["config_diff"]) == ("loss", "epoch", {"seed": [2, None, None]})
    assert [one["name"] for one in body["runs"]] == ["other", "first", "third"]
    assert [one["total_points"] for one in body["runs"]] == [1, 1000, 0]
    assert body["runs"][0]["x"] == [None]
    assert 50 <= len(body["runs"][1]["step"]) == len(body["runs"][1]["x"]) <= 100
    assert body["runs"][2]["step"] == body["runs"][2]["mean"] == []
    assert body["runs"][1] | {"id": str(run.pk), "method": "sft", "status": "queued"} == body["runs"][1]


def test_comparing_is_bounded_and_guarded(api: ApiClient, team: Team, other_team: Team, run: Run) -> None:
    other = make_run(team, "other")
    foreign = make_run(other_team, "foreign")
    assert compare(api, run, key="loss").status_code == 422
    assert compare(api, run, run, key="loss").status_code == 422
    assert compare(api, *(uuid.uuid4() for _ in range(101)), key="loss").status_code == 422
    assert compare(api, run, other).status_code == 422
    assert compare(api, run, other, key="loss", points=5001).status_code == 422
    assert compare(api, run, foreign, key="loss").status_code == 404
    assert compare(api, run, "nonsense", key="loss").status_code == 404
    assert compare(api, run, other, key="loss").status_code == 200


def test_comparing_a_hundred_runs_costs_as_many_queries_as_two(
    api: ApiClient, team: Team, run: Run, log: Log, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    runs = [make_run(team, f"r{number}") for number in range(100)]
    for one in runs[::10]:
        log(one, {"loss": [(1, 1.0), (2, 2.0)]})
    with django_assert_max_num_queries(6):
        assert compare(api, *runs, key="loss").status_code == 200


def test_the_documentation_lists_the_operations(api: ApiClient) -> None:
    schema = api.get("/openapi.json").json()
    reading = schema["paths"]["/api/v1/runs/{run_id}/metrics/{key}"]["get"]
    assert {one["name"] for one in reading["parameters"]} == {"run_id", "key", "points", "from", "to"}
    stream = schema["paths"]["/api/v1/runs/{run_id}/events"]["get"]
    assert "text/event-stream" in stream["responses"]["200"]["content"]


def study(api: ApiClient, *runs: Run, **query: object) -> Any:
    parameters = [*(f"run={run.pk}" for run in runs), *(f"{name}={value}" for name, value in query.items())]
    return api.get(f"/compare/settings?{'&'.join(parameters)}")


def test_what_settings_do_to_a_metric(api: ApiClient, team: Team, log: Log) -> None:
    runs = [make_run(team, f"r{rate}", config={"rate": rate, "kind": "a", "seed": 3 * rate % 5}) for rate in range(6)]
    for run in runs[:5]:
        rate = run.config["rate"]
        log(run, {"loss": [(1, 9.0), (2, rate**2)], "speed": [(1, 1.0)]})
    body = study(api, *runs, metric="loss").json()
    assert body["settings"] == {"rate": list(range(6)), "seed": [0, 3, 1, 4, 2, 0]}
    assert body["metrics"] == {"loss": [0.0, 1.0, 4.0, 9.0, 16.0, None]}
    assert [run["name"] for run in body["runs"]] == [run.name for run in runs]
    first = body["importance"][0]
    assert (first["field"], first["correlation"], first["runs"]) == ("rate", pytest.approx(1), 5)
    assert study(api, *runs, metric="loss", figure="max").json()["metrics"]["loss"] == [9.0, 9.0, 9.0, 9.0, 16.0, None]
    assert study(api, *runs, metric="nothing").json()["importance"] == []
    assert study(api, *runs, metric="a%00b").status_code == 200


@pytest.mark.parametrize("query", [{}, {"metric": "loss", "figure": "mean"}])
def test_what_is_no_question_about_settings(api: ApiClient, team: Team, run: Run, query: dict[str, str]) -> None:
    assert study(api, run, make_run(team, "other"), **query).status_code == 422


def test_settings_of_others_are_not_told(api: ApiClient, other_team: Team, run: Run) -> None:
    assert study(api, run, make_run(other_team, "foreign"), metric="loss").status_code == 404
