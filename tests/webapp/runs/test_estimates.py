"""How long a run will take, told by how the formula fared with those that have finished."""

from typing import Any

import pytest

from tests.support.runs import finished_run
from webapp.accounts.models import Team
from webapp.runs.estimates import Expected, seconds_of_report

pytestmark = pytest.mark.django_db
REPORT = {"seconds": 100.0, "device": "cpu"}


def test_two_runs_say_nothing_and_three_do(team: Team) -> None:
    finished_run(team, estimated=10, took=20)
    finished_run(team, estimated=10, took=900)
    assert seconds_of_report(team.pk, "sft", REPORT) is None
    finished_run(team, estimated=10, took=30)
    assert seconds_of_report(team.pk, "sft", REPORT) == Expected(300.0, 3)


@pytest.mark.parametrize("report", [{}, {"seconds": 0.0, "device": "cpu"}, {**REPORT, "device": "cuda"}])
def test_a_report_without_a_time_or_for_another_device_is_not_told_from(team: Team, report: dict[str, Any]) -> None:
    for _ in range(3):
        finished_run(team, estimated=10, took=20)
    assert seconds_of_report(team.pk, "sft", report) is None


@pytest.mark.parametrize(
    "values", [{"status": "failed"}, {"lease_epoch": 2}, {"estimated_seconds": None}, {"started_at": None}]
)
def test_runs_that_say_nothing_of_the_formula_do_not_count(team: Team, values: dict[str, Any]) -> None:
    for _ in range(3):
        finished_run(team, estimated=10, took=20, **values)
    assert seconds_of_report(team.pk, "sft", REPORT) is None


def test_runs_of_other_teams_do_not_count(team: Team, other_team: Team) -> None:
    for _ in range(3):
        finished_run(other_team, estimated=10, took=20)
    assert seconds_of_report(team.pk, "sft", REPORT) is None


def test_the_methods_own_runs_come_first_and_the_newest_ones(team: Team, django_assert_num_queries: Any) -> None:
    for _ in range(3):
        finished_run(team, estimated=10, took=50, method="dpo")
    with django_assert_num_queries(2):
        assert seconds_of_report(team.pk, "sft", REPORT) == Expected(500.0, 3)
    for _ in range(20):
        finished_run(team, estimated=10, took=20)
    with django_assert_num_queries(1):
        assert seconds_of_report(team.pk, "sft", REPORT) == Expected(200.0, 20)
