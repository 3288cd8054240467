"""The decision line: hypothesis, result and verdict of a run, on its page, over the API and in the search."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.api import ApiClient
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.errors import Invalid
from webapp.pages.runs import columns
from webapp.runs.models import Run, Status
from webapp.runs.query.meaning import runs_matching

pytestmark = pytest.mark.django_db

HTMX = {"hx-request": "true"}
LINE = {"hypothesis": "beta 0.5 keeps answers short", "result": "412 to 230 tokens", "verdict": "accepted"}


@pytest.fixture
def run(team: Team) -> Run:
    return make_run(team, "ended", status=Status.SUCCEEDED)


def test_the_line_is_edited_in_place(pages: Client, run: Run) -> None:
    address = reverse("run-decision", args=[run.pk])
    assert "Decide" in pages.get(reverse("run", args=[run.pk])).content.decode()
    form = pages.get(f"{address}?edit=yes", headers=HTMX).content.decode()
    assert 'name="verdict"' in form
    assert "data-follow" not in form
    saved = pages.post(address, LINE, headers=HTMX).content.decode()
    assert all(said in saved for said in ("beta 0.5 keeps answers short", "412 to 230 tokens", "Accepted", "Change"))
    run.refresh_from_db()
    assert {name: getattr(run, name) for name in LINE} == LINE
    pages.post(address, {**LINE, "verdict": "", "result": ""}, headers=HTMX)
    run.refresh_from_db()
    assert (run.verdict, run.result, run.hypothesis) == ("", "", LINE["hypothesis"])


def test_a_run_that_has_not_finished_has_a_hypothesis_alone(pages: Client, api: ApiClient, team: Team) -> None:
    run = make_run(team, "waits")
    address = reverse("run-decision", args=[run.pk])
    assert 'name="verdict"' not in pages.get(f"{address}?edit=yes", headers=HTMX).content.decode()
    shown = pages.post(address, {"hypothesis": " one \n line "}, headers=HTMX).content.decode()
    assert "one line" in shown
    for early in ({"verdict": "accepted"}, {"result": "done"}):
        answer = api.patch(f"/runs/{run.pk}", early)
        assert answer.status_code == 409
        assert "has not finished" in answer.json()["error"]["message"]
    assert api.patch(f"/runs/{run.pk}", {"verdict": "", "hypothesis": "another"}).status_code == 200


@pytest.mark.parametrize(
    "fault",
    [{"hypothesis": "x" * 501}, {"result": "x" * 501}, {"verdict": "maybe"}, {"hypothesis": "\ud800"}],
    ids=["hypothesis", "result", "verdict", "half"],
)
def test_what_is_too_long_or_no_verdict_is_told_of_at_its_field(
    pages: Client, api: ApiClient, run: Run, fault: dict[str, str]
) -> None:
    (field,) = fault
    answer = api.patch(f"/runs/{run.pk}", fault)
    assert answer.status_code == 422
    assert list(answer.json()["error"]["fields"]) == [field]
    if fault[field] != "\ud800":
        refused = pages.post(reverse("run-decision", args=[run.pk]), {**LINE, **fault}, headers=HTMX)
        assert refused.status_code == 422
        assert 'class="errors"' in refused.content.decode()
    run.refresh_from_db()
    assert (run.hypothesis, run.verdict) == ("", "")


def test_it_is_in_the_api_s_answers(api: ApiClient, run: Run) -> None:
    changed = api.patch(f"/runs/{run.pk}", LINE)
    for found in (changed.json(), api.get(f"/runs/{run.pk}").json(), api.get("/runs").json()["items"][0]):
        assert {name: found[name] for name in LINE} == LINE


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("verdict:accepted", {"ended"}),
        ("verdict:Accepted,rejected", {"ended", "bad"}),
        ("verdict:none", {"open"}),
        ("not verdict:none", {"ended", "bad"}),
        ("verdict!=rejected", {"ended", "open"}),
        ("hypothesis:BETA", {"ended"}),
        ('hypothesis="beta 0.5 keeps answers short"', {"ended"}),
        ("not hypothesis:beta", {"bad", "open"}),
    ],
)
def test_the_search_knows_it(team: Team, run: Run, query: str, found: set[str]) -> None:
    Run.objects.filter(pk=run.pk).update(**LINE)
    make_run(team, "bad", verdict="rejected")
    make_run(team, "open")
    assert set(runs_matching(Run.objects.all(), query).values_list("name", flat=True)) == found


def test_the_search_says_which_verdicts_there_are() -> None:
    with pytest.raises(Invalid, match="there is no such verdict; there are accepted, rejected, unclear, none"):
        runs_matching(Run.objects.all(), "verdict:maybe")


def test_the_list_has_it_as_a_column_that_sorts(pages: Client, team: Team, run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(verdict="rejected")
    make_run(team, "open")
    good = make_run(team, "good", verdict="accepted")
    assert [one.name for one in columns.sorted_by(Run.objects.all(), "verdict")] == ["good", "ended", "open"]
    shown: Any = pages.get(f"{reverse('runs')}?column=verdict&sort=-verdict").content.decode()
    assert "Rejected" in shown
    assert shown.index("Rejected") < shown.index(f"/runs/{good.pk}")
