"""What a rule may say, over services and API."""

from typing import Any

import pytest

from tests.support import factories
from tests.support.api import ApiClient
from tests.support.runs import make_run
from tests.webapp.alerts.conftest import FAILED, LOSS, Log, MakeRule
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.alerts import services
from webapp.alerts.firing import rules_check
from webapp.alerts.models import Alert, AlertRule
from webapp.alerts.services import rule_update, webhook_of
from webapp.errors import Conflict, Invalid
from webapp.runs.models import Run, Status

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"kind": "weather"}, "kind"),
        ({"query": "loss<"}, "query"),
        ({"health_rules": ["nonsense"]}, "health_rules"),
        ({**FAILED, "states": []}, "states"),
        ({**FAILED, "states": ["running"]}, "states"),
        ({**LOSS, "metric": ""}, "metric"),
        ({**LOSS, "metric": "a\nb"}, "metric"),
        ({**LOSS, "comparison": "near"}, "comparison"),
        ({**LOSS, "threshold": None}, "threshold"),
        ({**LOSS, "threshold": float("nan")}, "threshold"),
        ({**LOSS, "points": 0}, "points"),
        ({**LOSS, "points": 101}, "points"),
        ({"email_to": ["nobody"]}, "email_to"),
        ({"email_to": ["olaf"]}, "email_to"),
        ({"email_to": ["max"]}, "email_to"),
        ({"webhook_url": "http://10.0.0.1/x"}, "webhook_url"),
        ({"webhook_url": "https://169.254.169.254/latest"}, "webhook_url"),
        ({"webhook_url": "https://[::1]/x"}, "webhook_url"),
        ({"webhook_url": "http://hooks.example.com/x"}, "webhook_url"),
        ({"webhook_url": "https://user:pass@hooks.example.com/x"}, "webhook_url"),
        ({"webhook_url": "ftp://hooks.example.com"}, "webhook_url"),
        ({"webhook_url": "https://hooks.example.com/ä"}, "webhook_url"),
        ({"webhook_url": "https://hooks.example.com/" + "x" * 500}, "webhook_url"),
        ({"webhook_secret": "alone"}, "webhook_secret"),
        ({"webhook_url": "https://hooks.example.com/x", "webhook_secret": "with blank"}, "webhook_secret"),
        ({"project": "nowhere"}, "project"),
    ],
)
def test_each_fault_is_told_of_at_its_field_and_nothing_is_kept(
    api: ApiClient, outsider: User, run: Run, values: dict[str, Any], field: str
) -> None:
    body = {"project": str(run.project_id), "name": "rule", "kind": "health", **values}
    if body.get("threshold") != body.get("threshold"):
        body["threshold"] = "nan"
    answer = api.post("/alert-rules", body)
    assert answer.status_code == 422, answer.content
    assert list(answer.json()["error"]["fields"]) == [field]
    assert not AlertRule.objects.exists()


def test_a_name_is_used_once_in_a_project(make_rule: MakeRule) -> None:
    make_rule(kind="health", name="One")
    with pytest.raises(Invalid) as caught:
        make_rule(kind="health", name="one")
    assert list(caught.value.fields) == ["name"]


def test_a_team_has_so_many_rules(make_rule: MakeRule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_RULES", 1)
    make_rule(kind="health")
    with pytest.raises(Conflict, match="1 alert rules already"):
        make_rule(kind="health")


def test_what_belongs_to_another_kind_is_not_kept(make_rule: MakeRule, actor: Actor) -> None:
    rule = make_rule(**LOSS, health_rules=["clipped"], states=["failed"])
    assert (rule.health_rules, rule.states) == ([], [])
    rule_update(actor=actor, rule=rule, kind="status", states=["failed"])
    rule.refresh_from_db()
    assert (rule.metric, rule.threshold, rule.condition) == ("", None, "a run fails")


def test_a_webhook_stays_until_it_is_replaced_or_taken_away(make_rule: MakeRule, actor: Actor) -> None:
    first = "https://hooks.example.com/one"
    rule = make_rule(kind="health", webhook_url=first, webhook_secret="old")
    rule_update(actor=actor, rule=rule, name="renamed")
    assert webhook_of(rule) == {"url": first, "secret": "old"}
    rule_update(actor=actor, rule=rule, webhook_secret="new")
    assert webhook_of(rule) == {"url": first, "secret": "new"}
    rule_update(actor=actor, rule=rule, webhook_url="https://other.example.com/two")
    assert webhook_of(rule) == {"url": "https://other.example.com/two", "secret": ""}
    assert rule.webhook_host == "other.example.com"
    rule_update(actor=actor, rule=rule, webhook_url="")
    rule.refresh_from_db()
    assert (webhook_of(rule), rule.webhook_host) == (None, "")


def test_rules_over_the_api_from_the_first_to_the_last(
    api: ApiClient, team: Team, run: Run, log: Log, member: User
) -> None:
    User.objects.filter(pk=member.pk).update(email="max@example.com")
    body = {**LOSS, "project": run.project.name, "name": "high", "points": 2, "email_to": ["max"]}
    hook = {"webhook_url": "https://hooks.example.com/secret-path", "webhook_secret": "s3cret"}
    made = api.post("/alert-rules", body | hook)
    assert made.status_code == 201
    assert "secret-path" not in made.content.decode()
    rule = made.json()
    assert (rule["threshold"], rule["email_to"], rule["webhook_host"]) == (5.0, ["max"], "hooks.example.com")
    changed = api.patch(f"/alert-rules/{rule['id']}", {"comparison": "not_finite", "threshold": None, "points": 1})
    assert (changed.json()["comparison"], changed.json()["threshold"]) == ("not_finite", None)
    assert api.patch(f"/alert-rules/{rule['id']}", {"colour": "red"}).status_code == 422
    assert [one["id"] for one in api.get("/alert-rules").json()["items"]] == [rule["id"]]
    sent = api.post(f"/alert-rules/{rule['id']}/test")
    assert [(one["channel"], one["to"]) for one in sent.json()] == [("webhook", None), ("e-mail", "max")]
    assert api.post(f"/alert-rules/{rule['id']}/test").status_code == 409
    log(float("nan"))
    rules_check()
    detail = api.get(f"/alert-rules/{rule['id']}").json()
    assert len(detail["deliveries"]) == 4
    alert = api.get("/alerts", {"unseen": True, "rule": rule["id"], "run": str(run.pk)}).json()["items"][0]
    assert (alert["value"], alert["run_name"], alert["seen_at"]) == (None, "watched", None)
    assert api.get("/alerts", {"run": "x"}).status_code == 422
    seen = api.post(f"/alerts/{alert['id']}/seen").json()
    assert seen["seen_by"] == "max"
    assert api.get("/alerts", {"unseen": True}).json()["items"] == []
    assert api.delete(f"/alert-rules/{rule['id']}").status_code == 204
    assert not Alert.objects.exists()


def test_many_are_seen_at_once_but_none_of_another_team(
    api: ApiClient, make_rule: MakeRule, team: Team, other_team: Team, run: Run, log: Log
) -> None:
    make_rule(**LOSS)
    second = make_run(team, "second", status=Status.RUNNING)
    log(9.0)
    log(9.0, of=second)
    rules_check()
    theirs = Alert.objects.create(
        team=other_team, rule=AlertRule.objects.get(), run=make_run(other_team, "theirs"), message="theirs"
    )
    for bad in ({}, {"all": True, "alerts": [str(theirs.pk)]}, {"alerts": [str(theirs.pk)] * 201}):
        assert api.post("/alerts/seen", bad).status_code == 422
    assert api.post("/alerts/seen", {"alerts": [str(theirs.pk)]}).json() == {"seen": 0}
    assert api.post("/alerts/seen", {"all": True, "run": str(run.pk)}).json() == {"seen": 1}
    assert api.post("/alerts/seen", {"all": True}).json() == {"seen": 1}
    theirs.refresh_from_db()
    assert theirs.seen_at is None


def test_the_api_s_lists_take_as_many_queries_however_long_they_are(
    api: ApiClient, make_rule: MakeRule, team: Team, member: User, log: Log, django_assert_max_num_queries: Any
) -> None:
    User.objects.filter(pk=member.pk).update(email="max@example.com")
    people = [factories.make_user(f"p{number}", team) for number in range(2)]
    User.objects.filter(pk__in=[one.pk for one in people]).update(email="p@example.com")
    for _ in range(4):
        make_rule(**LOSS, email_to=["max", "p0", "p1"])
    log(9.0)
    rules_check()
    for path in ("/alerts", "/alert-rules"):
        with django_assert_max_num_queries(6):
            assert len(api.get(path).json()["items"]) == 4
