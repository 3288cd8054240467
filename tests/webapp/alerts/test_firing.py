"""What makes an alert, what clears it, and that it comes once."""

import math
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.support.runs import make_run
from tests.webapp.alerts.conftest import FAILED, LOSS, Log, MakeRule
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.alerts import firing
from webapp.alerts.firing import rules_check
from webapp.alerts.models import Alert, AlertRule, MetricWatch
from webapp.alerts.services import rule_update
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Run, Status

pytestmark = pytest.mark.django_db


def holding() -> int:
    return Alert.objects.filter(cleared_at=None).count()


def move(run: Run, status: Status, **values: Any) -> None:
    ended = timezone.now() if status in (Status.FAILED, Status.SUCCEEDED, Status.STOPPED) else None
    Run.objects.filter(pk=run.pk).update(status=status, finished_at=ended, **values)


def test_a_metric_fires_once_until_it_is_clear_and_then_again(make_rule: MakeRule, run: Run, log: Log) -> None:
    make_rule(**LOSS, name="high")
    log(1.0, 6.0)
    rules_check()
    rules_check()
    alert = Alert.objects.get()
    assert (alert.run, alert.value, alert.step, alert.cleared_at) == (run, 6.0, 2, None)
    assert alert.message == "loss is 6 at step 2, above 5."
    log(7.0)
    rules_check()
    assert Alert.objects.count() == 1
    log(2.0)
    rules_check()
    assert holding() == 0
    log(8.0)
    rules_check()
    assert [one.value for one in Alert.objects.order_by("id")] == [6.0, 8.0]


def test_so_many_points_in_a_row_fire_and_as_many_clear(make_rule: MakeRule, log: Log) -> None:
    make_rule(**LOSS, points=3)
    log(6, 6, 1, 6, 6)
    rules_check()
    assert not Alert.objects.exists()
    log(6)  # the row goes on over two looks
    rules_check()
    assert Alert.objects.get().message == "loss is 6 at step 6, above 5, for 3 points in a row."
    log(1, 1, 6, 1, 1)
    rules_check()
    assert holding() == 1
    log(1)
    rules_check()
    assert holding() == 0


def test_a_spike_between_two_looks_is_not_missed(make_rule: MakeRule, log: Log) -> None:
    make_rule(**LOSS)
    log(*[1.0] * 300, 9.0, *[1.0] * 300)
    rules_check()
    alert = Alert.objects.get()
    assert (alert.step, alert.value) == (301, 9.0)
    assert alert.cleared_at is not None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_comparison_of_its_own(make_rule: MakeRule, log: Log, value: float) -> None:
    for_numbers = make_rule(**LOSS)
    below = make_rule(**{**LOSS, "comparison": "below", "threshold": -5})
    for_others = make_rule(kind="metric", metric="loss", comparison="not_finite", points=2)
    log(1.0, value, value)
    rules_check()
    assert list(Alert.objects.values_list("rule", flat=True)) == [for_others.pk]
    assert not for_numbers.alerts.exists()
    assert not below.alerts.exists()
    log(6.0, value, 6.0)
    rules_check()
    assert for_numbers.alerts.count() == 1
    assert for_others.alerts.get().cleared_at is None


def test_what_was_logged_before_the_rule_does_not_count(make_rule: MakeRule, log: Log) -> None:
    log(9.0, wall=timezone.now().timestamp() - 60)
    make_rule(**LOSS)
    rules_check()
    assert not Alert.objects.exists()
    log(9.0)
    rules_check()
    assert Alert.objects.get().step == 2


def test_a_run_that_goes_back_to_a_checkpoint_is_read_on_from_there(make_rule: MakeRule, run: Run, log: Log) -> None:
    rule = make_rule(**LOSS)
    log(1.0, 1.0, 1.0, 1.0)
    rules_check()
    for step, value in ((2, 1.0), (3, 9.0)):
        MetricWriter(run.pk).append([MetricLine(step, time.time() + 1, {"loss": value})])
        rules_check()
    assert rule.alerts.get().step == 3
    assert MetricWatch.objects.get(rule=rule).step == 3


def test_the_search_says_which_runs_are_watched(make_rule: MakeRule, team: Team, run: Run, log: Log) -> None:
    other = make_run(team, "baseline run", status=Status.RUNNING, tags=["baseline"], method="dpo")
    elsewhere = make_run(
        team, "elsewhere", status=Status.RUNNING, tags=["baseline"], project=team.projects.create(name="Other")
    )
    rule = make_rule(**LOSS, query="method:dpo,sft tag:baseline")
    for one in (run, other, elsewhere):
        log(9.0, of=one)
    rules_check()
    assert [alert.run for alert in rule.alerts.all()] == [other]


def test_a_search_that_is_no_longer_one_stops_no_other_rule(make_rule: MakeRule, log: Log) -> None:
    broken, rule = make_rule(**LOSS), make_rule(**LOSS)
    AlertRule.objects.filter(pk=broken.pk).update(query="loss<")
    log(9.0)
    rules_check()
    assert Alert.objects.get().rule == rule


def test_a_run_that_fails_fires_and_one_that_goes_on_clears(make_rule: MakeRule, run: Run) -> None:
    make_rule(**FAILED)
    rules_check()
    move(run, Status.FAILED, error={"code": "x", "message": "Out of memory.", "advice": "", "fields": {}})
    rules_check()
    rules_check()
    assert Alert.objects.get().message == "The run failed: Out of memory."
    move(run, Status.QUEUED, error=None)
    rules_check()
    assert holding() == 0
    held = {"code": "resource.disk", "message": "The disk is full.", "advice": "", "fields": {}}
    move(run, Status.PAUSED, error=held)
    rules_check()
    assert Alert.objects.get(cleared_at=None).message == "The run is paused for want of space: The disk is full."


def test_success_is_told_once_and_what_ended_before_the_rule_is_not(make_rule: MakeRule, team: Team, run: Run) -> None:
    old = make_run(team, "old", status=Status.SUCCEEDED, finished_at=timezone.now() - timedelta(seconds=5))
    rule = make_rule(kind="status", states=["succeeded"])
    move(run, Status.SUCCEEDED, step=40)
    for _ in range(3):
        rules_check()
    assert [alert.run for alert in rule.alerts.all()] == [run]
    assert not Alert.objects.filter(run=old).exists()


def test_a_run_that_ended_while_nobody_looked_is_told_of(make_rule: MakeRule, run: Run, log: Log) -> None:
    """Short runs begin and end between two looks, and the studio may have been off for a day."""
    rule = make_rule(**LOSS)
    log(1.0, 9.0)
    move(run, Status.FAILED)
    a_day = timedelta(days=1)
    AlertRule.objects.update(since=timezone.now() - 2 * a_day, checked_at=timezone.now() - a_day)
    Run.objects.update(finished_at=timezone.now() - a_day / 2)
    rules_check()
    assert rule.alerts.count() == 1


def test_health_rules_fire_all_or_those_named(make_rule: MakeRule, run: Run, log: Log) -> None:
    any_rule = make_rule(kind="health")
    named = make_rule(kind="health", health_rules=["loss_not_finite", "stalled"])
    others = make_rule(kind="health", health_rules=["clipped"])
    rules_check()
    assert not Alert.objects.exists()
    log(1.0, math.nan)
    rules_check()
    rules_check()
    assert {alert.rule for alert in Alert.objects.all()} == {any_rule, named}
    assert "NaN or infinite" in named.alerts.get().message
    assert not others.alerts.exists()


def test_a_rule_that_is_switched_off_says_nothing_and_begins_anew(make_rule: MakeRule, actor: Actor, log: Log) -> None:
    rule = make_rule(**LOSS)
    log(9.0)
    rules_check()
    rule_update(actor=actor, rule=rule, enabled=False)
    assert holding() == 0
    log(9.0, wall=timezone.now().timestamp() - 1)
    rules_check()
    rule_update(actor=actor, rule=rule, enabled=True)
    rules_check()
    assert Alert.objects.count() == 1
    log(9.0)
    rules_check()
    assert Alert.objects.count() == 2


def test_a_new_bound_begins_anew_and_a_new_name_does_not(make_rule: MakeRule, actor: Actor, log: Log) -> None:
    rule = make_rule(**LOSS)
    log(9.0)
    rules_check()
    rule_update(actor=actor, rule=rule, name="other")
    assert holding() == 1
    rule_update(actor=actor, rule=rule, threshold=20.0)
    assert holding() == 0
    assert not MetricWatch.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_who_look_at_once_give_one_alert(make_rule: MakeRule, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    make_rule(**LOSS, webhook_url="https://hooks.example.com/x")
    log(9.0)
    both, found = threading.Barrier(2, timeout=20), firing._fire
    problems: list[BaseException] = []

    def together(*args: Any) -> Any:
        both.wait()
        return found(*args)

    def look() -> None:
        try:
            rules_check()
        except BaseException as error:  # noqa: BLE001 - raised below
            problems.append(error)
        finally:
            connection.close()

    monkeypatch.setattr(firing, "_fire", together)
    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert Alert.objects.get().deliveries.count() == 1


def test_a_round_costs_as_much_however_many_runs_log(make_rule: MakeRule, team: Team, run: Run, log: Log) -> None:
    for threshold in (5.0, 50.0):
        make_rule(**{**LOSS, "threshold": threshold}, query="method:sft")
    log(1.0)
    rules_check()
    counts = []
    for more in (1, 5):
        log(1.0)
        for number in range(more):
            log(1.0, of=make_run(team, f"run {more} {number}", status=Status.RUNNING))
        with CaptureQueriesContext(connection) as queries:
            rules_check()
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 16


def test_without_rules_a_round_is_one_query(run: Run, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        rules_check()
