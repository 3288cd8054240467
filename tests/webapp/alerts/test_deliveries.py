"""How alerts reach people: by e-mail, and by webhooks that go nowhere they must not."""

import hashlib
import hmac
import smtplib
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.mail import EmailMessage
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from tests.support import factories
from tests.support.webhook import Receiver
from tests.webapp.alerts.conftest import LOSS, Log, MakeRule
from webapp.accounts.access import Actor
from webapp.accounts.models import Membership, Team, User
from webapp.alerts.deliveries import MAX_TRIES, PAUSES
from webapp.alerts.firing import rules_check
from webapp.alerts.models import Alert, AlertDelivery, AlertRule
from webapp.alerts.services import rule_test, webhook_of
from webapp.claimed import WorkStatus
from webapp.errors import Conflict
from webapp.runs.models import Run
from workers import alerts

pytestmark = pytest.mark.django_db

SECRET = "a-shared-secret"


@pytest.fixture
def mailed(team: Team) -> User:
    user = factories.make_user("mia", team)
    User.objects.filter(pk=user.pk).update(email="mia@example.com")
    return user


def only() -> AlertDelivery:
    return AlertDelivery.objects.get()


def later() -> None:
    """As if what waits for its next attempt had waited long enough."""
    AlertDelivery.objects.update(due_at=Now())


def test_a_webhook_gets_the_alert_signed(make_rule: MakeRule, run: Run, log: Log, receiver: Receiver) -> None:
    rule = make_rule(**LOSS, name="high", webhook_url=receiver.url, webhook_secret=SECRET)
    log(9.0)
    rules_check()
    alerts.deliver()
    posted = receiver.posted[0]
    said, alert = posted.json(), Alert.objects.get()
    assert posted.path == "/hook?key=1"
    assert posted.headers["X-PoLM-Delivery"] == said["delivery"] == str(only().pk)
    expected = hmac.new(SECRET.encode(), posted.body, hashlib.sha256).hexdigest()
    assert posted.headers["X-PoLM-Signature"] == f"sha256={expected}"
    assert (said["event"], said["alert"]["value"], said["alert"]["step"]) == ("alert", 9.0, 1)
    assert said["run"]["url"] == django_settings.PUBLIC_URL + reverse("run", args=[run.pk])
    assert said["rule"]["url"] == django_settings.PUBLIC_URL + reverse("alert-rule", args=[rule.pk])
    assert alert.message in said["text"]
    assert (only().status, only().attempts, only().error) == (WorkStatus.DONE, 1, None)
    alerts.deliver()
    assert len(receiver.posted) == 1


def test_a_value_that_is_no_number_is_null_and_nothing_is_signed_without_a_secret(
    make_rule: MakeRule, log: Log, receiver: Receiver
) -> None:
    make_rule(kind="metric", metric="loss", comparison="not_finite", webhook_url=receiver.url)
    log(float("nan"))
    rules_check()
    alerts.deliver()
    assert receiver.posted[0].json()["alert"]["value"] is None
    assert "X-PoLM-Signature" not in receiver.posted[0].headers


def test_a_private_address_is_refused_also_when_its_name_leads_there_later(
    make_rule: MakeRule, actor: Actor, receiver: Receiver, settings: Any
) -> None:
    rule = make_rule(kind="health", webhook_url=receiver.url)
    settings.WEBHOOK_HOSTS = ""
    rule_test(actor=actor, rule=rule)
    alerts.deliver()
    assert (only().status, only().attempts) == (WorkStatus.FAILED, 1)
    assert "POLM_WEBHOOK_HOSTS" in only().error["message"]
    AlertDelivery.objects.all().delete()
    named = make_rule(kind="health", webhook_url=f"https://localhost:{receiver.server_port}/x")
    rule_test(actor=actor, rule=named)
    alerts.deliver()
    assert "must be a public address" in only().error["message"]
    assert not receiver.posted


def test_a_redirect_is_not_followed(make_rule: MakeRule, actor: Actor, receiver: Receiver) -> None:
    receiver.statuses = [302]
    rule_test(actor=actor, rule=make_rule(kind="health", webhook_url=receiver.url))
    alerts.deliver()
    assert [posted.path for posted in receiver.posted] == ["/hook?key=1"]
    assert only().status == WorkStatus.FAILED
    assert "a redirect" in only().error["message"]


def test_what_fails_is_tried_again_later_each_time_and_at_last_given_up(
    make_rule: MakeRule, actor: Actor, receiver: Receiver
) -> None:
    receiver.statuses = [503] * MAX_TRIES
    rule_test(actor=actor, rule=make_rule(kind="health", webhook_url=receiver.url))
    for attempt, pause in enumerate(PAUSES, 1):
        alerts.deliver()
        alerts.deliver()  # not yet
        assert len(receiver.posted) == attempt
        delivery = only()
        assert (delivery.status, delivery.attempts, delivery.state) == (WorkStatus.WAITING, attempt, "Tried again soon")
        assert "status 503: heard" in delivery.error["message"]
        assert abs(delivery.due_at - timezone.now() - pause) < timedelta(seconds=10)
        later()
    alerts.deliver()
    assert (only().status, len(receiver.posted)) == (WorkStatus.FAILED, MAX_TRIES)
    later()
    alerts.deliver()
    assert len(receiver.posted) == MAX_TRIES


def test_it_is_sent_once_the_receiver_is_back(make_rule: MakeRule, actor: Actor, receiver: Receiver) -> None:
    receiver.statuses = [500]
    rule_test(actor=actor, rule=make_rule(kind="health", webhook_url=receiver.url))
    alerts.deliver()
    later()
    alerts.deliver()
    assert (only().status, only().error, only().attempts) == (WorkStatus.DONE, None, 2)
    assert receiver.posted[1].json()["event"] == "test"


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_what_another_attempt_would_not_help_is_given_up_at_once(
    make_rule: MakeRule, actor: Actor, receiver: Receiver, status: int
) -> None:
    receiver.statuses = [status]
    rule_test(actor=actor, rule=make_rule(kind="health", webhook_url=receiver.url))
    alerts.deliver()
    assert (only().status, only().attempts) == (WorkStatus.FAILED, 1)


def test_nobody_there_and_an_old_key_are_told_of(
    make_rule: MakeRule, actor: Actor, receiver: Receiver, settings: Any
) -> None:
    rule = make_rule(kind="health", webhook_url="http://127.0.0.1:1/x")
    rule_test(actor=actor, rule=rule)
    alerts.deliver()
    assert "127.0.0.1 cannot be reached" in only().error["message"]
    settings.SECRET_KEY = "another"
    later()
    alerts.deliver()
    assert only().status == WorkStatus.FAILED
    assert "SECRET_KEY has changed" in only().error["message"]


def test_the_webhook_is_kept_encrypted(make_rule: MakeRule) -> None:
    rule = make_rule(kind="health", webhook_url="https://hooks.example.com/t/token", webhook_secret=SECRET)
    kept = bytes(AlertRule.objects.get(pk=rule.pk).webhook)
    assert b"token" not in kept
    assert SECRET.encode() not in kept
    assert webhook_of(rule) == {"url": "https://hooks.example.com/t/token", "secret": SECRET}


def test_people_are_mailed(make_rule: MakeRule, log: Log, mailed: User, mailoutbox: list[EmailMessage]) -> None:
    make_rule(**LOSS, name="high", email_to=[mailed.username])
    log(9.0)
    rules_check()
    alerts.deliver()
    mail = mailoutbox[0]
    assert (mail.to, mail.subject) == (["mia@example.com"], "[Experiments] high: watched")
    assert "loss is 9 at step 1, above 5." in mail.body
    assert "/runs/" in mail.body
    assert only().status == WorkStatus.DONE


def test_a_name_of_several_lines_makes_no_header(
    make_rule: MakeRule, run: Run, log: Log, mailed: User, mailoutbox: list[EmailMessage]
) -> None:
    Run.objects.filter(pk=run.pk).update(name="watched\nBcc: eve@example.com")
    make_rule(**LOSS, name="high", email_to=[mailed.pk])
    log(9.0)
    rules_check()
    alerts.deliver()
    assert mailoutbox[0].subject == "[Experiments] high: watched Bcc: eve@example.com"
    assert mailoutbox[0].recipients() == ["mia@example.com"]


def test_who_has_left_the_team_is_not_mailed(
    make_rule: MakeRule, log: Log, mailed: User, mailoutbox: list[EmailMessage]
) -> None:
    make_rule(**LOSS, email_to=[mailed.pk])
    Membership.objects.filter(user=mailed).delete()
    log(9.0)
    rules_check()
    alerts.deliver()
    assert Alert.objects.count() == 1
    assert not mailoutbox


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (ConnectionRefusedError(111, "Connection refused"), WorkStatus.WAITING),
        (smtplib.SMTPServerDisconnected("gone"), WorkStatus.WAITING),
        (smtplib.SMTPRecipientsRefused({"mia@example.com": (550, b"no such user")}), WorkStatus.FAILED),
    ],
)
def test_a_mail_server_that_does_not_take_it(
    make_rule: MakeRule, actor: Actor, mailed: User, monkeypatch: pytest.MonkeyPatch, problem: Exception, status: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise problem

    rule_test(actor=actor, rule=make_rule(kind="health", email_to=[mailed.pk]))
    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", refuse)
    alerts.deliver()
    assert only().status == status
    assert only().error["message"]


def test_a_test_needs_a_channel_and_goes_out_one_at_a_time(
    make_rule: MakeRule, actor: Actor, receiver: Receiver
) -> None:
    with pytest.raises(Conflict, match="tells nobody"):
        rule_test(actor=actor, rule=make_rule(kind="health"))
    rule = make_rule(kind="health", webhook_url=receiver.url)
    rule_test(actor=actor, rule=rule)
    with pytest.raises(Conflict, match="on its way"):
        rule_test(actor=actor, rule=rule)
