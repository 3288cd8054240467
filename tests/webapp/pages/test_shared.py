"""Comparisons and reports behind a link: to make, to end, and what strangers see of them."""

import html
import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.support.api import browser
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.errors import PolmError
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.registry.links import signed
from webapp.reports.links import link_create, link_for_token, link_revoke
from webapp.reports.models import ViewLink
from webapp.reports.services import report_create
from webapp.runs.models import Run

SALT = "webapp.reports.link"
SECRET = "zinnober"


@pytest.fixture
def runs(team: Team) -> list[Run]:
    """Two with a setting that nobody else shall see, and figures of the machine."""
    made = []
    for seed, name in enumerate(("amber", "beryl")):
        run = make_run(team, name, config={"seed": seed, "system_prompt": f"{SECRET} {seed}"}, notes=SECRET)
        lines = [MetricLine(step, 1e9 + step, {"loss": 4.0 - step + seed, "system/cpu": 50.0}) for step in (1, 2, 3)]
        MetricWriter(run.pk).append(lines)
        made.append(run)
    return made


@pytest.fixture
def stranger(db: None) -> Client:
    return browser()


def link(actor: Actor, runs: list[Run], **values: Any) -> ViewLink:
    return link_create(actor=actor, runs=[run.pk for run in runs], **values)


def address(link: ViewLink, name: str = "shared-view") -> str:
    return reverse(name, args=[signed(link.pk, SALT)])


def test_a_stranger_sees_these_runs_charts_and_values_and_nothing_else(
    stranger: Client, actor: Actor, runs: list[Run]
) -> None:
    made = link(actor, runs, title="The first two")
    answer = stranger.get(address(made))
    assert answer.status_code == 200
    shown = html.unescape(answer.content.decode())
    assert "The first two" in shown
    assert [part.split('"')[0] for part in shown.split('data-key="')[1:]] == ["loss"]
    assert "+1 (+100%)" in shown
    for hidden in (SECRET, "system_prompt", "system/cpu", f"/runs/{runs[0].pk}", "Experiments"):
        assert hidden not in shown
    assert answer["Referrer-Policy"] == "no-referrer"
    assert "noindex" in answer["X-Robots-Tag"]
    assert "no-store" in answer["Cache-Control"]


def test_a_stranger_s_charts_read_the_numbers_of_the_link(stranger: Client, actor: Actor, runs: list[Run]) -> None:
    data = address(link(actor, runs), "shared-data")
    answer = stranger.get(f"{data}?key=loss&x=relative").json()
    assert [run["mean"] for run in answer["runs"]] == [[3.0, 2.0, 1.0], [4.0, 3.0, 2.0]]
    assert "config_diff" not in answer


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("key=system/cpu", 404),
        ("key=loss&x=system/cpu", 404),
        ("key=loss&points=0", 422),
        ("key=loss&from=3&to=1", 422),
        ("", 422),
    ],
)
def test_what_the_link_does_not_show_is_refused(
    stranger: Client, actor: Actor, runs: list[Run], query: str, status: int
) -> None:
    assert stranger.get(f"{address(link(actor, runs), 'shared-data')}?{query}").status_code == status


def test_runs_and_groups_are_the_link_s_and_not_the_asker_s(
    stranger: Client, actor: Actor, team: Team, runs: list[Run]
) -> None:
    other = make_run(team, "third")
    data = address(link(actor, runs), "shared-data")
    asked = f"{data}?key=loss&group=config.system_prompt&run={other.pk}"
    answer = stranger.get(asked)
    assert SECRET not in answer.content.decode()
    assert answer.json()["groups"] == []
    assert len(answer.json()["runs"]) == 2
    grouped = stranger.get(f"{address(link(actor, runs, group='method'), 'shared-data')}?key=loss&band=range").json()
    assert [(group["name"], group["min"], group["max"]) for group in grouped["groups"]] == [
        ("sft", [3.0, 2.0, 1.0], [4.0, 3.0, 2.0])
    ]


@pytest.mark.parametrize("how", ["revoked", "ended", "forged", "another kind"])
def test_what_opens_nothing_says_so_and_no_more(stranger: Client, actor: Actor, runs: list[Run], how: str) -> None:
    made = link(actor, runs)
    path = address(made)
    if how == "revoked":
        link_revoke(actor=actor, link=made)
    elif how == "ended":
        ViewLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    elif how == "forged":
        path = path[:-1] + ("A" if path[-1] != "A" else "B")
    else:
        path = reverse("shared-view", args=[signed(made.pk, "webapp.registry.share")])
    for where in (path, f"{path}/data?key=loss"):
        answer = stranger.get(where)
        assert answer.status_code == 404
        assert "amber" not in answer.content.decode()


def test_runs_that_are_gone_are_left_out_and_then_nothing_is_left(
    stranger: Client, actor: Actor, runs: list[Run]
) -> None:
    path = address(link(actor, runs))
    runs[0].delete()
    assert "amber" not in stranger.get(path).content.decode()
    runs[1].delete()
    assert stranger.get(path).status_code == 404


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "report"),
        ({"group": "config.nothing"}, "group"),
        ({"view": "hide=" + "x" * 6000}, "view"),
        ({"title": "\x07"}, "title"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expires"),
        ({"expires_at": timezone.now() + timedelta(days=400)}, "expires"),
    ],
)
def test_what_cannot_be_shared_is_named(actor: Actor, runs: list[Run], values: dict[str, Any], field: str) -> None:
    with pytest.raises(PolmError) as caught:
        link(actor, runs if values else [], **values)
    assert list(caught.value.fields) == [field]
    assert not ViewLink.objects.exists()


def test_others_runs_and_those_of_two_teams_are_not_shared(actor: Actor, other_team: Team, runs: list[Run]) -> None:
    with pytest.raises(PolmError, match="no such run"):
        link(actor, [*runs, make_run(other_team, "foreign")])
    assert not ViewLink.objects.exists()


def test_the_page_makes_lists_and_ends_links(pages: Client, stranger: Client, runs: list[Run]) -> None:
    query = "&".join(f"run={run.pk}" for run in runs) + "&x=epoch&group=method&logy=1&nonsense=1"
    answer = pages.post("/compare/share", {"address": f"?{query}", "days": "1", "title": "Both"})
    assert answer.status_code == 200
    made = ViewLink.objects.get()
    assert (made.group, made.view, made.runs) == ("method", "x=epoch&logy=1", [run.pk for run in runs])
    shown = html.unescape(answer.content.decode())
    url = shown.split('value="http')[1].split('"')[0]
    assert url.endswith("?x=epoch&logy=1")
    assert stranger.get(address(made)).status_code == 200
    assert address(made) in pages.get(f"/compare/?{query}").content.decode()
    assert "There is no open link." in pages.post(f"/links/{made.pk}/revoke").content.decode()
    assert stranger.get(address(made)).status_code == 404
    assert pages.post("/compare/share", {"address": "run=nonsense", "days": "7"}).status_code == 422
    assert pages.post("/compare/share", {"address": query, "days": "9999"}).status_code == 422


def test_a_shared_comparison_costs_as_many_queries_for_a_hundred_runs(
    stranger: Client, actor: Actor, team: Team, django_assert_max_num_queries: Any
) -> None:
    runs = [make_run(team, f"r{number}") for number in range(100)]
    path = address(link(actor, runs))
    with django_assert_max_num_queries(6):
        assert stranger.get(path).status_code == 200


def test_a_shared_report_shows_its_text_and_blocks_without_ways_in(
    stranger: Client, actor: Actor, runs: list[Run]
) -> None:
    ids = ", ".join(str(run.pk) for run in runs)
    body = f"# Found\n\n```chart\nruns: {ids}\nkey: loss\n```\n\n```table\nruns: {ids}\nkeys: loss\n```\n"
    report = report_create(actor=actor, project=runs[0].project, title="Late", body=body)
    made = link_create(actor=actor, report=report)
    shown = html.unescape(stranger.get(address(made)).content.decode())
    assert "<h2>Found</h2>" in shown
    assert f'data-source="{address(made, "shared-data")}?block=0&"' in shown
    assert f"/runs/{runs[0].pk}" not in shown
    assert SECRET not in shown
    answer = stranger.get(f"{address(made, 'shared-data')}?block=0&key=system/cpu").json()
    assert (answer["key"], len(answer["runs"])) == ("loss", 2)
    for place in ("1", "2", "-1", "x", ""):
        assert stranger.get(f"{address(made, 'shared-data')}?block={place}&key=loss").status_code == 404
    report.delete()
    with pytest.raises(PolmError):
        link_for_token(signed(made.pk, SALT))


def test_json_of_a_page_holds_only_ids_and_names(stranger: Client, actor: Actor, runs: list[Run]) -> None:
    shown = stranger.get(address(link(actor, runs))).content.decode()
    data = shown.split('<script id="compare-runs" type="application/json">')[1].split("</script>")[0]
    assert [set(run) for run in json.loads(data)] == [{"id", "name"}] * 2
