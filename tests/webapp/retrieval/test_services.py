"""Indexing, looking up, and what each refuses."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from polm_core.retrieval.config import FindConfig
from tests.support import factories
from tests.support.indexes import axis, chunk, documents, finish, make_index
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.claimed import WorkStatus
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.services import dataset_delete
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.retrieval import selectors, services
from webapp.retrieval.models import Chunk, DocumentIndex, Lookup


@pytest.fixture
def version(actor: Actor) -> DatasetVersion:
    return factories.make_version(actor, "handbook", documents(3))


def make(actor: Actor, version: DatasetVersion, **values: Any) -> DocumentIndex:
    return services.index_create(actor=actor, dataset=version.dataset_id, **values)


def claimed() -> DocumentIndex:
    found = services.index_claim()
    assert found is not None
    return found


def lose() -> None:
    """The worker falls silent."""
    DocumentIndex.objects.update(lease_until=timezone.now() - timedelta(seconds=1))


def test_an_index_is_built_in_parts_and_a_worker_that_takes_over_goes_on(actor: Actor, version: DatasetVersion) -> None:
    index = make(actor, version, settings={"chunk_tokens": 64, "overlap": 8})
    assert (index.name, index.chunk_tokens, index.overlap) == ("handbook", 64, 8)
    first = claimed()
    assert services.index_add(index=first, documents=2, chunks=[chunk(0), chunk(1)], eta=3.0)
    lose()
    assert selectors.indexes_wait()
    second = claimed()
    assert second.documents == 2
    assert not services.index_add(index=first, documents=1, chunks=[chunk(2)], eta=None)
    assert services.index_add(index=second, documents=1, chunks=[chunk(2)], eta=None)
    assert services.index_finish(index=second)
    index.refresh_from_db()
    assert (index.status, index.documents, index.chunks) == (WorkStatus.DONE, 3, 3)
    assert list(Chunk.objects.values_list("document", flat=True).order_by("document")) == [0, 1, 2]


def test_the_nearest_passages_are_those_of_this_index_alone(actor: Actor) -> None:
    index, _ = make_index(actor, "town")
    make_index(actor, "city")
    vector = [0.8, 0.6, *axis(0)[2:]]
    found = services.passages_nearest(index, vector, FindConfig(top_k=3, min_score=0.1))
    assert [(one["title"], one["score"]) for one in found] == [("town 0", 0.8), ("town 1", 0.6)]
    assert services.passages_nearest(index, axis(100), FindConfig(top_k=3, min_score=0.1)) == []


def test_nothing_is_looked_up_in_an_index_that_is_still_being_built(actor: Actor, version: DatasetVersion) -> None:
    index = make(actor, version)
    with pytest.raises(Conflict, match="not ready"):
        services.lookup_create(actor=actor, index=index, question="Why?")
    assert selectors.indexes_ready(actor, actor.current_team) == []
    assert not Lookup.objects.exists()


def test_an_index_that_was_stopped_goes_on_where_it_was(actor: Actor, version: DatasetVersion) -> None:
    index = make(actor, version)
    working = claimed()
    services.index_add(index=working, documents=1, chunks=[chunk(0)], eta=None)
    services.index_stop(actor=actor, index=index)
    assert not services.index_hold(index=working)
    assert not services.index_finish(index=working)
    services.index_resume(actor=actor, index=index)
    with pytest.raises(Conflict, match="not stopped"):
        services.index_resume(actor=actor, index=index)
    finish(3)
    assert Chunk.objects.count() == 3


def test_a_dataset_is_kept_while_an_index_is_made_of_it(actor: Actor, version: DatasetVersion) -> None:
    index = make(actor, version)
    with pytest.raises(Conflict, match="An index of documents") as refusal:
        dataset_delete(actor=actor, dataset=version.dataset)
    assert refusal.value.fields == {"indexes": [str(index.pk)]}
    services.index_delete(actor=actor, index=index)
    dataset_delete(actor=actor, dataset=version.dataset)
    assert not Dataset.objects.exists()


def test_a_run_that_answers_from_it_keeps_it_too(actor: Actor, team: Team, version: DatasetVersion) -> None:
    make_run(team, "asks", documents_version=version)
    with pytest.raises(Conflict, match="A run used this dataset"):
        dataset_delete(actor=actor, dataset=version.dataset)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"settings": {"chunk_tokens": 8}}, "settings.chunk_tokens"),
        ({"settings": {"chunk_tokens": 32, "overlap": 17}}, "settings.overlap"),
        ({"settings": {"chunks": 8}}, "settings.chunks"),
        ({"name": "a\0b"}, "name"),
        ({"name": "x" * 201}, "name"),
    ],
)
def test_what_cannot_be_indexed_is_refused_at_its_field(
    actor: Actor, version: DatasetVersion, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        make(actor, version, **values)
    assert list(caught.value.fields) == [field]
    assert not DocumentIndex.objects.exists()


def test_a_dataset_that_holds_no_documents_is_refused(actor: Actor) -> None:
    with pytest.raises(Invalid, match="has no documents"):
        make(actor, factories.make_version(actor, "talk"))
    with pytest.raises(Invalid) as caught:
        services.index_create(actor=actor, dataset="no-dataset")
    assert list(caught.value.fields) == ["dataset"]


@pytest.mark.parametrize(
    ("question", "settings", "field"),
    [
        (" ", {}, "question"),
        ("x" * 4001, {}, "question"),
        ("a\0b", {}, "question"),
        ("Why?", {"top_k": 0}, "settings.top_k"),
        ("Why?", {"min_score": float("nan")}, "settings.min_score"),
    ],
)
def test_what_cannot_be_looked_up_is_refused_at_its_field(
    actor: Actor, question: str, settings: dict[str, Any], field: str
) -> None:
    index, _ = make_index(actor)
    with pytest.raises(Invalid) as caught:
        services.lookup_create(actor=actor, index=index, question=question, settings=settings)
    assert list(caught.value.fields) == [field]


def test_viewers_and_strangers_change_nothing(actor: Actor, viewer: User, outsider: User) -> None:
    index, lookup = make_index(actor)
    for someone, refusal in ((viewer, Forbidden), (outsider, NotFound)):
        for deed in (services.index_stop, services.index_resume, services.index_delete):
            with pytest.raises(refusal):
                deed(actor=Actor(someone), index=index)
        with pytest.raises(refusal):
            services.lookup_create(actor=Actor(someone), index=index, question="Why?")
    assert selectors.lookup_get(Actor(viewer), lookup.pk) == lookup
    with pytest.raises(NotFound):
        selectors.lookup_get(Actor(outsider), lookup.pk)


def test_a_team_cannot_flood_the_workers_and_old_questions_make_room(
    actor: Actor, version: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MAX_OPEN_INDEXES", 1)
    monkeypatch.setattr(services, "KEPT_LOOKUPS", 2)
    index, first = make_index(actor)
    for question in ("Why?", "How?"):
        services.lookup_create(actor=actor, index=index, question=question)
    assert not Lookup.objects.filter(pk=first.pk).exists()
    make(actor, version)
    with pytest.raises(Conflict, match="Too many"):
        make(actor, version)
