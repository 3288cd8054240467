"""Datasets made of the rows of others: split, filtered, mixed, by the real worker function."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support.api import ApiClient
from tests.webapp.datasets import files
from tests.webapp.datasets.test_conversions import finished, ratings, rows_of
from webapp.accounts.access import Actor
from webapp.accounts.models import User
from webapp.datasets import choosing, services
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.errors import Forbidden, Invalid

MakePrepared = Callable[..., DatasetVersion]


def test_a_split_makes_two_datasets_that_hold_each_row_once(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(ratings(*[True, False] * 20), name="thumbs", origin="distilled", origin_model="big")
    train, held_out = map(finished, choosing.dataset_split(actor=actor, version=source, share=0.25, seed=7))
    assert (train.rows, held_out.rows) == (30, 10), train.report
    assert [one.dataset.name for one in (train, held_out)] == ["thumbs train", "thumbs held-out"]
    assert {(one.dataset.origin, one.format, one.made_from) for one in (train, held_out)} == {
        ("distilled", "rating", source)
    }
    assert sorted(map(str, [*rows_of(train), *rows_of(held_out)])) == sorted(map(str, rows_of(source)))


def test_a_filter_keeps_what_fits(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(ratings(*[True] * 12), name="thumbs")
    made = finished(choosing.dataset_filter(actor=actor, version=source, contains=r"It is 1\d?\."))
    assert [row["completion"][0]["content"] for row in rows_of(made)] == ["It is 1.", "It is 10.", "It is 11."], (
        made.report
    )
    nothing = finished(choosing.dataset_filter(actor=actor, version=source, contains="snow"))
    assert nothing.report["error"]["message"] == "None of 12 rows fits what was asked for."


def test_a_mixture_says_what_it_is_made_of(make_prepared: MakePrepared, actor: Actor, pages: Client) -> None:
    many, few = make_prepared(ratings(*[True] * 40), name="many"), make_prepared(ratings(*[False] * 10), name="few")
    parts = [(many.dataset_id, 3), (few.dataset_id, "1")]
    made = finished(choosing.dataset_mix(actor=actor, parts=parts, rows=20, seed=1))
    assert (made.rows, made.format, made.dataset.name) == (20, "rating", "Mixture of many, few"), made.report
    labels = [row["label"] for row in rows_of(made)]
    assert (labels.count(True), labels.count(False)) == (15, 5)
    assert labels != sorted(labels, reverse=True), "they are mixed"
    shown = pages.get(f"/datasets/{made.dataset_id}").content.decode()
    assert "15 of many v1" in shown
    assert "5 of few v1" in shown


def test_what_is_mixed_and_deleted_before_its_turn(make_prepared: MakePrepared, actor: Actor) -> None:
    one, other = make_prepared(ratings(True, True), name="one"), make_prepared(ratings(False, False), name="other")
    made = choosing.dataset_mix(actor=actor, parts=[(one.dataset_id, 1), (other.dataset_id, 1)])
    services.dataset_delete(actor=actor, dataset=other.dataset)
    assert "other v1 is deleted" in finished(made).report["error"]["message"]


@pytest.mark.parametrize(
    ("deed", "values", "field"),
    [
        ("split", {"share": 0}, "share"),
        ("split", {"share": 1}, "share"),
        ("split", {"share": "nan"}, "share"),
        ("split", {"share": 0.1, "by": "weather"}, "by"),
        ("split", {"share": 0.1, "seed": -1}, "seed"),
        ("filter", {}, "__all__"),
        ("filter", {"contains": "(a"}, "contains"),
        ("filter", {"least_characters": -1}, "least_characters"),
        ("filter", {"least_characters": 5, "most_characters": 4}, "__all__"),
    ],
)
def test_choices_that_make_no_sense_make_nothing(
    make_prepared: MakePrepared, actor: Actor, deed: str, values: dict[str, Any], field: str
) -> None:
    source = make_prepared(ratings(True, False, True), name="thumbs")
    with pytest.raises(Invalid) as refused:
        getattr(choosing, f"dataset_{deed}")(actor=actor, version=source, **values)
    assert list(refused.value.fields) == [field]
    assert Dataset.objects.count() == 1


def test_texts_have_no_prompts_to_split_by(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(files.jsonl([{"text": f"Text {n}."} for n in range(4)]))
    with pytest.raises(Invalid, match="no prompts"):
        choosing.dataset_split(actor=actor, version=source, share=0.5, by="prompt")


@pytest.mark.parametrize(
    ("weights", "rows", "says"),
    [
        ([1], None, "must be 2 to 20 datasets"),
        ([1, 0], None, "numbers above 0"),
        ([1, "much"], None, "numbers above 0"),
        ([1, 1], 9, "at most 8 rows"),
        ([1, 1, 1], None, "one format"),
    ],
)
def test_mixtures_that_make_no_sense_make_nothing(
    make_prepared: MakePrepared, actor: Actor, weights: list[Any], rows: int | None, says: str
) -> None:
    made = [
        make_prepared(ratings(*[True] * 4), name="one"),
        make_prepared(ratings(*[False] * 5), name="two"),
        make_prepared(files.preferences(5), name="pairs"),
    ]
    with pytest.raises(Invalid) as refused:
        choosing.dataset_mix(
            actor=actor, parts=[(one.dataset_id, weight) for one, weight in zip(made, weights, strict=False)], rows=rows
        )
    assert says in str(refused.value.fields)
    assert Dataset.objects.count() == 3


def test_a_dataset_is_not_mixed_with_itself(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(ratings(True, False))
    with pytest.raises(Invalid, match="named twice"):
        choosing.dataset_mix(actor=actor, parts=[(source.dataset_id, 1), (source.dataset_id, 1)])


def test_viewers_choose_nothing(make_prepared: MakePrepared, viewer: User) -> None:
    source = make_prepared(ratings(True, False))
    with pytest.raises(Forbidden):
        choosing.dataset_split(actor=Actor(viewer), version=source, share=0.5)


def test_over_the_api(api: ApiClient, make_prepared: MakePrepared) -> None:
    source = make_prepared(ratings(*[True] * 10), name="thumbs")
    other = make_prepared(ratings(*[False] * 10), name="others")
    answer = api.post(f"/datasets/{source.dataset_id}/split", {"share": 0.2, "by": "prompt"})
    assert answer.status_code == 201, answer.content
    assert api.get(f"/datasets/{answer.json()['held_out']['id']}").json()["derivation"]["choice"]["side"] == "held-out"
    answer = api.post(f"/datasets/{source.dataset_id}/filter", {"distinct": True, "name": "unlike"})
    assert (answer.status_code, api.get(f"/datasets/{answer.json()['id']}").json()["name"]) == (201, "unlike")
    parts = [{"dataset": str(one.dataset_id)} for one in (source, other)]
    answer = api.post("/datasets/mix", {"parts": parts, "rows": 6})
    assert answer.status_code == 201, answer.content
    derivation = api.get(f"/datasets/{answer.json()['id']}").json()["derivation"]
    assert [part["take"] for part in derivation["parts"]] == [3, 3]
    refused = api.post("/datasets/mix", {"parts": parts, "rows": 60})
    assert (refused.status_code, list(refused.json()["error"]["fields"])) == (422, ["rows"])


def test_on_the_pages(pages: Client, make_prepared: MakePrepared) -> None:
    source = make_prepared(ratings(*[True] * 10), name="thumbs")
    other = make_prepared(ratings(*[False] * 10), name="others")
    address = f"/datasets/{source.dataset_id}"
    for deed, wrong, right in (
        ("split", {"share": "2", "by": "random", "seed": "0"}, {"share": "0.2", "by": "content", "seed": "0"}),
        ("filter", {"contains": "(a"}, {"contains": "It", "name": "kept"}),
    ):
        assert f'href="{address}/{deed}"' in pages.get(address).content.decode()
        assert pages.get(f"{address}/{deed}").status_code == 200
        refused = pages.post(f"{address}/{deed}", wrong)
        assert refused.status_code == 422
        assert next(iter(wrong.values())) in refused.content.decode(), "what was typed stays"
        assert pages.post(f"{address}/{deed}", right).status_code == 302

    mixing = {"part": [source.dataset_id, other.dataset_id, ""], "weight": ["1", "1", "1"], "seed": "0"}
    counted = pages.post("/datasets/mix", mixing, headers={"HX-Request": "true"}).content.decode()
    assert counted.count("10 rows</span>") == 2
    refused = pages.post("/datasets/mix", {**mixing, "weight": ["1", "none", "1"]})
    assert (refused.status_code, "numbers above 0" in refused.content.decode()) == (422, True)
    answer = pages.post("/datasets/mix", mixing)
    assert (answer.status_code, Dataset.objects.filter(name="Mixture of thumbs, others").count()) == (302, 1)
