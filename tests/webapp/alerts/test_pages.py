"""The pages of alerts, the bell, and the strip on a run's page."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from tests.webapp.alerts.conftest import LOSS, Log, MakeRule
from webapp.accounts.models import Team, User
from webapp.alerts.firing import rules_check
from webapp.alerts.models import Alert, AlertDelivery, AlertRule
from webapp.alerts.selectors import COUNTED, unseen_count
from webapp.runs.models import Run

pytestmark = pytest.mark.django_db

HTMX = {"hx-request": "true"}


def form_of(run: Run, **values: Any) -> dict[str, Any]:
    return {"project": str(run.project_id), "name": "high", "points": 1, **LOSS, **values}


def test_from_the_empty_page_to_a_rule_and_away(pages: Client, run: Run) -> None:
    empty = pages.get(reverse("alerts")).content.decode()
    example = f"{reverse('alert-rule-new')}?example=loss"
    assert example in empty
    assert 'value="The loss is no number"' in pages.get(example).content.decode()
    made = pages.post(reverse("alert-rule-new"), form_of(run, webhook_url="https://hooks.example.com/hidden"))
    rule = AlertRule.objects.get()
    assert made.url == reverse("alert-rule", args=[rule.pk])
    shown = pages.get(made.url).content.decode()
    assert "loss is above 5" in shown
    assert "hooks.example.com" in shown
    assert "/hidden" not in shown
    edit = reverse("alert-rule-edit", args=[rule.pk])
    assert "/hidden" not in pages.get(edit).content.decode()
    pages.post(edit, form_of(run, name="higher", threshold=7))
    rule.refresh_from_db()
    assert (rule.name, rule.threshold, rule.webhook_host) == ("higher", 7.0, "hooks.example.com")
    pages.post(edit, form_of(run, name="higher", webhook_remove="on"))
    rule.refresh_from_db()
    assert rule.webhook is None
    pages.post(reverse("alert-rule-switch", args=[rule.pk]), {"enabled": "no"})
    rule.refresh_from_db()
    assert not rule.enabled
    pages.post(reverse("alert-rule-delete", args=[rule.pk]))
    assert not AlertRule.objects.exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": ""}, "This field is required"),
        ({"kind": ""}, "This field is required"),
        ({"query": "loss<"}, "a number was expected"),
        ({"threshold": "much"}, "Enter a number"),
        ({"points": "500"}, "Must be from 1 to 100"),
        ({"metric": ""}, "This field is required"),
        ({"metric": "a\tb"}, "Must be the name of a metric"),
        ({"threshold": ""}, "This field is required"),
        ({"webhook_url": "http://10.0.0.1/"}, "POLM_WEBHOOK_HOSTS"),
        ({"email_to": "nobody"}, "Select a valid choice"),
        ({"project": "x"}, "Select a valid choice"),
        ({"kind": "status"}, "Must be some of failed"),
        ({"name": "NUL \0"}, "Null characters are not allowed"),
    ],
)
def test_a_fault_stands_at_its_field(pages: Client, run: Run, values: dict[str, Any], said: str) -> None:
    answer = pages.post(reverse("alert-rule-new"), form_of(run, **values))
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not AlertRule.objects.exists()


def test_the_page_says_when_mail_goes_nowhere(pages: Client, run: Run, settings: Any) -> None:
    form = reverse("alert-rule-new")
    assert b"E-mail is not set up" not in pages.get(form).content
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert b"E-mail is not set up" in pages.get(form).content


def test_the_bell_counts_what_nobody_has_seen(
    pages: Client, make_rule: MakeRule, run: Run, log: Log, signed_in: Callable[[User], Client], viewer: User
) -> None:
    make_rule(**LOSS)
    make_rule(**LOSS, points=2)
    log(9.0, 9.0)
    rules_check()
    bell = reverse("alert-bell")
    assert "Alerts, 2 unseen" in pages.get(bell).content.decode()
    assert "Alerts, 2 unseen" in pages.get(reverse("home")).content.decode()
    first = Alert.objects.first()
    assert first is not None
    rest = pages.post(f"{reverse('alerts-seen')}?unseen=yes", {"alert": first.pk}, headers=HTMX).content.decode()
    assert rest.count("<tr") == 2
    assert 'hx-swap-oob="true"' in rest
    assert signed_in(viewer).post(reverse("alerts-seen")).status_code == 403
    assert "1 unseen" in pages.get(bell).content.decode()
    pages.post(reverse("alerts-seen"))
    assert "unseen" not in pages.get(bell).content.decode()
    assert b"No such alert" in pages.get(f"{reverse('alerts')}?unseen=yes").content


def test_the_count_is_one_bounded_query(
    team: Team, make_rule: MakeRule, run: Run, django_assert_num_queries: Any
) -> None:
    rule = make_rule(kind="health")
    now = rule.created_at
    Alert.objects.bulk_create(
        Alert(team=team, rule=rule, run=run, message="m", cleared_at=now) for _ in range(COUNTED + 5)
    )
    with django_assert_num_queries(1) as asked:
        assert unseen_count(team) == COUNTED
    assert "LIMIT" in asked.captured_queries[0]["sql"]


def test_the_run_s_page_shows_its_alerts_until_they_are_cleared_and_seen(
    pages: Client, make_rule: MakeRule, run: Run, log: Log
) -> None:
    make_rule(**LOSS, name="too <high>")
    page, strip = reverse("run", args=[run.pk]), reverse("run-alerts", args=[run.pk])
    assert b"loss is 9" not in pages.get(page).content
    log(9.0)
    rules_check()
    assert "too &lt;high&gt;</a>: loss is 9 at step 1" in pages.get(page).content.decode()
    log(1.0)
    rules_check()
    assert "cleared" in pages.get(strip).content.decode()
    pages.post(reverse("alerts-seen"))
    assert "loss is 9" not in pages.get(strip).content.decode()


def test_a_failed_delivery_is_shown_on_the_rule_s_page(pages: Client, make_rule: MakeRule) -> None:
    rule = make_rule(kind="health", webhook_url="https://hooks.example.com/x")
    page = reverse("alert-rule", args=[rule.pk])
    pages.post(reverse("alert-rule-test", args=[rule.pk]))
    assert "every 3s" in pages.get(page).content.decode()
    error = {"message": "It answered with status 404.", "advice": ""}
    AlertDelivery.objects.update(status="failed", attempts=1, error=error)
    shown = pages.get(page, headers=HTMX).content.decode()
    assert "It answered with status 404." in shown
    assert "every 3s" not in shown


def test_lists_take_as_many_queries_however_long_they_are(
    pages: Client, make_rule: MakeRule, log: Log, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    rules = [make_rule(**LOSS, webhook_url="https://hooks.example.com/x") for _ in range(6)]
    log(9.0)
    rules_check()
    for address in (reverse("alerts"), reverse("alert-rules"), reverse("alert-rule", args=[rules[0].pk])):
        with django_assert_max_num_queries(12):
            assert pages.get(address).status_code == 200
    with django_assert_max_num_queries(12):
        assert pages.get(reverse("alert-rule-edit", args=[rules[0].pk])).status_code == 200


def test_a_long_list_is_paged(pages: Client, team: Team, make_rule: MakeRule, run: Run) -> None:
    rule = make_rule(kind="health")
    Alert.objects.bulk_create(
        Alert(team=team, rule=rule, run=run, message=f"number {n}.", cleared_at=rule.created_at) for n in range(60)
    )
    first = pages.get(f"{reverse('alerts')}?rule={rule.pk}")
    assert first.content.count(b"number ") == 50
    older = pages.get(f"{reverse('alerts')}?{first.context['older']}")
    assert older.content.count(b"number ") == 10
