"""Runs over REST: what a program sees, in what order, and in how many queries."""

import json
from datetime import datetime
from typing import Any

import pytest
import yaml
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.api import ApiClient
from tests.support.runs import make_run
from webapp.accounts.models import Team, User
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Preflight, Project, RunLog, RunSample, Status

pytestmark = pytest.mark.django_db


def test_methods_carry_their_schema(api: ApiClient) -> None:
    methods = api.get("/methods").json()
    slugs = [method["slug"] for method in methods]
    assert {"sft", "dpo", "lora"} <= set(slugs)
    sft = api.get("/methods/sft").json()
    assert sft["config_schema"]["properties"]["learning_rate"]["default"] > 0
    assert sft["paper"].startswith("https://arxiv.org/")
    trains = {method["slug"]: method["makes_checkpoints"] for method in methods}
    assert (trains["sft"], trains["test-time-scaling"]) == (True, False)
    assert api.get("/methods/nonsense").status_code == 404


def test_a_run_is_created_once_for_a_request_id(api: ApiClient, team: Team) -> None:
    run = make_run(team)
    DatasetVersion.objects.update(format="conversation")
    body = {
        "method": "sft",
        "model": str(run.model_id),
        "dataset": str(run.dataset_version.dataset_id),
        "config": {"max_steps": 3},
        "tags": ["baseline"],
        "request_id": "once",
    }
    first, second = api.post("/runs", body), api.post("/runs", body)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == {"id": second.json()["id"], "status": "queued"}


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"method": "nonsense"}, 422, "method"),
        ({"config": {"max_steps": -1}}, 422, "config.max_steps"),
        ({"config": {"nonsense": 1}}, 422, "config.nonsense"),
        ({"dataset": "nonsense"}, 422, "dataset"),
        ({"model": "/etc"}, 422, "model"),
        ({"priority": 11}, 422, "priority"),
        ({"unknown": 1}, 422, "unknown"),
        ({"tags": "a"}, 422, "tags"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    api: ApiClient, team: Team, changes: dict[str, Any], status: int, field: str
) -> None:
    run = make_run(team)
    DatasetVersion.objects.update(format="conversation")
    body = {"method": "sft", "model": str(run.model_id), "dataset": str(run.dataset_version.dataset_id), **changes}
    answer = api.post("/runs", body)
    assert answer.status_code == status, answer.content
    assert field in answer.json()["error"]["fields"]
    assert team.runs.count() == 1


def test_a_body_that_is_no_json_is_malformed(api: ApiClient) -> None:
    answer = api._client.generic("POST", "/api/v1/runs", b"{half", content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_the_list_pages_newest_first_without_repeats(api: ApiClient, team: Team) -> None:
    made = [str(make_run(team, f"run {number}").pk) for number in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        answer = api.get("/runs", {"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [run["id"] for run in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


def test_filters(api: ApiClient, team: Team) -> None:
    make_run(team, "alpha", status=Status.SUCCEEDED, tags=["baseline"])
    make_run(team, "beta", method="dpo", status=Status.FAILED)

    def names(**query: str) -> list[str]:
        return [run["name"] for run in api.get("/runs", query).json()["items"]]

    assert names(status="succeeded") == ["alpha"]
    assert names(status="succeeded,failed") == ["beta", "alpha"]
    assert names(method="dpo") == ["beta"]
    assert names(tag="baseline") == ["alpha"]
    assert names(q="alp") == ["alpha"]
    assert names(q="baseline") == ["alpha"]
    assert names(q="%") == []
    assert api.get("/runs", {"status": "nonsense"}).status_code == 422
    assert api.get("/runs", {"limit": 0}).status_code == 422
    assert api.get("/runs", {"cursor": "nonsense"}).status_code == 422


def test_the_list_costs_the_same_for_any_number_of_runs(api: ApiClient, team: Team, member: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert api.get("/runs", {"limit": 200}).status_code == 200
        return len(captured)

    make_run(team, "first", created_by=member)
    queries()  # the first call also notes that the token was used
    few = queries()
    for number in range(30):
        make_run(team, f"run {number}", created_by=member)
    assert queries() == few


def test_a_run_with_its_summary(api: ApiClient, team: Team) -> None:
    run = make_run(team, status=Status.RUNNING, step=3, total_steps=10)
    MetricWriter(run.pk).append([MetricLine(step, 0.0, {"loss": 1.0 / step}) for step in (1, 2, 4)])
    found = api.get(f"/runs/{run.pk}").json()
    assert (found["status"], found["step"], found["total_steps"]) == ("running", 3, 10)
    assert found["summary"] == {"loss": {"last": 0.25, "min": 0.25, "max": 1.0, "count": 3}}


def test_moves_answer_409_in_the_wrong_state(api: ApiClient, team: Team) -> None:
    run = make_run(team)
    assert api.post(f"/runs/{run.pk}/stop").json()["status"] == "stopped"
    assert api.post(f"/runs/{run.pk}/stop").status_code == 409
    assert api.post(f"/runs/{run.pk}/resume").json()["status"] == "queued"
    assert api.post(f"/runs/{run.pk}/nonsense").status_code in {404, 405}


def test_a_run_is_moved_to_another_project(api: ApiClient, team: Team, other_team: Team) -> None:
    run = make_run(team)
    theirs = Project.objects.create(team=other_team, name="Theirs")
    assert api.patch(f"/runs/{run.pk}", {"project": "Sums", "name": "moved"}).json()["project"] == "Sums"
    assert api.patch(f"/runs/{run.pk}", {"project": str(theirs.pk), "name": "lost"}).status_code == 422
    run.refresh_from_db()
    assert (run.project.name, run.name) == ("Sums", "moved")


def test_names_notes_and_tags_can_be_changed(api: ApiClient, team: Team) -> None:
    run = make_run(team)
    answer = api.patch(f"/runs/{run.pk}", {"name": "better", "tags": ["a", "a", "b"]})
    assert (answer.json()["name"], answer.json()["tags"]) == ("better", ["a", "b"])
    assert api.patch(f"/runs/{run.pk}", {"name": " "}).status_code == 422
    assert api.patch(f"/runs/{run.pk}", {"status": "succeeded"}).status_code == 422


def test_logs_by_tail_and_from_an_offset(api: ApiClient, team: Team) -> None:
    run = make_run(team)
    offset = 0
    for piece in ("one\ntwo\n", "three ä\n", "four\n"):
        RunLog.objects.create(run=run, offset=offset, text=piece)
        offset += len(piece.encode())
    assert api.get(f"/runs/{run.pk}/logs", {"tail": 2}).json() == {"text": "three ä\nfour\n", "end": offset}
    assert api.get(f"/runs/{run.pk}/logs", {"start": 8}).json() == {"text": "three ä\nfour\n", "end": offset}
    assert api.get(f"/runs/{run.pk}/logs", {"start": offset}).json() == {"text": "", "end": offset}
    for nonsense in ({"tail": 0}, {"tail": -3}, {"start": -1}, {"start": 10**30}):
        assert api.get(f"/runs/{run.pk}/logs", nonsense).status_code == 422


def test_samples_by_step(api: ApiClient, team: Team) -> None:
    run = make_run(team)
    for offset, step in enumerate((0, 0, 5)):
        RunSample.objects.create(run=run, step=step, offset=offset, prompt="p", completion=str(step), data={})
    assert [one["step"] for one in api.get(f"/runs/{run.pk}/samples").json()["items"]] == [5, 0, 0]
    assert len(api.get(f"/runs/{run.pk}/samples", {"step": 5}).json()["items"]) == 1
    RunSample.objects.filter(step=5).update(is_rollout=True)
    for asked, steps in ((True, [5]), (False, [0, 0])):
        found = api.get(f"/runs/{run.pk}/samples", {"rollouts": asked}).json()["items"]
        assert [(one["step"], one["is_rollout"]) for one in found] == [(step, asked) for step in steps]


def test_the_config_file_reads_back(api: ApiClient, team: Team) -> None:
    run = make_run(team, config={"max_steps": 3, "adapter": {"type": "lora"}})
    answer = api.get(f"/runs/{run.pk}/config.yaml")
    assert answer.headers["Content-Type"] == "application/yaml"
    found = yaml.safe_load(answer.content)
    assert found["config"] == {"max_steps": 3, "adapter": {"type": "lora"}}
    assert found["method"] == "sft"


def test_the_queue_says_why_a_run_waits(api: ApiClient, team: Team) -> None:
    first, second = make_run(team, "first"), make_run(team, "second", priority=3)
    items = api.get("/queue").json()["items"]
    assert [(item["id"], item["ahead"]) for item in items] == [(str(second.pk), 0), (str(first.pk), 1)]
    assert all("no worker" in item["reason"] for item in items)


def test_a_preflight_that_a_worker_answered_is_passed_on(api: ApiClient, team: Team) -> None:
    run = make_run(team)
    DatasetVersion.objects.update(format="conversation")
    body = {"method": "sft", "model": str(run.model_id), "dataset": str(run.dataset_version.dataset_id)}
    from webapp.accounts.access import Actor
    from webapp.runs.services import preflight_finish, preflight_request

    asked = preflight_request(actor=Actor(team.members.get()), **body)
    preflight_finish(preflight_id=str(asked.pk), report={"rows_total": 7})
    known = {"rows_total": 7, "expected_seconds": None, "expected_from_runs": 0}
    assert api.post("/runs/preflight", body).json() == known
    assert Preflight.objects.count() == 1
    assert api.post("/runs/preflight", {**body, "row": -1}).status_code == 422
    # Without a row that can be looked at there is none to show.
    assert api.post("/runs/preflight", {**body, "row": 0}).json() == known | {"example_row": None}
    preflight_finish(preflight_id=str(asked.pk), report={"first_example": {"rows": 2}})
    shown = preflight_request(actor=Actor(team.members.get()), row=1, **body)
    preflight_finish(preflight_id=str(shown.pk), report={"row": 1})
    assert api.post("/runs/preflight", {**body, "row": 1}).json()["example_row"] == {"row": 1}
    assert api.post("/runs/preflight", {**body, "config": {"epochs": -1}}).status_code == 422


def test_deleting_frees_the_dataset(api: ApiClient, team: Team, member: User) -> None:
    run = make_run(team, status=Status.SUCCEEDED, created_by=member)
    dataset = Dataset.objects.get()
    DatasetVersion.objects.update(status=VersionStatus.READY)
    refused = api.delete(f"/datasets/{dataset.pk}")
    assert refused.status_code == 409
    assert str(run.pk) in json.dumps(refused.json())
    assert api.delete(f"/runs/{run.pk}").status_code == 204
    assert api.delete(f"/datasets/{dataset.pk}").status_code in {200, 204}


def test_text_that_cannot_be_stored_is_refused(api: ApiClient, team: Team) -> None:
    run = make_run(team)
    DatasetVersion.objects.update(format="conversation")
    body = {"method": "sft", "model": str(run.model_id), "dataset": str(run.dataset_version.dataset_id)}
    answers = [
        api.patch(f"/runs/{run.pk}", {"name": "a\0b"}),
        api.post("/runs", {**body, "project": "a\0b"}),
        api.get("/runs", {"q": "a\0b"}),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert all("NUL" in answer.json()["error"]["message"] for answer in answers)
    assert team.runs.count() == 1


@pytest.mark.parametrize(("status", "told"), [(Status.RUNNING, True), (Status.FAILED, False)])
def test_a_stall_is_told_while_the_run_is_worked_on(api: ApiClient, team: Team, status: Status, told: bool) -> None:
    since = "2026-01-01T10:00:00+00:00"
    run = make_run(team, status=status, progress={"step": 3, "stalled_since": since})
    found = api.get(f"/runs/{run.pk}").json()["stalled_since"]
    assert (found is not None and datetime.fromisoformat(found) == datetime.fromisoformat(since)) == told
    assert (api.get("/runs").json()["items"][0]["stalled_since"] is not None) == told
