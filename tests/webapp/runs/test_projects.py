"""Projects: their settings, and the checkpoints they keep."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.api import ApiClient
from tests.support.checkpoints import make_checkpoint
from tests.support.factories import make_generation, make_share
from tests.support.runs import make_run
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Team, User
from webapp.errors import Forbidden, Invalid
from webapp.registry.models import Checkpoint
from webapp.registry.services import checkpoint_register
from webapp.runs.checkpoints import run_checkpoint_steps
from webapp.runs.models import Project, Run, RunCheckpoint, Status
from webapp.runs.projects import Retention, project_retain, project_update, run_retain
from workers.reaper import reap

# What each step's checkpoint was measured at, oldest first.
LOSSES = {10: 3.0, 20: 1.0, 30: 1.0, 40: 2.0, 50: 2.5}


@pytest.fixture
def run(team: Team) -> Run:
    found = make_run(team, status=Status.RUNNING)
    for step, loss in LOSSES.items():
        checkpoint = make_checkpoint(team, f"first @ {step}", step=step)
        checkpoint.metrics = {"eval/loss": loss}
        checkpoint.save()
        RunCheckpoint.objects.create(run=found, checkpoint=checkpoint, step=step)
    return found


@pytest.fixture
def project(run: Run) -> Project:
    return run.project


def keep(project: Project, keep_last: int | None, metric: str = "", mode: str = "min") -> None:
    Project.objects.filter(pk=project.pk).update(
        keep_last=keep_last, keep_best_metric=metric, keep_best_mode=mode, retention_due=True
    )


def kept(run: Run) -> list[int]:
    return list(run.run_checkpoints.order_by("step").values_list("step", flat=True))


def at(run: Run, step: int) -> Checkpoint:
    return run.run_checkpoints.get(step=step).checkpoint


@pytest.mark.parametrize(
    ("keep_last", "metric", "mode", "left"),
    [
        (None, "", "min", [10, 20, 30, 40, 50]),
        (None, "eval/loss", "min", [10, 20, 30, 40, 50]),
        (9, "", "min", [10, 20, 30, 40, 50]),
        (2, "", "min", [40, 50]),
        (1, "", "min", [50]),
        (1, "eval/loss", "min", [20, 50]),
        (1, "eval/loss", "max", [10, 50]),
        (2, "eval/reward", "max", [40, 50]),
    ],
)
def test_the_newest_and_the_best_are_kept(
    run: Run, project: Project, keep_last: int | None, metric: str, mode: str, left: list[int]
) -> None:
    keep(project, keep_last, metric, mode)
    gone = run_retain(run_id=run.pk)
    assert kept(run) == left
    assert sorted(gone) == sorted(set(LOSSES) - set(left))


def test_what_is_used_is_kept(run: Run, project: Project, team: Team, actor: Actor) -> None:
    checkpoint_register(actor=actor, checkpoint=at(run, 10), team=team)
    make_share(at(run, 20))
    make_generation(team, at(run, 30))
    keep(project, 1)
    run_retain(run_id=run.pk)
    assert kept(run) == [10, 20, 30, 50]


def test_a_share_that_was_revoked_keeps_nothing(run: Run, project: Project) -> None:
    make_share(at(run, 20), revoked_at=timezone.now())
    keep(project, 1)
    run_retain(run_id=run.pk)
    assert kept(run) == [50]


def test_what_another_checkpoint_was_trained_from_is_kept(run: Run, project: Project, team: Team) -> None:
    make_checkpoint(team, "later", parent=at(run, 20))
    keep(project, 1)
    run_retain(run_id=run.pk)
    assert kept(run) == [20, 50]


@pytest.mark.django_db(transaction=True)
def test_removal_is_told_and_audited_and_frees_the_store(run: Run, project: Project) -> None:
    keys = {step: at(run, step).key for step in LOSSES}
    keep(project, 2)
    run_retain(run_id=run.pk)
    assert [artifacts.exists(keys[step]) for step in LOSSES] == [False, False, False, True, True]
    assert list(run.removed_checkpoints.order_by("step").values_list("step", flat=True)) == [10, 20, 30]
    events = AuditEvent.objects.filter(verb="checkpoint.retention", actor=None, team=run.team)
    assert sorted(event.detail["step"] for event in events) == [10, 20, 30]
    assert run_checkpoint_steps(run.pk) == set(LOSSES), "a removed checkpoint must not be stored again"
    assert run_retain(run_id=run.pk) == []


def test_a_policy_reaches_every_run_of_its_project_and_no_other(run: Run, project: Project, team: Team) -> None:
    other = make_run(team, "elsewhere", project=Project.objects.create(team=team, name="Other"))
    RunCheckpoint.objects.create(run=other, checkpoint=make_checkpoint(team, "x", step=1), step=1)
    RunCheckpoint.objects.create(run=other, checkpoint=make_checkpoint(team, "y", step=2), step=2)
    keep(project, 1)
    project_retain(str(project.pk))
    assert kept(run) == [50]
    assert kept(other) == [1, 2]
    project.refresh_from_db()
    assert not project.retention_due
    project_retain(uuid.uuid4())


def test_the_reaper_asks_again_for_a_policy_that_nobody_applied(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("webapp.tasks.send", lambda task, *args: sent.append((task, *args)))
    reap()
    assert ("projects.retain", project.pk) not in sent
    keep(project, 1)
    reap()
    assert ("projects.retain", project.pk) in sent


def test_an_admin_sets_the_policy(project: Project, admin: User) -> None:
    project_update(actor=Actor(admin), project=project, name="Best", retention=Retention(3, "eval/loss", "max"))
    project.refresh_from_db()
    assert (project.name, project.keep_last, project.keep_best_metric) == ("Best", 3, "eval/loss")
    assert project.retention_due
    event = AuditEvent.objects.get(verb="project.update")
    assert event.detail["keep_last"] == 3
    project_update(actor=Actor(admin), project=project, retention=Retention())
    project.refresh_from_db()
    assert (project.name, project.keep_last, project.retention_due) == ("Best", None, False)


def test_a_member_does_not(project: Project, actor: Actor) -> None:
    with pytest.raises(Forbidden):
        project_update(actor=actor, project=project, retention=Retention(1))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "OTHER"}, "name"),
        ({"retention": Retention(0)}, "keep_last"),
        ({"retention": Retention(10_001)}, "keep_last"),
        ({"retention": Retention(1, "x" * 201)}, "best_metric"),
        ({"retention": Retention(1, "a\0b")}, "best_metric"),
        ({"retention": Retention(1, "loss", "best")}, "best_mode"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    project: Project, admin: User, team: Team, changes: dict[str, Any], field: str
) -> None:
    Project.objects.create(team=team, name="Other")
    with pytest.raises(Invalid) as refused:
        project_update(actor=Actor(admin), project=project, **changes)
    assert set(refused.value.fields) == {field}
    project.refresh_from_db()
    assert (project.name, project.keep_last) == ("Experiments", None)


# --- the API ----------------------------------------------------------------------------------------------------------


def test_projects_over_rest(project: Project, admin: User, api_of: Callable[[User], ApiClient]) -> None:
    api = api_of(admin)
    (listed,) = api.get("/projects").json()["items"]
    assert listed["retention"] == {"keep_last": None, "best_metric": "", "best_mode": "min"}
    policy = {"keep_last": 2, "best_metric": "eval/loss", "best_mode": "min"}
    answer = api.patch(f"/projects/{project.pk}", {"retention": policy})
    assert answer.status_code == 200
    assert answer.json()["retention"] == policy
    assert api.get(f"/projects/{project.pk}").json()["retention"] == policy
    assert api.patch(f"/projects/{project.pk}", {"name": "New"}).json()["retention"] == policy
    refused = api.patch(f"/projects/{project.pk}", {"retention": {"keep_last": 0}})
    assert refused.status_code == 422
    assert "retention.keep_last" in refused.json()["error"]["fields"]


def test_a_run_s_checkpoints_over_rest_tell_what_was_removed(run: Run, project: Project, api: ApiClient) -> None:
    keep(project, 2)
    run_retain(run_id=run.pk)
    answer = api.get(f"/runs/{run.pk}/checkpoints").json()
    assert [one["step"] for one in answer["items"]] == [50, 40]
    assert [one["step"] for one in answer["removed_by_retention"]] == [30, 20, 10]


def test_projects_are_listed_in_a_constant_number_of_queries(
    project: Project, team: Team, api: ApiClient, django_assert_max_num_queries: Any
) -> None:
    Project.objects.bulk_create(Project(team=team, name=f"p{n}") for n in range(40))
    with django_assert_max_num_queries(6):
        assert len(api.get("/projects").json()["items"]) == 41


# --- the pages --------------------------------------------------------------------------------------------------------


def test_the_checkpoints_of_a_run_tell_of_the_policy(
    run: Run, project: Project, admin: User, signed_in: Callable[[User], Client]
) -> None:
    pages = signed_in(admin)
    page = pages.get(f"/runs/{run.pk}/checkpoints").content.decode()
    assert "keeps every checkpoint" in page
    assert f"/projects/{project.pk}" in page
    keep(project, 2, "eval/loss")
    run_retain(run_id=run.pk)
    page = pages.get(f"/runs/{run.pk}/checkpoints").content.decode()
    assert "keeps the newest 2, the one with the lowest eval/loss" in page
    assert "Step 10: removed by retention" in page
    assert "Step 20: removed" not in page


def test_an_admin_edits_a_project_on_its_page(
    run: Run, project: Project, admin: User, signed_in: Callable[[User], Client]
) -> None:
    pages = signed_in(admin)
    assert "Newest checkpoints to keep" in pages.get(f"/projects/{project.pk}").content.decode()
    sent = {"name": "Experiments", "keep_last": "2", "best_metric": "eval/loss", "best_mode": "min"}
    assert pages.post(f"/projects/{project.pk}", sent).status_code == 302
    project.refresh_from_db()
    assert (project.keep_last, project.keep_best_metric) == (2, "eval/loss")
    refused = pages.post(f"/projects/{project.pk}", {**sent, "keep_last": "0"})
    assert refused.status_code == 422
    assert "greater than or equal to 1" in refused.content.decode()
    pages.post("/project", {"project": str(project.pk)})
    assert f"/projects/{project.pk}" in pages.get("/runs/").content.decode()


def test_a_member_is_not_shown_the_way_there(run: Run, project: Project, pages: Client) -> None:
    assert f"/projects/{project.pk}" not in pages.get(f"/runs/{run.pk}/checkpoints").content.decode()
    assert pages.get(f"/projects/{project.pk}").status_code == 403
