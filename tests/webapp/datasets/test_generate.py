"""Datasets that a task of reasoning-gym makes up, by the real worker function."""

import json
from typing import Any

import pytest
from django.test import Client

from polm_core.data.rows import read_rows
from polm_core.gym.library import task_score
from tests.support.api import ApiClient
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.datasets import services
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.errors import Forbidden, Invalid
from workers.datasets import process


def finished(version: DatasetVersion) -> DatasetVersion:
    process(str(version.pk))
    version.refresh_from_db()
    return version


def rows_of(version: DatasetVersion) -> list[dict[str, Any]]:
    return read_rows(artifacts.local_folder(version.rows_key), 0, 100)


def test_a_worker_makes_rows_that_their_task_can_verify(actor: Actor, team: Team) -> None:
    choice: dict[str, Any] = {"task": "isomorphic_strings", "level": 1, "size": 12, "seed": 7}
    made = finished(services.dataset_generate(actor=actor, team=team, **choice))
    assert (made.status, made.format, made.rows) == ("ready", "prompt-answer", 12), made.report
    assert made.dataset.name == "isomorphic_strings, level 1, 12 rows"
    assert made.dataset.origin == "synthetic"
    assert made.derivation == {"kind": "task", "format": "prompt-answer", "version": "0.1.25", **choice}
    rows = rows_of(made)
    assert len(rows) == 12
    for row in rows:
        assert row.keys() == {"prompt", "answer", "task"}
        assert (row["task"]["name"], row["task"]["level"]) == ("isomorphic_strings", 1)
        assert task_score(row["answer"], row["answer"], row["task"]) == 1.0
    # This task goes by the order of sets, which differs from process to process.
    again = finished(services.dataset_generate(actor=actor, team=team, **choice))
    assert again.dataset.name == "isomorphic_strings, level 1, 12 rows 2"
    assert (again.sha256, rows_of(again)) == (made.sha256, rows)


def test_repeated_rows_are_counted(actor: Actor, team: Team) -> None:
    made = finished(services.dataset_generate(actor=actor, team=team, task="chain_sum", level=1, size=400))
    assert made.report["stats"]["duplicates"] > 0


def test_what_cannot_be_made_is_refused_by_field(actor: Actor, team: Team) -> None:
    with pytest.raises(Invalid) as refusal:
        services.dataset_generate(actor=actor, team=team, task="chain_sun", size=0, seed=-1)
    assert sorted(refusal.value.fields) == ["seed", "size", "task"]
    assert "did you mean chain_sum" in refusal.value.fields["task"][0]
    with pytest.raises(Invalid) as refusal:
        services.dataset_generate(actor=actor, team=team, task="gcd", level=9, size=5)
    assert refusal.value.fields == {"level": ["must be left out or one of 1, 2, 3, 4, which gcd has"]}
    services.dataset_generate(actor=actor, team=team, task="gcd", size=5, name="sums")
    with pytest.raises(Invalid, match="already has a dataset called Sums"):
        services.dataset_generate(actor=actor, team=team, task="gcd", size=5, name="Sums")
    assert Dataset.objects.count() == 1


def test_a_task_that_is_offered_no_more_leaves_the_dataset_readable(actor: Actor, team: Team, pages: Client) -> None:
    made = finished(services.dataset_generate(actor=actor, team=team, task="gcd", size=5))
    made.derivation["task"] = "gone"
    made.save(update_fields=["derivation"])
    page = pages.get(f"/datasets/{made.dataset_id}")
    assert page.status_code == 200
    assert "<b>gone</b>" in page.content.decode()


def test_viewers_make_nothing(viewer: User, team: Team) -> None:
    with pytest.raises(Forbidden):
        services.dataset_generate(actor=Actor(viewer), team=team, task="gcd", size=5)


def test_over_the_api(api: ApiClient) -> None:
    listed = api.get("/tasks").json()
    offered = {task["name"]: task for task in listed["items"]}
    assert listed["version"] == "0.1.25"
    assert len(offered) > 70
    assert "n_queens" in listed["left_out"]
    assert "n_queens" not in offered
    assert offered["chain_sum"]["levels"][0] == {
        "level": 1,
        "settings": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    }
    answer = api.post("/datasets/generate", {"task": "gcd", "level": 2, "size": 3, "seed": 1, "name": "divisors"})
    assert answer.status_code == 201, answer.content
    assert answer.json()["status"] == "processing"
    finished(DatasetVersion.objects.get(dataset=answer.json()["id"]))
    detail = api.get(f"/datasets/{answer.json()['id']}").json()
    assert (detail["name"], detail["status"], detail["rows"]) == ("divisors", "ready", 3)
    assert (detail["origin"], detail["derivation"]["task"], detail["derivation"]["seed"]) == ("synthetic", "gcd", 1)
    row = api.get(f"/datasets/{answer.json()['id']}/rows?limit=1").json()["items"][0]
    assert row["task"]["name"] == "gcd"


@pytest.mark.parametrize(
    ("body", "field", "problem"),
    [
        ({"task": "gdc", "size": 5}, "task", "did you mean gcd"),
        ({"task": "zebra_puzzles", "size": 5}, "task", "left out: it needs pycosat"),
        ({"task": "gcd", "size": 50_001}, "size", "50000"),
        ({"task": "gcd", "size": 5, "level": 0}, "level", "one of 1"),
        ({"task": "gcd", "size": 5, "seed": 2**40}, "seed", "less than or equal"),
        ({"task": "gcd", "size": 5, "min_value": 3}, "min_value", "permitted"),
    ],
)
def test_the_api_says_which_field_is_wrong(api: ApiClient, body: dict[str, Any], field: str, problem: str) -> None:
    answer = api.post("/datasets/generate", body)
    assert answer.status_code == 422, answer.content
    fields = answer.json()["error"]["fields"]
    assert list(fields) == [field]
    assert problem in json.dumps(fields)
    assert Dataset.objects.count() == 0


def test_the_form_shows_the_tasks_with_their_levels_and_a_row(
    pages: Client, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(12):
        page = pages.get("/datasets/generate").content.decode()
    for words in ('<optgroup label="Arithmetic">', "Chain sum", "1: terms 2, digits 1", "n_queens", "reasoning_gym"):
        assert words in page
    assert page.count("<option") > 75
    fragment = pages.get(
        "/datasets/generate", {"task": "countdown", "size": "50", "seed": "4"}, headers={"HX-Request": "true"}
    ).content.decode()
    assert "<html" not in fragment
    for words in ('<option value="countdown" selected>', "target 100 to 500", 'value="50"', "Provide"):
        assert words in fragment, words
    assert "terms 2, digits 1" not in fragment


def test_the_form_makes_a_dataset(pages: Client) -> None:
    sent = {"task": "chain_sum", "level": "2", "size": "6", "seed": "3", "name": ""}
    answer = pages.post("/datasets/generate", sent)
    made = DatasetVersion.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/datasets/{made.dataset_id}")
    waiting = pages.get(answer["Location"]).content.decode()
    assert "chain_sum, level 2, 6 rows is being made" in waiting
    finished(made)
    shown = pages.get(answer["Location"]).content.decode()
    for words in ("<b>chain_sum</b>", "task of reasoning-gym 0.1.25, level 2, seed 3", "Synthetic"):
        assert words in shown
    assert "Make from a task" in pages.get("/datasets/").content.decode()


def test_the_form_keeps_what_was_filled_in_beside_what_is_wrong(pages: Client) -> None:
    sent = {"task": "gcd", "level": "9", "size": "0", "seed": "5", "name": "mine"}
    answer = pages.post("/datasets/generate", sent)
    page = answer.content.decode()
    assert answer.status_code == 422
    for words in ('<option value="gcd" selected>', 'value="mine"', 'value="5"', "greater than or equal to 1"):
        assert words in page, words
    assert "9 is not one of the available choices" in page
    assert not Dataset.objects.exists()
