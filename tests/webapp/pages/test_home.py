"""Home: what is going on, what went wrong, and the first steps of a new team."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.support import factories
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team, User
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.registry.models import BaseModel, ModelSource, ModelStatus
from webapp.runs.models import Project, Run, Status, Worker

Browser = Callable[[User], Client]


def page(client: Client, **headers: str) -> str:
    answer = client.get("/", headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def failed(team: Team, name: str, ago: timedelta) -> Run:
    error = {"code": "data.empty", "message": "No row is left.", "advice": "Loosen the filter.", "fields": {}}
    return make_run(team, name, status=Status.FAILED, error=error, finished_at=timezone.now() - ago)


def test_active_runs_show_progress_curve_and_worker(pages: Client, team: Team) -> None:
    worker = Worker.objects.create(name="runs@box", host="box-7", heartbeat_at=timezone.now(), queues=["runs"])
    started = timezone.now() - timedelta(seconds=100)
    run = make_run(team, "tone", status=Status.RUNNING, step=20, total_steps=80, started_at=started, worker=worker)
    MetricWriter(run.pk).append([MetricLine(step, 1e9 + step, {"loss": 2 - step / 40}) for step in range(1, 21)])
    html = page(pages)
    assert "tone" in html
    assert "step 20 of 80" in html
    assert "5 min" in html  # three quarters are left at 5 s a step
    assert "box-7" in html
    assert 'class="sparkline run-' in html


def test_a_failure_is_shown_with_its_reason_and_advice(pages: Client, team: Team) -> None:
    failed(team, "poor", timedelta(hours=1))
    html = page(pages)
    assert "No row is left." in html
    assert "Loosen the filter." in html


def test_failures_stay_news_for_one_visit(pages: Client, team: Team) -> None:
    failed(team, "poor", timedelta(hours=1))
    assert "poor</a> failed" in page(pages)
    assert "poor</a> failed" in page(pages)
    session = pages.session
    session["home_at"] = (timezone.now() - timedelta(minutes=40)).isoformat()
    session.save()
    assert "poor</a> failed" not in page(pages)


def test_old_failures_are_not_news(pages: Client, team: Team) -> None:
    failed(team, "ancient", timedelta(days=30))
    assert "ancient</a> failed" not in page(pages)


def test_a_run_that_waits_for_space_is_shown_until_it_goes_on(pages: Client, team: Team) -> None:
    error = {"code": "resource.disk", "message": "The disk is full.", "advice": "Make room.", "fields": {}}
    run = make_run(team, "big", status=Status.PAUSED, error=error)
    make_run(team, "by hand", status=Status.PAUSED)
    html = page(pages)
    assert "big</a> was paused: The disk is full." in html
    assert "Make room." in html
    assert "by hand</a> was paused" not in html
    run.status, run.error = Status.QUEUED, None
    run.save()
    assert "was paused" not in page(pages)


def test_the_live_part_is_asked_for_alone(pages: Client, team: Team) -> None:
    make_run(team)
    html = page(pages, **{"HX-Request": "true"})
    assert "<html" not in html
    assert html.strip().startswith('<div class="stack home"')


def test_a_project_narrows_the_page(pages: Client, team: Team) -> None:
    other = Project.objects.create(team=team, name="Other")
    make_run(team, "inside", status=Status.RUNNING, project=other)
    make_run(team, "outside", status=Status.RUNNING)
    pages.post("/project", {"project": str(other.pk)})
    assert "inside" in page(pages)
    assert "outside" not in page(pages)
    pages.post("/project", {"project": ""})
    assert "outside" in page(pages)


def test_another_team_s_project_cannot_be_chosen(pages: Client, other_team: Team) -> None:
    foreign = Project.objects.create(team=other_team, name="Foreign")
    assert pages.post("/project", {"project": str(foreign.pk)}).status_code == 404
    assert pages.post("/project", {"project": "nonsense"}).status_code == 404


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_the_way_back_stays_on_this_site(pages: Client, target: str) -> None:
    assert pages.post("/project", {"project": "", "next": target})["Location"] == "/"


def test_nothing_of_other_teams(pages: Client, team: Team, other_team: Team) -> None:
    make_run(team)
    make_run(other_team, "zinnober", status=Status.RUNNING)
    failed(other_team, "zinnober failed", timedelta(minutes=1))
    make_checkpoint(other_team, name="zinnober checkpoint")
    assert "zinnober" not in page(pages)


def test_queries_do_not_grow_with_what_is_shown(
    pages: Client, team: Team, actor: Actor, django_assert_max_num_queries: Any
) -> None:
    for number in range(6):
        for status in (Status.RUNNING, Status.SUCCEEDED, Status.FAILED):
            make_run(team, f"{status} {number}", status=status, finished_at=timezone.now())
        factories.make_version(actor, f"rows {number}")
        make_checkpoint(team, name=f"checkpoint {number}")
    with django_assert_max_num_queries(25):
        page(pages)


@pytest.fixture
def starter(db: None) -> BaseModel:
    return BaseModel.objects.create(name="SmolLM2", source=ModelSource.STARTER)


def test_a_new_team_is_told_what_to_do_first(pages: Client, starter: BaseModel) -> None:
    html = page(pages)
    assert "First steps" in html
    assert "SmolLM2 is ready" in html
    assert "Upload a dataset" in html
    assert "first-run" not in html  # nothing to train on yet


@pytest.mark.parametrize(
    ("status", "said"), [(ModelStatus.PREPARING, "Preparing SmolLM2"), (ModelStatus.FAILED, "could not be prepared")]
)
def test_a_starter_that_is_not_ready_says_so(
    pages: Client, actor: Actor, starter: BaseModel, status: str, said: str
) -> None:
    factories.make_version(actor)
    BaseModel.objects.update(status=status)
    html = page(pages)
    assert said in html
    assert "first-run" not in html


def test_the_sample_runs_with_one_click(pages: Client, team: Team, actor: Actor, starter: BaseModel) -> None:
    version = factories.make_version(actor)
    assert 'action="/first-run"' in page(pages)
    answer = pages.post("/first-run")
    run = Run.objects.get(team=team)
    assert answer["Location"] == f"/runs/{run.pk}"
    assert (run.method, run.dataset_version, run.model, run.status) == ("lora", version, starter, Status.QUEUED)
    assert "First steps" not in page(pages)


def test_without_conversations_there_is_no_sample_run(pages: Client, starter: BaseModel) -> None:
    assert pages.post("/first-run").status_code == 409
    assert not Run.objects.exists()


def test_a_viewer_sees_no_button_to_run(signed_in: Browser, viewer: User, actor: Actor, starter: BaseModel) -> None:
    factories.make_version(actor)
    client = signed_in(viewer)
    assert "/first-run" not in page(client)
    assert client.post("/first-run").status_code == 403
    assert not Run.objects.exists()


def test_a_person_without_a_team_is_told_how_to_get_one(signed_in: Browser, loner: User) -> None:
    assert "You are not in a team yet" in page(signed_in(loner))


@pytest.mark.parametrize(
    ("address", "label"), [("/", "Home"), ("/runs/", "Runs"), ("/runs/queue", "Queue"), ("/methods/sft", "Methods")]
)
def test_the_rail_marks_where_one_is(pages: Client, address: str, label: str) -> None:
    html = pages.get(address).content.decode()
    marked = [part.split("</a>")[0] for part in html.split('aria-current="page"')[1:]]
    assert len(marked) == 1
    assert marked[0].endswith(label)


def test_others_of_the_team_who_are_here_are_shown(pages: Client, team: Team, outsider: User) -> None:
    now = timezone.now()
    here = factories.make_user("grace", team, Role.VIEWER)
    gone = factories.make_user("gone", team)
    User.objects.filter(pk__in=[here.pk, outsider.pk]).update(last_seen_at=now)
    User.objects.filter(pk=gone.pk).update(last_seen_at=now - timedelta(hours=1))
    html = page(pages)
    assert "Grace is online" in html
    assert "Gone is online" not in html
    assert "Olaf is online" not in html
