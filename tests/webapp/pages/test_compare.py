"""Runs side by side."""

import html
import json
from typing import Any

import pytest
from django.test import Client

from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Run, Status


def logged(team: Team, name: str, last: float, **values: Any) -> Run:
    run = make_run(team, name, **values)
    lines = [
        MetricLine(step, 1e9 + step, {"loss": last + 3 - step, "system/cpu": 50.0, "odd": 1.0}) for step in (1, 2, 3)
    ]
    MetricWriter(run.pk).append(lines)
    return run


def address(*runs: Run) -> str:
    return "/compare/?" + "&".join(f"run={run.pk}" for run in runs)


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def test_without_runs_it_offers_a_choice(pages: Client, team: Team) -> None:
    run = make_run(team, "zinc")
    shown = page(pages, "/compare/")
    assert f'name="run" value="{run.pk}"' in shown
    assert "compare.js" not in shown


def test_a_team_without_runs_is_told_what_to_do(pages: Client) -> None:
    assert "Nothing to compare yet" in page(pages, "/compare/")


def test_each_metric_is_a_chart_the_method_s_own_first_the_machine_last(pages: Client, team: Team) -> None:
    shown = page(pages, address(logged(team, "a", 1.0), logged(team, "b", 2.0)))
    keys = [part.split('"')[0] for part in shown.split('data-key="')[1:]]
    assert keys == ["loss", "odd", "system/cpu"]


def test_what_bounds_a_line_is_no_chart_of_its_own(pages: Client, team: Team) -> None:
    run = make_run(team, "votes", method="test-time-scaling")
    MetricWriter(run.pk).append(
        MetricLine(step, 1e9, {f"accuracy/best{end}": 0.5 for end in ("", "/low", "/high")}) for step in (1, 2)
    )
    shown = page(pages, address(run, logged(team, "b", 2.0)))
    keys = [part.split('"')[0] for part in shown.split('data-key="')[1:]]
    assert keys == ["loss", "accuracy/best", "odd", "system/cpu"]


def test_values_are_measured_against_the_first_run(pages: Client, team: Team) -> None:
    first, second = logged(team, "a", 1.0), logged(team, "b", 1.5)
    shown = page(pages, address(first, second))
    assert "+0.5 (+50%)</span>" in shown
    assert "lowest 1.5 +0.5 (+50%)" in shown
    assert "highest 3.5 +0.5 (+16.7%)" in shown
    assert "-0.5 (-33.3%)</span>" in page(pages, address(second, first))


def test_nothing_is_a_share_of_a_baseline_of_zero(pages: Client, team: Team) -> None:
    shown = page(pages, address(logged(team, "a", 0.0), logged(team, "b", 1.0)))
    assert "+1</span>" in shown


def test_only_settings_that_differ_are_listed(pages: Client, team: Team) -> None:
    first = make_run(team, "a", config={"learning_rate": 1e-5, "seed": 1, "adapter": {"r": 8}})
    second = make_run(team, "b", config={"learning_rate": 2e-5, "seed": 1, "adapter": {"r": 8}})
    shown = page(pages, address(first, second))
    assert "<code>learning_rate</code>" in shown
    assert "2e-5" in shown
    assert "<code>seed</code>" not in shown
    assert "<code>adapter.r</code>" not in shown


def test_runs_are_shown_in_the_order_of_the_address_each_once(pages: Client, team: Team) -> None:
    first, second = make_run(team, "a"), make_run(team, "b")
    shown = page(pages, f"{address(second, first)}&run={second.pk}")
    data = shown.split('<script id="compare-runs" type="application/json">')[1].split("</script>")[0]
    assert [run["id"] for run in json.loads(data)] == [str(second.pk), str(first.pk)]


@pytest.mark.parametrize("ref", ["nonsense", "0192f0c0-0000-7000-8000-000000000000", "1 OR 1=1", ""])
def test_ids_of_nothing_are_left_out(pages: Client, team: Team, ref: str) -> None:
    run = make_run(team, "zinc")
    assert "1 run<" in page(pages, f"/compare/?run={ref}&run={run.pk}")


def test_other_teams_runs_are_left_out(pages: Client, other_team: Team) -> None:
    run = logged(other_team, "zinnober", 1.0)
    assert "zinnober" not in page(pages, address(run))


def test_only_runs_that_go_on_are_followed_live(pages: Client, team: Team) -> None:
    going = make_run(team, "a", status=Status.RUNNING)
    done = make_run(team, "b", status=Status.SUCCEEDED)
    topics = page(pages, address(going, done)).split('data-topics="')[1].split('"')[0]
    assert topics.split() == [f"run:{going.pk}"]


def test_a_name_cannot_break_out_of_the_page(pages: Client, team: Team) -> None:
    run = make_run(team, "</script><script>alert(1)</script>")
    answer = pages.get(address(run)).content.decode()
    assert "<script>alert" not in answer


def test_a_hundred_runs_cost_as_many_queries_as_two(
    pages: Client, team: Team, django_assert_max_num_queries: Any
) -> None:
    runs = [make_run(team, f"run {number}") for number in range(100)]
    with django_assert_max_num_queries(15):
        shown = page(pages, address(*runs))
    assert "100 runs" in shown
    with django_assert_max_num_queries(15):
        page(pages, address(*runs[:2]))


def grouped(client: Client, field: str, *runs: Run) -> str:
    return page(client, f"{address(*runs)}&group={field}")


def test_groups_stand_in_the_legend_with_their_size(pages: Client, team: Team) -> None:
    runs = [logged(team, f"r{rank}", 1.0, config={"adapter": {"r": rank}, "seed": 1}) for rank in (8, 16, 8)]
    shown = grouped(pages, "config.adapter.r", *runs)
    legend = shown.split('aria-label="Groups"')[1].split("</ul>")[0]
    assert [part.split("<")[0] for part in legend.split('nowrap">')[1:]] == ["2 runs", "1 run"]
    assert '<option value="config.adapter.r" selected>adapter.r</option>' in shown
    data = shown.split('<script id="compare-groups" type="application/json">')[1].split("</script>")[0]
    assert [group["name"] for group in json.loads(data)] == ["8", "16"]
    # What is the same for all runs is offered only where the address asks for it.
    assert "config.seed" not in shown
    assert '<option value="config.seed" selected>' in grouped(pages, "config.seed", *runs)


@pytest.mark.parametrize("field", ["config.nothing", "nonsense", "<b>"])
def test_what_runs_cannot_be_grouped_by_is_said_and_nothing_lost(pages: Client, team: Team, field: str) -> None:
    shown = grouped(pages, field, logged(team, "a", 1.0), logged(team, "b", 1.5))
    assert "The runs cannot be grouped by this." in shown
    assert 'data-key="loss"' in shown
    assert 'aria-label="Groups"' not in shown
