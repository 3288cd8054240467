"""Indexes over pages and API."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from tests.support import factories
from tests.support.api import ApiClient
from tests.support.indexes import documents, make_index
from webapp.accounts.access import Actor
from webapp.accounts.models import User
from webapp.claimed import WorkStatus
from webapp.retrieval.models import DocumentIndex, Lookup


@pytest.fixture
def browsing(signed_in: Callable[[User], Client], member: User) -> Client:
    return signed_in(member)


def found(lookup: Lookup, text: str) -> None:
    passage = {"document": 2, "title": "Bridges", "text": text, "score": 0.5}
    Lookup.objects.filter(pk=lookup.pk).update(status=WorkStatus.DONE, passages=[passage])


def test_from_documents_to_an_index_in_one_form(browsing: Client, actor: Actor) -> None:
    assert b"No documents are indexed yet" in browsing.get(reverse("indexes")).content
    assert b"There are no documents" in browsing.get(reverse("index-new")).content
    version = factories.make_version(actor, "handbook", documents(3))
    form = browsing.get(reverse("index-new")).content.decode()
    assert "handbook" in form
    assert "128" in form
    bad = browsing.post(reverse("index-new"), {"dataset": version.dataset_id, "chunk_tokens": 8, "overlap": 0})
    assert bad.status_code == 422
    assert b"greater than or equal to 16" in bad.content
    made = browsing.post(reverse("index-new"), {"dataset": version.dataset_id, "chunk_tokens": 64, "overlap": 0})
    index = DocumentIndex.objects.get()
    assert made.url == reverse("index", args=[index.pk])
    shown = browsing.get(made.url).content.decode()
    assert "0 of 3 documents" in shown
    assert "Find passages" not in shown
    browsing.post(reverse("index-stop", args=[index.pk]))
    browsing.post(reverse("index-resume", args=[index.pk]))
    index.refresh_from_db()
    assert index.status == WorkStatus.WAITING
    browsing.post(reverse("index-delete", args=[index.pk]))
    assert not DocumentIndex.objects.exists()


def test_a_question_is_looked_up_and_its_passages_are_text_that_links_to_their_rows(
    browsing: Client, actor: Actor
) -> None:
    index, _ = make_index(actor)
    address = reverse("index", args=[index.pk])
    refused = browsing.post(address, {"question": "Why?", "top_k": 0, "min_score": 0})
    assert refused.status_code == 422
    asked = browsing.post(address, {"question": "Why?", "top_k": 2, "min_score": 0})
    lookup = Lookup.objects.get(question="Why?")
    assert asked.url == f"{address}?lookup={lookup.pk}#lookup"
    waiting = browsing.get(f"{address}?lookup={lookup.pk}", headers={"hx-request": "true"}).content.decode()
    assert "A worker looks it up" in waiting
    found(lookup, "<script>alert(1)</script>")
    done = browsing.get(f"{address}?lookup={lookup.pk}").content.decode()
    assert "&lt;script&gt;alert(1)" in done
    assert f"{reverse('dataset-rows', args=[index.dataset_version.dataset_id])}?version=1&amp;offset=2" in done


def test_the_list_takes_as_many_queries_however_long_it_is(
    browsing: Client, actor: Actor, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for name in ("one", "two", "three"):
        make_index(actor, name)
    with django_assert_max_num_queries(8):
        assert browsing.get(reverse("indexes")).content.count(b"documents v1") == 3


def test_the_same_over_the_api(api: ApiClient, actor: Actor) -> None:
    version = factories.make_version(actor, "handbook", documents(3))
    answer = api.post("/indexes", {"dataset": str(version.dataset_id), "settings": {"chunk_tokens": 32}})
    assert answer.status_code == 201, answer.json()
    made = answer.json()
    assert (made["status"], made["total_documents"], made["chunk_tokens"]) == ("waiting", 3, 32)
    refused = api.post(f"/indexes/{made['id']}/lookups", {"question": "Why?"})
    assert refused.status_code == 409
    assert api.post(f"/indexes/{made['id']}/stop").json()["status"] == "stopped"
    assert api.post(f"/indexes/{made['id']}/resume").json()["status"] == "waiting"
    assert api.delete(f"/indexes/{made['id']}").status_code == 204
    index, _ = make_index(actor)
    lookup = api.post(f"/indexes/{index.pk}/lookups", {"question": "Why?", "settings": {"top_k": 1}}).json()
    assert (lookup["status"], lookup["top_k"]) == ("waiting", 1)
    found(Lookup.objects.get(pk=lookup["id"]), "There are two.")
    assert api.get(f"/lookups/{lookup['id']}").json()["passages"][0]["document"] == 2
    assert [one["id"] for one in api.get("/indexes").json()["items"]] == [str(index.pk)]
    assert (
        api.post("/indexes", {"dataset": str(version.dataset_id), "settings": {"chunk_tokens": 1}}).status_code == 422
    )
