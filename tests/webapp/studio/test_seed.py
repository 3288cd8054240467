"""The content of a new studio, created once."""

import pytest

from webapp.accounts.models import Membership, Role
from webapp.accounts.services import admin_ensure, user_create
from webapp.datasets.models import Dataset
from webapp.registry.models import BaseModel, ModelSource
from webapp.runs.models import Project
from webapp.studio.seed import seed

pytestmark = pytest.mark.django_db


def content() -> tuple[set[str], list[str], int, list[tuple[str, str, str]]]:
    members = Membership.objects.values_list("user__username", "team__name", "role")
    return (
        set(Dataset.objects.values_list("name", flat=True)),
        list(BaseModel.objects.values_list("source", flat=True)),
        Project.objects.count(),
        list(members),
    )


def test_a_new_studio_has_an_admin_a_project_the_starter_and_a_dataset_of_each_kind() -> None:
    seed()
    assert content() == (
        {
            "Sample conversation",
            "Sample preference",
            "Sample prompt answer",
            "Sample thoughts",
            "Sample steps",
            "Sample edit",
            "Sample probes",
            "Sample documents",
            "Sample questions",
            "Sample digits",
        },
        [ModelSource.STARTER],
        1,
        [("admin", "Starter", Role.ADMIN)],
    )
    assert not Membership.objects.get().user.has_usable_password()


def test_seeding_again_changes_nothing() -> None:
    seed()
    before = content()
    seed()
    assert content() == before


def test_a_sample_that_was_deleted_does_not_come_back() -> None:
    seed()
    before = Dataset.objects.count()
    Dataset.objects.get(name="Sample preference").delete()
    seed()
    assert Dataset.objects.count() == before - 1


def test_an_admin_who_was_there_before_gets_the_samples() -> None:
    admin_ensure(username="ada")
    seed()
    assert set(Dataset.objects.values_list("created_by__username", flat=True)) == {"ada"}
    assert content()[3] == [("ada", "Starter", Role.ADMIN)]


def test_a_person_without_a_team_is_no_admin() -> None:
    user_create(username="eve")
    seed()
    assert content()[3] == [("admin", "Starter", Role.ADMIN)]
