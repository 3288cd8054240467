"""The pages and the API of reports."""

import html
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support.api import ApiClient
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.reports.models import Report, ReportVersion
from webapp.reports.services import report_create, report_save
from webapp.runs.models import Project


@pytest.fixture
def project(team: Team) -> Project:
    return make_run(team, "amber").project


@pytest.fixture
def report(actor: Actor, project: Project) -> Report:
    return report_create(actor=actor, project=project, title="Late layers", body="# Found\n\nNothing <b>yet</b>.")


def text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status
    return html.unescape(answer.content.decode())


def test_a_team_without_reports_is_told_what_they_are(
    pages: Client, signed_in: Callable[[User], Client], viewer: User
) -> None:
    assert "No reports yet" in text(pages.get("/reports/"))
    assert "/reports/new" not in text(signed_in(viewer).get("/reports/"))


def test_a_report_is_written_read_and_listed(pages: Client, project: Project) -> None:
    assert "Experiments" in text(pages.get("/reports/new"))
    made = pages.post("/reports/new", {"title": "Late layers", "project": project.pk, "body": "# Found"})
    report = Report.objects.get()
    assert made.url == f"/reports/{report.pk}"
    assert "<h2>Found</h2>" in text(pages.get(made.url))
    assert "Late layers" in text(pages.get("/reports/"))


def test_lists_come_by_the_page_with_as_many_queries(
    pages: Client, actor: Actor, project: Project, django_assert_max_num_queries: Any
) -> None:
    for number in range(35):
        report_create(actor=actor, project=project, title=f"report {number}")
    with django_assert_max_num_queries(12):
        first = text(pages.get("/reports/"))
    assert "report 34" in first
    assert "report 4<" not in first
    assert "report 4<" in text(pages.get("/reports/?cursor=" + first.split("?cursor=")[1].split('"')[0]))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"title": "", "body": "kept text"}, "This field is required."),
        ({"title": "x", "project": "nonsense", "body": "kept text"}, "Select a valid choice."),
        ({"title": "x\x07", "body": "kept text"}, "printable characters"),
    ],
)
def test_a_refused_form_keeps_what_was_written(
    pages: Client, project: Project, form: dict[str, str], said: str
) -> None:
    shown = text(pages.post("/reports/new", {"project": str(project.pk), **form}), 422)
    assert said in shown
    assert "kept text" in shown
    assert not Report.objects.exists()


def test_two_who_write_at_once_lose_nothing(pages: Client, actor: Actor, report: Report) -> None:
    shown = text(pages.get(f"/reports/{report.pk}/edit"))
    assert 'name="base" value="1"' in shown
    report_save(actor=actor, report=report, base=1, body="their words")
    mine = {"title": "Late layers", "body": "my words", "base": "1"}
    shown = text(pages.post(f"/reports/{report.pk}/edit", mine), 409)
    assert "has saved version 2 meanwhile" in shown
    assert "their words" in shown
    assert "my words" in shown
    assert 'name="base" value="2"' in shown
    assert ReportVersion.objects.count() == 2
    assert pages.post(f"/reports/{report.pk}/edit", {**mine, "base": "2"}).status_code == 302
    assert ReportVersion.objects.get(number=3).body == "my words"


def test_history_shows_old_versions_and_restores_them(pages: Client, actor: Actor, report: Report) -> None:
    report_save(actor=actor, report=report, base=1, body="second")
    assert f"/reports/{report.pk}?version=1" in text(pages.get(f"/reports/{report.pk}/history"))
    old = text(pages.get(f"/reports/{report.pk}?version=1"))
    assert "<h2>Found</h2>" in old
    assert "This is version 1. The report is at version 2." in old
    assert pages.get(f"/reports/{report.pk}?version=9").status_code == 404
    pages.post(f"/reports/{report.pk}/restore", {"version": "1"})
    assert "<h2>Found</h2>" in text(pages.get(f"/reports/{report.pk}"))
    for wrong in ("", "0", "99", "x"):
        assert pages.post(f"/reports/{report.pk}/restore", {"version": wrong}).status_code == 302
    assert ReportVersion.objects.count() == 3


def test_the_preview_shows_the_text_and_is_bounded(pages: Client, report: Report) -> None:
    assert "<strong>b</strong>" in text(pages.post("/reports/preview", {"body": "a **b**", "report": report.pk}))
    assert "at most 100,000 characters" in text(pages.post("/reports/preview", {"body": "x" * 100_001}), 422)


def test_a_report_is_deleted(pages: Client, report: Report) -> None:
    assert "data-confirm=" in text(pages.get(f"/reports/{report.pk}"))
    assert pages.post(f"/reports/{report.pk}/delete").url == "/reports/"
    assert not Report.objects.exists()


def test_a_link_to_a_report_is_made_on_its_page(pages: Client, report: Report) -> None:
    shown = text(pages.post(f"/reports/{report.pk}/share", {"days": "30"}))
    assert "/shared/" in shown
    assert text(pages.get(f"/reports/{report.pk}")).count("Address of the link") == 1


def test_reports_over_rest(api: ApiClient, project: Project) -> None:
    made = api.post("/reports", {"project": str(project.pk), "title": "Late", "body": "one"})
    assert made.status_code == 201
    path = f"/reports/{made.json()['id']}"
    assert api.get(path).json() == made.json() | {"updated_at": api.get(path).json()["updated_at"]}
    changed = api.patch(path, {"version": 1, "body": "two"}).json()
    assert (changed["version"], changed["body"], changed["title"]) == (2, "two", "Late")
    assert api.get(f"{path}?version=1").json()["body"] == "one"
    assert api.patch(path, {"version": 1, "body": "three"}).status_code == 409
    assert [one["version"] for one in api.get(f"{path}/versions").json()["items"]] == [2, 1]
    assert api.post(f"{path}/restore", {"version": 1}).json()["body"] == "one"
    assert [one["title"] for one in api.get("/reports").json()["items"]] == ["Late"]
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


def test_links_over_rest(api: ApiClient, team: Team, report: Report) -> None:
    run = make_run(team, "beryl")
    made = api.post("/view-links", {"runs": [str(run.pk)], "view": "x=epoch", "group": "method"}).json()
    assert made["url"].endswith("?x=epoch")
    assert api.post("/view-links", {"report": str(report.pk)}).status_code == 201
    assert [one["report"] for one in api.get("/view-links").json()["items"]] == [str(report.pk), None]
    assert api.delete(f"/view-links/{made['id']}").status_code == 204
    assert len(api.get("/view-links").json()["items"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("post", "/reports", {"title": "x", "project": "0192f0c0-0000-7000-8000-000000000000"}, "project"),
        ("post", "/reports", {"title": "", "project": "a new one"}, "title"),
        ("post", "/reports", {"project": "P", "title": ""}, "title"),
        ("post", "/reports", {"project": "P", "title": "x", "text": "y"}, "text"),
        ("patch", "/reports/R", {"body": "x"}, "version"),
        ("patch", "/reports/R", {"version": 0, "body": "x"}, "version"),
        ("post", "/reports/R/restore", {"version": 99}, "version"),
        ("post", "/view-links", {}, "report"),
        ("post", "/view-links", {"runs": ["nonsense"]}, "runs.0"),
        ("post", "/view-links", {"report": "R", "expires_at": "2020-01-01T00:00Z"}, "expires"),
        ("post", "/view-links", {"report": "R", "expires_at": "2030-01-01T00:00"}, "expires"),
    ],
)
def test_what_the_api_refuses_is_named(
    api: ApiClient, project: Project, report: Report, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    names = {"P": str(project.pk), "R": str(report.pk)}
    sent = {name: names.get(value, value) if isinstance(value, str) else value for name, value in body.items()}
    answer = getattr(api, method)(path.replace("R", names["R"]), sent)
    assert answer.status_code == 422
    assert Project.objects.get() == project
    assert field in answer.json()["error"]["fields"]
