"""Reading reports, each limited to what the reader may see."""

from typing import Any

from django.db.models import QuerySet

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.errors import NotFound
from webapp.reports.models import Report, ReportVersion


def reports_visible(actor: Actor) -> QuerySet[Report]:
    """The reports of the actor's teams, newest first."""
    teams = actor.team_ids()
    return Report.objects.filter(project__team__in=teams).select_related("project__team", "updated_by").order_by("-pk")


def report_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> Report:
    """The report, if the actor holds that role in its team. Raises NotFound or Forbidden."""
    return actor.get(reports_visible(actor), pk, role, team="project__team_id")


def version_of(report: Report, number: int | None = None) -> ReportVersion:
    """The version of that number, else the present one. Raises NotFound."""
    found = report.versions.select_related("created_by").filter(number=number or report.number).first()
    if found is None:
        raise NotFound("There is no such version of the report.")
    return found


def versions_of(report: Report) -> QuerySet[ReportVersion]:
    """The versions without their texts, newest first."""
    return report.versions.select_related("created_by").defer("body").order_by("-number")
