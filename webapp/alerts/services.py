"""Writing alert rules, and saying that alerts were seen. What fires them is in `firing`, what sends them in
`deliveries`."""

import json
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from polm_core.outbound import Trusted, check_url, hosts_of
from webapp.accounts import crypto
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team, User
from webapp.accounts.services import audit
from webapp.alerts.models import Alert, AlertDelivery, AlertRule, Comparison, MetricWatch, RuleKind, RunState
from webapp.errors import Conflict, Invalid
from webapp.live.notify import Event, publish_all
from webapp.metrics.health import RULES
from webapp.metrics.keys import is_usable
from webapp.runs.models import Project
from webapp.runs.query.syntax import QueryError, parse
from webapp.tasks import ALERTS_DELIVER, wake

MAX_RULES = 100
MAX_POINTS = 100
MAX_RECIPIENTS = 20
MAX_URL = 500
WEBHOOK_EXAMPLE = "https://hooks.example.com/polm"

# What a kind of rule asks; what belongs to another kind is not kept.
_OF_KIND: dict[str, dict[str, Any]] = {
    RuleKind.HEALTH: {"health_rules": []},
    RuleKind.METRIC: {"metric": "", "comparison": "", "threshold": None, "points": 1},
    RuleKind.STATUS: {"states": []},
}
_CONDITION = ("kind", "query", *(name for of_kind in _OF_KIND.values() for name in of_kind))


def trusted_hosts() -> Trusted:
    """The hosts inside that webhooks may go to."""
    return Trusted("POLM_WEBHOOK_HOSTS", hosts_of(settings.WEBHOOK_HOSTS))


def rule_create(
    *,
    actor: Actor,
    project: str | uuid.UUID,
    name: str,
    kind: str,
    email_to: Iterable[str | uuid.UUID] = (),
    webhook_url: str = "",
    webhook_secret: str = "",
    **condition: Any,
) -> AlertRule:
    """A rule of a project of the current team, by its id or name. Raises Invalid with the fields at fault, Conflict."""
    found = _project(actor, project)
    rule = AlertRule(project=found, created_by=actor.user)
    return _save(
        actor,
        rule,
        {"name": name, "kind": kind, **condition},
        email_to=email_to,
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
    )


def rule_update(
    *,
    actor: Actor,
    rule: AlertRule,
    email_to: Iterable[str | uuid.UUID] | None = None,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    **changes: Any,
) -> AlertRule:
    """Change a rule; what is not given stays. One that looks for something else, or is switched, begins anew.

    An empty `webhook_url` takes the webhook away. A new address does not keep the secret of the one before.
    """
    actor.require(rule.team_id, Role.MEMBER, "alert rule")
    return _save(actor, rule, changes, email_to=email_to, webhook_url=webhook_url, webhook_secret=webhook_secret)


def rule_delete(*, actor: Actor, rule: AlertRule) -> None:
    """Delete a rule with the alerts that it gave."""
    actor.require(rule.team_id, Role.MEMBER, "alert rule")
    with transaction.atomic():
        audit(actor=actor, team_id=rule.team_id, verb="alert-rule.delete", target=rule, detail={"name": rule.name})
        rule.delete()
        bells_ring(rule.team_id)


def rule_test(*, actor: Actor, rule: AlertRule) -> list[AlertDelivery]:
    """Send a test by each of the rule's channels. Raises Conflict when there is none, or one is still on its way."""
    actor.require(rule.team_id, Role.MEMBER, "alert rule")
    with transaction.atomic():
        AlertRule.objects.select_for_update().get(pk=rule.pk)
        if rule.deliveries.open().filter(alert=None).exists():
            raise Conflict("A test is on its way.", advice="See below how it fares.")
        made = deliveries_make(rule)
        if not made:
            raise Conflict(
                "The rule tells nobody outside the studio.", advice="Choose people to mail, or give a webhook."
            )
    return made


def deliveries_make(rule: AlertRule, alert: Alert | None = None) -> list[AlertDelivery]:
    """What goes out by e-mail and webhook for an alert, or as a test, in the caller's transaction.

    Who has left the team is not written to any more.
    """
    told = rule.email_to.filter(teams=rule.team_id, is_active=True).exclude(email="")
    made = [AlertDelivery(rule=rule, alert=alert, recipient=user) for user in told]
    if rule.webhook is not None:
        made.append(AlertDelivery(rule=rule, alert=alert))
    if made:
        AlertDelivery.objects.bulk_create(made)
        wake(ALERTS_DELIVER)
    return made


def alerts_see(*, actor: Actor, alerts: QuerySet[Alert]) -> int:
    """Note that alerts were seen, for the whole team; returns how many were not before.

    Of what a query has, only what is of teams in which the actor is a member.
    """
    unseen = alerts.filter(seen_at=None, team__in=actor.team_ids(Role.MEMBER)).order_by()
    with transaction.atomic():
        teams = set(unseen.values_list("team", flat=True))
        count = Alert.objects.filter(pk__in=unseen.values("pk")).update(seen_at=Now(), seen_by=actor.user)
        bells_ring(*teams)
    return count


def bells_ring(*team_ids: uuid.UUID) -> None:
    """Have open pages count the unseen alerts again, once the transaction commits."""
    publish_all(*(Event(f"alerts:{team_id}", "alert") for team_id in team_ids))


def webhook_of(rule: AlertRule) -> dict[str, str] | None:
    """Address (`url`) and `secret` of a rule's webhook, for workers alone; None without one.

    Raises Invalid after a change of SECRET_KEY.
    """
    if rule.webhook is None:
        return None
    text = crypto.decrypt(rule.webhook, _purpose(rule))
    if text is None:
        raise Invalid(
            "The webhook cannot be read, because SECRET_KEY has changed.",
            advice="Enter its address again, or add the old key to SECRET_KEY_FALLBACKS.",
        )
    kept: dict[str, str] = json.loads(text)
    return kept


# --- helpers ----------------------------------------------------------------------------------------------------------
def _save(
    actor: Actor,
    rule: AlertRule,
    values: Mapping[str, Any],
    *,
    email_to: Iterable[str | uuid.UUID] | None,
    webhook_url: str | None,
    webhook_secret: str | None,
) -> AlertRule:
    is_new = rule._state.adding
    before = {name: getattr(rule, name) for name in (*_CONDITION, "enabled")}
    for name, value in values.items():
        setattr(rule, name, value)
    for kind, asked in _OF_KIND.items():
        for name, nothing in asked.items() if kind != rule.kind else ():
            setattr(rule, name, nothing)
    fields = _problems(rule)
    told = None if email_to is None else _recipients(rule, email_to, fields)
    _keep_webhook(rule, webhook_url, webhook_secret, fields)
    if fields:
        raise Invalid("The rule is not accepted.", fields=fields)
    begins = is_new or any(getattr(rule, name) != value for name, value in before.items())
    if begins:
        rule.since = rule.checked_at = Now()
    try:
        with transaction.atomic():
            # Rules are counted one after another.
            team = Team.objects.select_for_update().get(pk=rule.team_id)
            if is_new and AlertRule.objects.filter(project__team=team).count() >= MAX_RULES:
                raise Conflict(f"The team has {MAX_RULES} alert rules already.", advice="Delete some first.")
            rule.save(update_fields=None if begins else ["name", "webhook", "webhook_host"])
            if told is not None:
                rule.email_to.set(told)
            if begins and not is_new:
                MetricWatch.objects.filter(rule=rule).delete()
                rule.alerts.filter(cleared_at=None).update(cleared_at=Now())
                bells_ring(rule.team_id)
            audit(
                actor=actor,
                team_id=rule.team_id,
                verb="alert-rule.create" if is_new else "alert-rule.update",
                target=rule,
                detail={"name": rule.name},
            )
    except IntegrityError:
        problem = "is that of another rule of the project"
        raise Invalid("The rule is not accepted.", fields={"name": [problem]}) from None
    rule.refresh_from_db(fields=["since", "checked_at"])
    return rule


def _project(actor: Actor, ref: str | uuid.UUID) -> Project:
    """The project of the current team with that id or name. Raises Invalid, Forbidden."""
    team = actor.current_team
    actor.require(team.pk, Role.MEMBER, "team")
    mine = Project.objects.select_related("team").filter(team=team)
    try:
        found = mine.filter(pk=uuid.UUID(str(ref))).first()
    except ValueError:
        found = mine.filter(name__iexact=str(ref)).first()
    if found is None:
        raise Invalid("There is no such project.", fields={"project": ["names no project of the team"]})
    return found


def _problems(rule: AlertRule) -> dict[str, list[str]]:
    """What is wrong with a rule, by field."""
    fields: dict[str, list[str]] = {}
    rule.name = str(rule.name).strip()
    if not 0 < len(rule.name) <= 100 or not rule.name.isprintable():
        fields["name"] = ["must have 1 to 100 characters, on one line"]
    rule.query = str(rule.query).strip()
    try:
        parse(rule.query)
    except QueryError as error:
        fields["query"] = [error.message]
    if rule.kind not in RuleKind.values:
        fields["kind"] = [f"must be one of {', '.join(RuleKind.values)}"]
    elif rule.kind == RuleKind.HEALTH:
        if unknown := sorted(set(rule.health_rules) - set(RULES)):
            fields["health_rules"] = [f"{', '.join(unknown)}: must be among {', '.join(RULES)}"]
    elif rule.kind == RuleKind.STATUS:
        if not rule.states or set(rule.states) - set(RunState.values):
            fields["states"] = [f"must be some of {', '.join(RunState.values)}"]
    else:
        fields |= _metric_problems(rule)
    for name in ("health_rules", "states"):
        setattr(rule, name, list(dict.fromkeys(getattr(rule, name))))
    return fields


def _metric_problems(rule: AlertRule) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    if not is_usable(rule.metric):
        fields["metric"] = ["must be the name of a metric, as in loss or eval/loss"]
    if rule.comparison not in Comparison.values:
        fields["comparison"] = [f"must be one of {', '.join(Comparison.values)}"]
    elif rule.comparison == Comparison.NOT_FINITE:
        rule.threshold = None
    elif rule.threshold is None or not math.isfinite(rule.threshold):
        fields["threshold"] = ["must be a number"]
    if not isinstance(rule.points, int) or not 1 <= rule.points <= MAX_POINTS:
        fields["points"] = [f"must be from 1 to {MAX_POINTS}"]
    return fields


def _recipients(rule: AlertRule, refs: Iterable[str | uuid.UUID], fields: dict[str, list[str]]) -> list[User]:
    """The people of the team that are named, by id or username; what is wrong with them is added to `fields`."""
    members = list(User.objects.filter(teams=rule.team_id))
    known = {str(user.pk): user for user in members} | {user.username: user for user in members}
    wanted = list(dict.fromkeys(str(ref) for ref in refs))
    problems = [f"{ref} is nobody of the team" for ref in wanted if ref not in known]
    found = list(dict.fromkeys(known[ref] for ref in wanted if ref in known))
    problems += [f"{user} has no e-mail address: it is entered under Account" for user in found if not user.email]
    if len(found) > MAX_RECIPIENTS:
        problems.append(f"must be at most {MAX_RECIPIENTS} people")
    if problems:
        fields["email_to"] = problems
    return found


def _keep_webhook(rule: AlertRule, url: str | None, secret: str | None, fields: dict[str, list[str]]) -> None:
    """Put address and secret into the rule, encrypted; None leaves what is there."""
    if url is None and secret is None:
        return
    if url == "":
        rule.webhook, rule.webhook_host = None, ""
        if secret:
            fields["webhook_secret"] = ["is for a webhook: give its address too"]
        return
    kept = webhook_of(rule) if url is None else None
    if url is None and kept is None:
        if secret:
            fields["webhook_secret"] = ["is for a webhook: give its address too"]
        return
    kept = kept or {"url": str(url), "secret": ""}
    try:
        parts = check_url(kept["url"], trusted_hosts(), example=WEBHOOK_EXAMPLE, takes_query=True)
        if not re.fullmatch(rf"[!-~]{{1,{MAX_URL}}}", kept["url"]):
            raise ValueError(f"must have at most {MAX_URL} characters, all of them ASCII")
    except ValueError as error:
        fields["webhook_url"] = [str(error)]
        return
    if secret is not None:
        if not re.fullmatch(r"[!-~]{0,200}", secret):
            fields["webhook_secret"] = ["must have at most 200 characters, without blanks"]
        kept["secret"] = secret
    rule.webhook = crypto.encrypt(json.dumps(kept), _purpose(rule))
    rule.webhook_host = str(parts.hostname)


def _purpose(rule: AlertRule) -> str:
    return f"alert-webhook:{rule.pk}"
