"""Whose topics may be listened to."""

import uuid

import pytest

from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.datasets.models import Dataset
from webapp.errors import Invalid, NotFound
from webapp.live.topics import MAX_TOPICS, require_topics
from webapp.playground.models import Generation
from webapp.registry.models import BaseModel, ModelSource


@pytest.fixture
def topics(team: Team) -> list[str]:
    """One topic of each kind that belongs to `team`."""
    run = make_run(team)
    dataset = Dataset.objects.create(team=team, name="mine")
    model = BaseModel.objects.create(team=team, name="mine", source=ModelSource.PATH)
    batch = [Generation.objects.create(team=team, model=model, prompt="Hi", batch=uuid.UUID(int=7)) for _ in range(2)]
    return [
        f"run:{run.pk}",
        f"dataset:{dataset.pk}",
        f"model:{model.pk}",
        f"batch:{batch[0].batch}",
        f"team:{team.pk}",
    ]


def test_a_viewer_may_listen_to_everything_of_the_team(viewer: User, topics: list[str]) -> None:
    assert set(require_topics(Actor(viewer), [*topics, topics[0]])) == set(topics)


def test_nobody_else_may(outsider: User, loner: User, topics: list[str]) -> None:
    for stranger in (outsider, loner):
        for topic in topics:
            with pytest.raises(NotFound):
                require_topics(Actor(stranger), [topic])


def test_one_foreign_topic_spoils_the_set(member: User, other_team: Team, topics: list[str]) -> None:
    with pytest.raises(NotFound, match=str(other_team.pk)):
        require_topics(Actor(member), [*topics, f"team:{other_team.pk}"])


def test_the_starter_model_is_everybodys(outsider: User) -> None:
    starter = BaseModel.objects.create(team=None, name="starter", source=ModelSource.STARTER)
    assert require_topics(Actor(outsider), [f"model:{starter.pk}"]) == [f"model:{starter.pk}"]


def test_ids_are_brought_into_the_form_that_events_have(member: User, team: Team) -> None:
    assert require_topics(Actor(member), [f"team:{str(team.pk).upper()}"]) == [f"team:{team.pk}"]


@pytest.mark.parametrize("topic", ["", "runs", ":", "Run:1", f"user:{uuid.UUID(int=1)}"])
def test_what_is_no_topic_is_invalid(member: User, topic: str) -> None:
    with pytest.raises(Invalid):
        require_topics(Actor(member), [topic])


def test_the_number_of_topics_is_limited(member: User, team: Team) -> None:
    with pytest.raises(Invalid):
        require_topics(Actor(member), [])
    with pytest.raises(Invalid):
        require_topics(Actor(member), [f"team:{uuid.uuid4()}" for _ in range(MAX_TOPICS + 1)])
