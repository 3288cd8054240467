"""Saved views on the page: the address names one, a person's list begins with one, and each is changed in place."""

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import HTMX, text
from tests.webapp.pages.runs.test_listing import HEADS, names
from webapp.accounts.models import Team, User
from webapp.runs.models import Project, RunView, Status

ADDRESS = "q=tag%3Anight&status=failed&sort=name&column=config.beta&column=state&page=3"


@pytest.fixture
def runs(team: Team) -> None:
    for name, status in (("one", Status.FAILED), ("two", Status.FAILED), ("three", Status.RUNNING)):
        make_run(team, name, status=status, tags=["night"])
    make_run(team, "day", status=Status.FAILED)


def save(client: Client, name: str = "mine", address: str = ADDRESS, **more: str) -> RunView:
    answer = client.post("/runs/views", {"name": name, "address": address, **more}, headers=HTMX)
    view = RunView.objects.get(name=name)
    assert answer.headers["HX-Redirect"] == f"/runs/?view={view.pk}"
    return view


def test_a_view_shows_what_was_saved(pages: Client, runs: None) -> None:
    view = save(pages)
    shown = text(pages.get(f"/runs/?view={view.pk}"))
    assert HEADS.findall(shown) == ["name", "config.beta", "state"]
    assert names(pages, f"?view={view.pk}") == ["one", "two"]
    assert "status: failed" in shown
    assert "Save changes" not in shown
    assert "The view mine is saved" in shown


def test_an_address_that_says_more_than_its_view_shows_that(pages: Client, runs: None) -> None:
    view = save(pages)
    changed = f"?view={view.pk}&q=tag:night"
    assert names(pages, changed) == ["three", "two", "one"]
    assert "Save changes" in text(pages.get(f"/runs/{changed}"))
    pages.post(f"/runs/views/{view.pk}", {"action": "save", "address": "q=tag:night"})
    assert names(pages, f"?view={view.pk}") == ["three", "two", "one"]


def test_a_list_begins_with_the_default_until_all_runs_are_asked_for(pages: Client, runs: None) -> None:
    view = save(pages, default="yes")
    assert names(pages) == ["one", "two"]
    assert len(names(pages, "?view=")) == 4
    assert names(pages, "?q=day") == ["day"]
    pages.post(f"/runs/views/{view.pk}", {"action": "no-default"})
    assert len(names(pages)) == 4


def test_taking_the_last_filter_out_does_not_bring_the_default_back(pages: Client, runs: None) -> None:
    save(pages, default="yes")
    shown = text(pages.get("/runs/?q=day"))
    without = re.search(r'href="(\?[^"]*)" title="Take this filter out"', shown)
    assert without is not None
    assert without[1] == "?view="


def test_a_view_of_any_project_is_not_narrowed_by_the_top_bar(pages: Client, team: Team, runs: None) -> None:
    view = save(pages)
    other = Project.objects.create(team=team, name="Sums")
    pages.post("/project", {"project": str(other.pk)})
    assert names(pages, f"?view={view.pk}") == ["one", "two"]


def test_views_are_renamed_shared_and_deleted(pages: Client, runs: None) -> None:
    view = save(pages)
    for action, field, value in (("share", "shared", True), ("unshare", "shared", False), ("rename", "name", "x")):
        pages.post(f"/runs/views/{view.pk}", {"action": action, "name": "x"})
        view.refresh_from_db()
        assert getattr(view, field) == value
    answer = pages.post(f"/runs/views/{view.pk}", {"action": "delete"})
    assert answer.headers["HX-Redirect"] == "/runs/?view="
    assert not RunView.objects.exists()
    assert len(names(pages, f"?view={view.pk}")) == 4  # an address that outlived its view


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("", "", "The name must have 1 to 100 characters"),
        ("MINE", "", "You have a view of the name MINE already"),
        ("bad", "q=loss<", "a number was expected after"),
    ],
)
def test_a_refusal_is_told_where_it_was_asked(pages: Client, name: str, address: str, said: str) -> None:
    save(pages, name="mine", address="")
    headers = {**HTMX, "HX-Target": "view-new-problem"}
    answer = pages.post("/runs/views", {"name": name, "address": address}, headers=headers)
    assert answer.status_code in (409, 422)
    assert answer.headers["HX-Retarget"] == "#view-new-problem"
    assert said in answer.content.decode()
    assert RunView.objects.count() == 1


def test_an_action_that_is_none_is_refused(pages: Client) -> None:
    view = save(pages, address="")
    assert pages.post(f"/runs/views/{view.pk}", {"action": "sell"}).status_code == 404


def test_others_are_offered_shared_views_alone(
    pages: Client, signed_in: Callable[[User], Client], viewer: User, runs: None
) -> None:
    mine, ours = save(pages, name="secret plan"), save(pages, name="for all", shared="yes")
    reader = signed_in(viewer)
    shown = text(reader.get(f"/runs/?view={ours.pk}"))
    assert "secret plan" not in shown
    assert "for all" in shown
    assert "Rename the view" not in shown
    assert reader.post(f"/runs/views/{ours.pk}", {"action": "delete"}).status_code == 403
    assert reader.post(f"/runs/views/{mine.pk}", {"action": "delete"}).status_code == 404


def test_many_views_take_one_query(pages: Client, team: Team, member: User) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            pages.get("/runs/", headers=HTMX)
        return len(queries)

    RunView.objects.create(team=team, owner=member, name="first")
    pages.get("/runs/")
    one = count()
    RunView.objects.bulk_create(RunView(team=team, owner=member, name=f"view {n}", shared=n % 2 > 0) for n in range(30))
    assert count() == one
