"""What people can do to runs, and what they are told when they cannot."""

from typing import Any

import pytest

from polm_core.errors import ConfigError
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Team, User
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from webapp.registry.models import BaseModel, ModelSource
from webapp.runs import services
from webapp.runs.models import Run, Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(team: Team) -> Dataset:
    made = Dataset.objects.create(team=team, name="instructions")
    DatasetVersion.objects.create(
        dataset=made, status=VersionStatus.READY, filename="rows.jsonl", format="conversation", rows=10
    )
    return made


@pytest.fixture
def model(team: Team) -> BaseModel:
    return BaseModel.objects.create(team=team, name="base", source=ModelSource.PATH)


@pytest.fixture
def body(dataset: Dataset, model: BaseModel) -> dict[str, Any]:
    return {"method": "sft", "model": str(model.pk), "dataset": dataset.pk, "config": {"max_steps": 5}}


def test_create_freezes_everything(actor: Actor, body: dict[str, Any], dataset: Dataset) -> None:
    run = services.run_create(actor=actor, **body, tags=["a", " a ", "b", ""], project="Sums")
    assert run.status == Status.QUEUED
    assert run.config["max_steps"] == 5
    assert run.config["learning_rate"] > 0, "defaults are resolved at creation"
    assert run.dataset_version == dataset.versions.get()
    assert (run.project.name, run.tags, run.name) == ("Sums", ["a", "b"], "sft-1")
    assert AuditEvent.objects.filter(verb="run.create", target_id=str(run.pk)).exists()


def test_the_same_request_id_gives_the_same_run(actor: Actor, body: dict[str, Any]) -> None:
    first = services.run_create(actor=actor, **body, request_id="r-1")
    assert services.run_create(actor=actor, **body, request_id="r-1") == first
    assert services.run_create(actor=actor, **body, request_id="r-2") != first


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"method": "dop"}, ConfigError, "method"),
        ({"config": {"max_steps": -1}}, ConfigError, "config.max_steps"),
        ({"config": {"learning_rat": 1}}, ConfigError, "config.learning_rat"),
        ({"method": "dpo"}, Invalid, "dataset"),
        ({"dataset": "nonsense"}, Invalid, "dataset"),
        ({"model": "nonsense"}, Invalid, "model"),
        ({"priority": 99}, Invalid, "priority"),
        ({"tags": ["x" * 51]}, Invalid, "tags"),
        ({"project": "p" * 101}, Invalid, "project"),
    ],
)
def test_refused_input_names_its_field_and_leaves_nothing(
    actor: Actor, body: dict[str, Any], changes: dict[str, Any], error: Any, field: str
) -> None:
    with pytest.raises(error) as caught:
        services.run_create(actor=actor, **{**body, **changes})
    assert field in caught.value.fields
    assert not Run.objects.exists()


def test_a_dataset_that_is_not_ready_is_refused(actor: Actor, body: dict[str, Any], dataset: Dataset) -> None:
    dataset.versions.update(status=VersionStatus.PROCESSING)
    with pytest.raises(Conflict):
        services.run_create(actor=actor, **body)
    dataset.versions.update(status=VersionStatus.INVALID)
    with pytest.raises(Invalid):
        services.run_create(actor=actor, **body)


def test_viewers_and_strangers_create_nothing(viewer: User, outsider: User, body: dict[str, Any]) -> None:
    with pytest.raises(Forbidden):
        services.run_create(actor=Actor(viewer), **body)
    with pytest.raises(Invalid):
        services.run_create(actor=Actor(outsider), **body)
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("stop", Status.QUEUED, Status.STOPPED),
        ("stop", Status.RUNNING, Status.STOPPING),
        ("stop", Status.PAUSED, Status.STOPPED),
        ("pause", Status.QUEUED, Status.PAUSED),
        ("pause", Status.RUNNING, Status.PAUSING),
        ("resume", Status.PAUSED, Status.QUEUED),
        ("resume", Status.STOPPED, Status.QUEUED),
        ("resume", Status.FAILED, Status.QUEUED),
        ("stop", Status.SUCCEEDED, None),
        ("pause", Status.STOPPING, None),
        ("resume", Status.RUNNING, None),
        ("resume", Status.SUCCEEDED, None),
    ],
)
def test_moves(actor: Actor, team: Team, verb: str, before: Status, after: Status | None) -> None:
    run = make_run(team, status=before)
    act = getattr(services, f"run_{verb}")
    if after is None:
        with pytest.raises(Conflict) as caught:
            act(actor=actor, run=run)
        assert caught.value.advice
        after = before
    else:
        act(actor=actor, run=run)
    run.refresh_from_db()
    assert run.status == after


def test_moves_need_a_member_of_the_runs_team(viewer: User, outsider: User, team: Team) -> None:
    run = make_run(team, status=Status.RUNNING)
    with pytest.raises(Forbidden):
        services.run_stop(actor=Actor(viewer), run=run)
    with pytest.raises(NotFound):
        services.run_stop(actor=Actor(outsider), run=run)


def test_clone_lays_changes_over_the_settings(actor: Actor, body: dict[str, Any]) -> None:
    first = services.run_create(actor=actor, **body)
    changes = {"learning_rate": 0.5e-4, "adapter": {"type": "lora"}}
    second = services.run_clone(actor=actor, run=first, changes=changes)
    assert second.parent == first
    assert second.config["max_steps"] == 5
    assert second.config["learning_rate"] == 0.5e-4
    assert second.config["adapter"] == {**first.config["adapter"], "type": "lora"}


def test_delete_asks_for_the_owner_and_an_idle_run(actor: Actor, admin: User, team: Team, member: User) -> None:
    mine = make_run(team, status=Status.SUCCEEDED, created_by=member)
    theirs = make_run(team, status=Status.SUCCEEDED, created_by=admin)
    running = make_run(team, status=Status.RUNNING, created_by=member)
    with pytest.raises(Forbidden):
        services.run_delete(actor=actor, run=theirs)
    with pytest.raises(Conflict):
        services.run_delete(actor=actor, run=running)
    services.run_delete(actor=actor, run=mine)
    services.run_delete(actor=Actor(admin), run=theirs)
    assert list(Run.objects.all()) == [running]
