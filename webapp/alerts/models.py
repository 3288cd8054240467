"""Rules that watch a project's runs, the alerts that they gave, and how each reached people."""

import uuid
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now

from webapp.accounts.models import Team, User
from webapp.claimed import ClaimedWork, WorkQuerySet, WorkStatus
from webapp.ids import new_id
from webapp.metrics.keys import MAX_KEY_LENGTH
from webapp.runs.models import Project, Run


class RuleKind(models.TextChoices):
    HEALTH = "health", "A health rule finds something"
    METRIC = "metric", "A metric passes a bound"
    STATUS = "status", "A run ends or is held up"


class Comparison(models.TextChoices):
    ABOVE = "above", "above"
    BELOW = "below", "below"
    NOT_FINITE = "not_finite", "NaN or infinite"


class RunState(models.TextChoices):
    FAILED = "failed", "It failed"
    SUCCEEDED = "succeeded", "It succeeded"
    HELD = "held", "It was paused for want of space"


class AlertRule(models.Model):
    """What to tell people of, and how. Of the conditions, those of its kind count.

    `query` narrows the project's runs as the search of the list does. It watches what happens from `since` on, and was
    last asked at `checked_at`. `webhook` is address and secret, encrypted; the host alone is shown.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="alert_rules")
    name = models.CharField(max_length=100)
    enabled = models.BooleanField(default=True)
    kind = models.CharField(max_length=10, choices=RuleKind.choices)
    query = models.TextField(blank=True)

    # The health rules that count; all of them where none is named.
    health_rules = ArrayField(models.CharField(max_length=50), default=list, blank=True)

    metric = models.CharField(max_length=MAX_KEY_LENGTH, blank=True)
    comparison = models.CharField(max_length=10, choices=Comparison.choices, blank=True)
    threshold = models.FloatField(null=True, blank=True)
    # How many logged points in a row must pass the bound; as many that do not end the alert.
    points = models.PositiveSmallIntegerField(default=1)

    states = ArrayField(models.CharField(max_length=10, choices=RunState.choices), default=list, blank=True)

    email_to = models.ManyToManyField(User, related_name="+", blank=True)
    webhook = models.BinaryField(null=True, blank=True)
    webhook_host = models.CharField(max_length=255, blank=True)

    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    since = models.DateTimeField()
    checked_at = models.DateTimeField()

    class Meta:
        verbose_name = "alert rule"
        constraints = [models.UniqueConstraint("project", Lower("name"), name="alert_rule_name_unique")]
        indexes = [models.Index(fields=["project"], condition=Q(enabled=True), name="alert_rule_enabled")]

    def __str__(self) -> str:
        return self.name

    @property
    def team_id(self) -> uuid.UUID:
        """Whose it is."""
        return self.project.team_id

    @property
    def condition(self) -> str:
        """What it looks for, in words that go on from "when"."""
        match self.kind:
            case RuleKind.METRIC:
                bound = f"{self.comparison} {self.threshold:g}" if self.threshold is not None else "NaN or infinite"
                return f"{self.metric} is {bound}" + (f" at {self.points} points in a row" if self.points > 1 else "")
            case RuleKind.STATUS:
                said = {"failed": "fails", "succeeded": "succeeds", "held": "is paused for want of space"}
                return f"a run {' or '.join(said[state] for state in self.states)}"
            case _:
                return ", ".join(self.health_rules) or "any health rule finds something"


class MetricWatch(models.Model):
    """How far a rule has read its metric of a run: up to `step`.

    `streak` counts the points up to there that passed its bound one after another, below 0 those that did not.
    """

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="watches", db_index=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    step = models.BigIntegerField()
    streak = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "run"], name="metric_watch_unique")]

    def __str__(self) -> str:
        return f"{self.rule_id} on {self.run_id} up to {self.step}"


class Alert(models.Model):
    """A rule's condition came true of a run; until it is cleared, the rule gives no other one for it.

    An alert is seen once somebody of the team has said so, for the whole team.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+", db_index=False)
    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="alerts", db_index=False)
    message = models.TextField()
    value = models.FloatField(null=True, blank=True)
    step = models.BigIntegerField(null=True, blank=True)
    fired_at = models.DateTimeField(auto_now_add=True)
    cleared_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    seen_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        verbose_name = "alert"
        constraints = [
            # However many workers look at once, one of them gives the alert.
            models.UniqueConstraint(
                fields=["rule", "run"], condition=Q(cleared_at__isnull=True), name="alert_open_unique"
            )
        ]
        indexes = [
            models.Index(fields=["team", "-id"], name="alert_team_newest"),
            models.Index(fields=["team"], condition=Q(seen_at__isnull=True), name="alert_unseen"),
            models.Index(fields=["run", "-id"], name="alert_run_newest"),
        ]

    def __str__(self) -> str:
        return self.message


class DeliveryQuerySet(WorkQuerySet["AlertDelivery"]):
    def claimable(self) -> Self:
        """Those among them whose time has come."""
        return super().claimable().filter(due_at__lte=Now())


class AlertDelivery(ClaimedWork):
    """A message on its way: to a `recipient` by e-mail, without one to the rule's webhook. Without an alert it is a
    test. One that could not be sent waits for its next attempt, with the `error` of the last."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    alert = models.ForeignKey(Alert, null=True, on_delete=models.CASCADE, related_name="deliveries")
    recipient = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    due_at = models.DateTimeField(db_default=Now())

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = "delivery"
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["rule", "-id"], name="alert_delivery_newest"),
            models.Index(fields=["id"], condition=Q(status__in=["waiting", "running"]), name="alert_delivery_open"),
        ]

    def __str__(self) -> str:
        return f"{self.channel} of {self.rule_id}"

    @property
    def channel(self) -> str:
        return "webhook" if self.recipient_id is None else "e-mail"

    @property
    def state(self) -> str:
        """In words: what is done was sent."""
        if self.status == WorkStatus.WAITING and self.attempts:
            return "Tried again soon"
        return "Sent" if self.status == WorkStatus.DONE else self.get_status_display()
