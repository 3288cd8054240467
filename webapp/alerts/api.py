"""Alerts and alert rules over REST."""

import math
import uuid
from datetime import datetime
from typing import Any

from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.alerts import selectors, services
from webapp.alerts.models import Alert, AlertDelivery, AlertRule
from webapp.errors import Invalid
from webapp.pagination import DEFAULT_LIMIT, Limit, page

router = Router(tags=["alerts"])

MAX_SEEN = 200


class Body(Schema):
    model_config = ConfigDict(extra="forbid")


class Condition(Schema):
    """What a rule looks for: of the fields, those of its `kind` count."""

    query: str = ""
    health_rules: list[str] = []
    metric: str = ""
    comparison: str = ""
    threshold: float | None = None
    points: int = 1
    states: list[str] = []


class RuleIn(Condition):
    """`email_to` names people of the team, by id or username. The webhook's address and secret are never given back."""

    model_config = ConfigDict(extra="forbid")

    project: str
    name: str
    kind: str
    email_to: list[str] = []
    webhook_url: str = ""
    webhook_secret: str = ""


class RuleUpdateIn(Body):
    """What is left out stays. An empty `webhook_url` takes the webhook away."""

    name: str | None = None
    enabled: bool | None = None
    kind: str | None = None
    query: str | None = None
    health_rules: list[str] | None = None
    metric: str | None = None
    comparison: str | None = None
    threshold: float | None = None
    points: int | None = None
    states: list[str] | None = None
    email_to: list[str] | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None


class RuleOut(Condition):
    id: uuid.UUID
    name: str
    project: uuid.UUID = Field(alias="project_id")
    enabled: bool
    kind: str
    email_to: list[str]
    webhook_host: str
    created_at: datetime

    @staticmethod
    def resolve_email_to(rule: AlertRule) -> list[str]:
        return [user.username for user in rule.email_to.all()]


class RulesOut(Schema):
    items: list[RuleOut]
    next_cursor: str | None


class DeliveryOut(Schema):
    """`status` is waiting, running, done (it was sent) or failed; `alert` is null for a test."""

    id: uuid.UUID
    alert: uuid.UUID | None = Field(alias="alert_id")
    channel: str
    to: str | None = None
    status: str
    attempts: int
    error: dict[str, Any] | None
    created_at: datetime
    due_at: datetime

    @staticmethod
    def resolve_to(delivery: AlertDelivery) -> str | None:
        return delivery.recipient.username if delivery.recipient else None


class RuleDetailOut(RuleOut):
    """With the newest deliveries."""

    deliveries: list[DeliveryOut]

    @staticmethod
    def resolve_deliveries(rule: AlertRule) -> list[AlertDelivery]:
        return selectors.deliveries_of(rule)


class AlertOut(Schema):
    """It holds until `cleared_at`. A `value` that is not finite is null."""

    id: uuid.UUID
    rule: uuid.UUID = Field(alias="rule_id")
    rule_name: str = Field(alias="rule.name")
    run: uuid.UUID = Field(alias="run_id")
    run_name: str = Field(alias="run.name")
    message: str
    value: float | None
    step: int | None
    fired_at: datetime
    cleared_at: datetime | None
    seen_at: datetime | None
    seen_by: str | None

    @staticmethod
    def resolve_value(alert: Alert) -> float | None:
        return alert.value if alert.value is not None and math.isfinite(alert.value) else None

    @staticmethod
    def resolve_seen_by(alert: Alert) -> str | None:
        return alert.seen_by.username if alert.seen_by else None


class AlertsOut(Schema):
    items: list[AlertOut]
    next_cursor: str | None


class SeenIn(Body):
    """Ids of alerts, or `all` that nobody has seen: of a `run` or a `rule` where one is named."""

    alerts: list[uuid.UUID] = []
    all: bool = False
    run: str = ""
    rule: str = ""


class SeenOut(Schema):
    seen: int


@router.get("/alerts", response=AlertsOut)
def alerts(
    request: StudioRequest,
    run: str = "",
    rule: str = "",
    unseen: bool = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> dict[str, Any]:
    """The alerts of your teams, newest first: of a run, of a rule, or those that nobody has seen."""
    found = selectors.alerts_filter(selectors.alerts_visible(request.actor), run=run, rule=rule, unseen=unseen)
    items, next_cursor = page(found, limit, cursor)
    return {"items": items, "next_cursor": next_cursor}


@router.post("/alerts/seen", response=SeenOut)
def alerts_seen(request: StudioRequest, payload: SeenIn) -> dict[str, int]:
    """Say that alerts were seen, for the whole team; `seen` counts those that were not before."""
    actor = request.actor
    actor.require(actor.current_team.pk, Role.MEMBER, "team")
    if payload.all == bool(payload.alerts) or len(payload.alerts) > MAX_SEEN:
        problem = f"give 1 to {MAX_SEEN} ids, or `all`"
        raise Invalid("It is not said which alerts were seen.", fields={"alerts": [problem]})
    found = selectors.alerts_filter(selectors.alerts_visible(actor), run=payload.run, rule=payload.rule)
    found = found if payload.all else found.filter(pk__in=payload.alerts)
    return {"seen": services.alerts_see(actor=actor, alerts=found)}


@router.post("/alerts/{alert_id}/seen", response=AlertOut)
def alert_seen(request: StudioRequest, alert_id: str) -> Alert:
    """Say that one alert was seen."""
    visible = selectors.alerts_visible(request.actor)
    found = request.actor.get(visible, alert_id, Role.MEMBER)
    services.alerts_see(actor=request.actor, alerts=visible.filter(pk=found.pk))
    return visible.get(pk=found.pk)


@router.get("/alert-rules", response=RulesOut)
def rules(request: StudioRequest, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> dict[str, Any]:
    """The alert rules of your teams, newest first."""
    items, next_cursor = page(selectors.rules_visible(request.actor), limit, cursor)
    return {"items": items, "next_cursor": next_cursor}


@router.post("/alert-rules", response={201: RuleOut})
def rule_create(request: StudioRequest, payload: RuleIn) -> Status[AlertRule]:
    """A rule for a project of the current team, by its id or name. It watches what happens from now on."""
    made = services.rule_create(actor=request.actor, **payload.dict())
    return Status(201, selectors.rule_get(request.actor, made.pk))


@router.get("/alert-rules/{rule_id}", response=RuleDetailOut)
def rule(request: StudioRequest, rule_id: str) -> AlertRule:
    """One rule, with how its last messages fared."""
    return selectors.rule_get(request.actor, rule_id)


@router.patch("/alert-rules/{rule_id}", response=RuleOut)
def rule_update(request: StudioRequest, rule_id: str, payload: RuleUpdateIn) -> AlertRule:
    """Change a rule, or switch it by `enabled`. One that looks for something else begins anew."""
    found = selectors.rule_get(request.actor, rule_id, Role.MEMBER)
    changes = payload.dict(exclude_unset=True)
    # Null is a value of the bound alone, which `not_finite` has none of.
    changes = {name: value for name, value in changes.items() if value is not None or name == "threshold"}
    services.rule_update(actor=request.actor, rule=found, **changes)
    return selectors.rule_get(request.actor, rule_id)


@router.delete("/alert-rules/{rule_id}", response={204: None})
def rule_delete(request: StudioRequest, rule_id: str) -> Status[None]:
    """Delete a rule with its alerts."""
    services.rule_delete(actor=request.actor, rule=selectors.rule_get(request.actor, rule_id, Role.MEMBER))
    return Status(204, None)


@router.post("/alert-rules/{rule_id}/test", response={201: list[DeliveryOut]})
def rule_test(request: StudioRequest, rule_id: str) -> Status[list[AlertDelivery]]:
    """Send a test by each of the rule's channels; `GET /alert-rules/{id}` tells how it fared."""
    found = selectors.rule_get(request.actor, rule_id, Role.MEMBER)
    services.rule_test(actor=request.actor, rule=found)
    return Status(201, [one for one in selectors.deliveries_of(found) if one.alert_id is None and one.is_open])
