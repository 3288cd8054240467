"""Reading alerts and rules."""

import uuid
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Q, QuerySet

from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team, User
from webapp.alerts.models import Alert, AlertDelivery, AlertRule
from webapp.errors import Invalid
from webapp.runs.models import Run

# The bell counts no further.
COUNTED = 100
SHOWN_DELIVERIES = 20
SHOWN_OF_RUN = 3
MAX_CHOICES = 200


def alerts_visible(actor: Actor) -> QuerySet[Alert]:
    """The alerts of the actor's teams, newest first, with what a line shows."""
    found = Alert.objects.filter(team__in=actor.team_ids()).select_related("rule", "run", "seen_by")
    return found.defer("run__config", "run__progress", "run__notes").order_by("-id")


def alerts_filter(alerts: QuerySet[Alert], *, run: str = "", rule: str = "", unseen: bool = False) -> QuerySet[Alert]:
    """Narrow a list of alerts, to those of a run or a rule by its id. Raises Invalid for what is no id."""
    for name, ref in (("run", run), ("rule", rule)):
        if ref:
            try:
                alerts = alerts.filter(**{name: uuid.UUID(ref)})
            except ValueError:
                raise Invalid(f"There is no such {name}.", fields={name: ["must be an id"]}) from None
    return alerts.filter(seen_at=None) if unseen else alerts


def unseen_count(team: Team) -> int:
    """How many alerts of a team nobody has seen, up to `COUNTED`; by an index that holds no others."""
    return Alert.objects.filter(team=team, seen_at=None)[:COUNTED].count()


def alerts_of_run(run: Run) -> list[Alert]:
    """The newest alerts of a run that hold, or that nobody has seen."""
    found = Alert.objects.filter(Q(cleared_at=None) | Q(seen_at=None), run=run)
    return list(found.select_related("rule").order_by("-id")[:SHOWN_OF_RUN])


def rules_visible(actor: Actor) -> QuerySet[AlertRule]:
    """The rules of the actor's teams, newest first."""
    found = AlertRule.objects.filter(project__team__in=actor.team_ids())
    return found.select_related("project__team", "created_by").prefetch_related("email_to").order_by("-id")


def with_alerts(rules: QuerySet[AlertRule]) -> QuerySet[AlertRule]:
    """The rules with how many of their alerts hold (`holding`), and when the last was given (`last_fired`)."""
    holding = Count("alerts", filter=Q(alerts__cleared_at=None))
    return rules.annotate(holding=holding, last_fired=Max("alerts__fired_at"))


def rule_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> AlertRule:
    """One rule. Raises NotFound or Forbidden."""
    return actor.get(rules_visible(actor), pk, role, team="project__team_id")


def deliveries_of(rule: AlertRule) -> list[AlertDelivery]:
    """The newest deliveries of a rule."""
    found = AlertDelivery.objects.filter(rule=rule).select_related("recipient", "alert__run")
    return list(found.defer("alert__run__config").order_by("-id")[:SHOWN_DELIVERIES])


def people_to_mail(team: Team) -> list[User]:
    """The people of a team, by name."""
    return list(team.members.filter(is_active=True).order_by("full_name", "username")[:MAX_CHOICES])


def email_is_set_up() -> bool:
    """Whether e-mail leaves the studio; otherwise it is written to the worker's log."""
    return not settings.EMAIL_BACKEND.endswith("console.EmailBackend")


def deliveries_wait() -> bool:
    """Whether there is something for a worker to send; a scheduler that sees some wakes one."""
    return AlertDelivery.objects.claimable().exists()
