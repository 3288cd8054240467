"""Datasets made of other datasets, by the real worker function."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from polm_core.data.rows import read_rows
from polm_core.formats import Format
from tests.support.api import ApiClient
from tests.support.runs import make_run
from tests.webapp.datasets import files
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.datasets import selectors, services
from webapp.datasets.derivations import ConversionDerivation
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.errors import Conflict, Forbidden, Invalid
from webapp.runs.models import Run
from workers.datasets import process

MakePrepared = Callable[..., DatasetVersion]


def finished(version: DatasetVersion) -> DatasetVersion:
    process(str(version.pk))
    version.refresh_from_db()
    return version


def rows_of(version: DatasetVersion) -> list[dict[str, Any]]:
    return read_rows(artifacts.local_folder(version.rows_key), 0, 100)


def ratings(*labels: bool) -> bytes:
    return files.jsonl(
        [
            {"prompt": f"Which number is {n // 2}?", "completion": f"It is {n}.", "label": label}
            for n, label in enumerate(labels)
        ]
    )


def test_pairs_become_ratings_in_a_dataset_of_their_own(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(files.preferences(5), name="pairs", origin="distilled", origin_model="big")
    made = finished(services.dataset_convert(actor=actor, version=source, to="rating"))
    assert (made.status, made.format, made.rows) == ("ready", "rating", 10), made.report
    assert made.dataset.name == "pairs as rating"
    assert (made.dataset.origin, made.dataset.origin_model) == ("distilled", "big")
    assert made.made_from == source
    assert made.report["why"] == "converted from 5 rows of preference"
    assert [row["label"] for row in rows_of(made)[:2]] == [True, False]
    assert rows_of(made)[1]["completion"] == [{"role": "assistant", "content": "Nobody knows."}]
    source.refresh_from_db()
    assert (source.format, source.rows) == ("preference", 5)


def test_a_second_dataset_of_the_kind_gets_another_name(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(files.preferences(2), name="pairs")
    names = [services.dataset_convert(actor=actor, version=source, to="prompt").dataset.name for _ in range(3)]
    assert names == ["pairs as prompt", "pairs as prompt 2", "pairs as prompt 3"]
    with pytest.raises(Invalid, match="already has a dataset called PAIRS"):
        services.dataset_convert(actor=actor, version=source, to="prompt", name="PAIRS")


def test_ratings_become_pairs_where_a_prompt_has_both(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(ratings(True, False, True, True, False, True))
    made = finished(services.dataset_convert(actor=actor, version=source, to="preference"))
    assert [row["chosen"][0]["content"] for row in rows_of(made)] == ["It is 0.", "It is 5."]


def test_the_conversions_say_how_many_rows_they_give(make_prepared: MakePrepared) -> None:
    version = make_prepared(ratings(True, False, True, True))
    found = {one.to: (one.rows, one.exact) for one in selectors.conversions(version)}
    assert found == {
        Format.CONVERSATION: (3, True),
        Format.PROMPT_COMPLETION: (3, True),
        Format.PREFERENCE: (1, False),
        Format.PROMPT: (4, True),
    }


def test_a_conversion_that_would_give_no_rows_is_refused(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(ratings(False, False))
    for to, says in (("prompt-completion", "The good answers"), ("preference", "a prompt has both")):
        with pytest.raises(Invalid, match="No row would come of it") as refusal:
            services.dataset_convert(actor=actor, version=source, to=to)
        assert says in refusal.value.message
    assert Dataset.objects.count() == 1


def test_one_that_turns_out_to_give_none_says_so(make_prepared: MakePrepared, actor: Actor) -> None:
    # Each prompt has one kind of answer, which only reading them all tells.
    source = make_prepared(ratings(True, True, False, False))
    made = finished(services.dataset_convert(actor=actor, version=source, to="preference"))
    assert (made.status, made.report["error"]["code"]) == ("invalid", "data.nothing-converted")


def test_what_cannot_become_something_else_is_refused(make_prepared: MakePrepared, actor: Actor) -> None:
    texts = make_prepared(files.jsonl([{"text": f"Text {n}."} for n in range(3)]))
    for to in ("preference", "xml"):
        with pytest.raises(Invalid, match="cannot become") as refusal:
            services.dataset_convert(actor=actor, version=texts, to=to)
        assert refusal.value.fields == {"to": ["must be one of documents"]}


def test_a_source_that_is_deleted_before_its_turn(make_prepared: MakePrepared, actor: Actor) -> None:
    source = make_prepared(files.preferences(3))
    made = services.dataset_convert(actor=actor, version=source, to="rating")
    services.dataset_delete(actor=actor, dataset=source.dataset)
    made = finished(made)
    assert made.status == "invalid"
    assert "whose rows were to be converted is deleted" in made.report["error"]["message"]


def test_converted_rows_have_no_mapping_to_change(make_prepared: MakePrepared, actor: Actor, pages: Client) -> None:
    source = make_prepared(files.preferences(3))
    made = finished(services.dataset_convert(actor=actor, version=source, to="rating"))
    with pytest.raises(Conflict, match="no mapping to change"):
        services.dataset_remap(actor=actor, dataset=made.dataset, format="prompt")
    with pytest.raises(Conflict, match="nothing to map"):
        selectors.version_preview(made)
    assert pages.get(f"/datasets/{made.dataset_id}/mapping").status_code == 200


def test_viewers_convert_and_extend_nothing(make_prepared: MakePrepared, viewer: User) -> None:
    version = make_prepared(files.preferences(3))
    derivation = ConversionDerivation(source=Format.PREFERENCE, format=Format.PREFERENCE)
    with pytest.raises(Forbidden):
        services.dataset_convert(actor=Actor(viewer), version=version, to="rating")
    with pytest.raises(Forbidden):
        services.dataset_extend(actor=Actor(viewer), dataset=version.dataset, derivation=derivation)


def test_over_the_api(api: ApiClient, make_prepared: MakePrepared) -> None:
    source = make_prepared(files.preferences(4), name="pairs")
    listed = api.get(f"/datasets/{source.dataset_id}/conversions").json()["items"]
    assert [(one["to"], one["rows"], one["exact"]) for one in listed] == [
        ("rating", 8, True),
        ("conversation", 4, True),
        ("prompt-completion", 4, True),
        ("prompt", 4, True),
    ]
    assert listed[0]["says"] == "The chosen answer is good and the rejected one bad."
    answer = api.post(f"/datasets/{source.dataset_id}/convert", {"to": "rating", "name": "thumbs"})
    assert answer.status_code == 201, answer.content
    finished(DatasetVersion.objects.get(dataset=answer.json()["id"]))
    detail = api.get(f"/datasets/{answer.json()['id']}").json()
    assert (detail["name"], detail["status"], detail["format"], detail["rows"]) == ("thumbs", "ready", "rating", 8)
    assert detail["made_from"] == {"dataset": str(source.dataset_id), "name": "pairs", "version": 1}
    assert detail["derivation"] == {"kind": "conversion", "source": "preference", "format": "rating"}
    refused = api.post(f"/datasets/{source.dataset_id}/convert", {"to": "stepwise"})
    assert (refused.status_code, list(refused.json()["error"]["fields"])) == (422, ["to"])


def test_on_the_page(pages: Client, make_prepared: MakePrepared, django_assert_max_num_queries: Any) -> None:
    source = make_prepared(ratings(True, False, True), name="thumbs")
    address = f"/datasets/{source.dataset_id}"
    page = pages.get(address).content.decode()
    for words in ("Make others", "The good answers.", "at most", "A good and a bad answer"):
        assert words in page
    answer = pages.post(f"{address}/convert", {"to": "prompt-completion", "version": "1"})
    made = DatasetVersion.objects.get(made_from=source)
    assert (answer.status_code, answer["Location"]) == (302, f"/datasets/{made.dataset_id}")
    assert "being converted into thumbs as prompt and completion" in pages.get(answer["Location"]).content.decode()
    finished(made)
    shown = pages.get(answer["Location"]).content.decode()
    assert "converted from rating" in shown
    assert f'href="{address}?version=1"' in shown
    assert "Mapping" not in shown
    assert "Made from these rows" in pages.get(address).content.decode()
    refused = pages.post(f"{address}/convert", {"to": "stepwise"}, follow=True)
    assert "cannot become" in refused.content.decode()
    for number in range(5):
        finished(DatasetVersion.objects.create(dataset=made.dataset, number=number + 2, **_like(made)))
    with django_assert_max_num_queries(20):
        pages.get(address)


def _like(version: DatasetVersion) -> dict[str, Any]:
    return {
        "derivation": version.derivation,
        "made_from": version.made_from,
        "requested_format": version.requested_format,
    }


def test_viewers_see_conversions_without_buttons(
    signed_in: Callable[[User], Client], viewer: User, make_prepared: MakePrepared
) -> None:
    version = make_prepared(files.preferences(3))
    client = signed_in(viewer)
    page = client.get(f"/datasets/{version.dataset_id}").content.decode()
    assert "The chosen answers." in page
    assert "/convert" not in page
    assert client.post(f"/datasets/{version.dataset_id}/convert", {"to": "rating"}).status_code == 403


def test_a_converted_dataset_trains_like_any_other(make_prepared: MakePrepared, actor: Actor, team: Team) -> None:
    source = make_prepared(files.preferences(3))
    made = finished(services.dataset_convert(actor=actor, version=source, to="rating"))
    run: Run = make_run(team, dataset_version=made)
    with pytest.raises(Conflict, match="used this dataset"):
        services.dataset_delete(actor=actor, dataset=made.dataset)
    assert run.dataset_version.sha256 == made.sha256
