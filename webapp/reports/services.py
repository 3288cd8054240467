"""Writing reports. Each saving makes a version; none is ever changed."""

from django.db import transaction

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.accounts.services import audit
from webapp.errors import Conflict, Invalid, SavedMeanwhile
from webapp.reports.models import Report, ReportVersion
from webapp.reports.rules import KEPT_VERSIONS, MAX_REPORTS, clean_body, clean_title
from webapp.runs.models import Project
from webapp.runs.services import project_for


def report_create(*, actor: Actor, project: Project, title: str, body: str = "") -> Report:
    """A report in a project. Raises Invalid with the fields at fault."""
    actor.require(project.team_id, Role.MEMBER, "project")
    title, body = clean_title(title), clean_body(body)
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)  # the limit holds for parallel requests too
        if Report.objects.filter(project=project).count() >= MAX_REPORTS:
            raise Conflict(f"The project has {MAX_REPORTS} reports already.", advice="Delete some.")
        report = Report.objects.create(project=project, title=title, created_by=actor.user)
        _add_version(actor, report, title, body)
        audit(actor=actor, team_id=project.team_id, verb="report.create", target=report)
    return report


def report_begin(*, actor: Actor, project: str, title: str, body: str = "") -> Report:
    """As `report_create`, in the current team's project of that id or name; a new name makes a new project."""
    team = actor.current_team
    actor.require(team.pk, Role.MEMBER, "team")
    with transaction.atomic():  # a refused report leaves no new project behind
        found = project_for(actor=actor, team=team, ref=project or None)
        return report_create(actor=actor, project=found, title=title, body=body)


def report_save(
    *, actor: Actor, report: Report, base: int, title: str | None = None, body: str | None = None
) -> ReportVersion:
    """Save a report that was opened at version `base`; what is not given, or is as it was, stays.

    Raises SavedMeanwhile when the present version is another one, Invalid with the fields at fault.
    """
    actor.require(report.team_id, Role.MEMBER, "report")
    with transaction.atomic():
        held = Report.objects.select_for_update(of=("self",)).select_related("project").get(pk=report.pk)
        present = held.versions.select_related("created_by").get(number=held.number)
        title = present.title if title is None else clean_title(title)
        body = present.body if body is None else clean_body(body)
        if (title, body) == (present.title, present.body):
            return present
        if base != present.number:
            raise SavedMeanwhile(present, present.number, present.created_by)
        made = _add_version(actor, held, title, body)
        audit(actor=actor, team_id=held.team_id, verb="report.update", target=held, detail={"version": made.number})
    return made


def report_restore(*, actor: Actor, report: Report, number: int) -> ReportVersion:
    """Make an old version the newest again. Raises Invalid for one that is not there."""
    old = report.versions.filter(number=number).first()
    if old is None:
        raise Invalid(
            "There is no such version.", fields={"version": ["See the report's history for those there are."]}
        )
    return report_save(actor=actor, report=report, base=report.number, title=old.title, body=old.body)


def report_delete(*, actor: Actor, report: Report) -> None:
    """Delete a report with its history; links to it open nothing any more."""
    actor.require(report.team_id, Role.MEMBER, "report")
    with transaction.atomic():
        audit(actor=actor, team_id=report.team_id, verb="report.delete", target=report, detail={"title": report.title})
        report.delete()


def _add_version(actor: Actor, report: Report, title: str, body: str) -> ReportVersion:
    """The next version; the caller holds the report, or has just made it."""
    report.number += 1
    report.title, report.updated_by = title, actor.user
    report.save()
    made = ReportVersion.objects.create(
        report=report, number=report.number, title=title, body=body, created_by=actor.user
    )
    report.versions.filter(number__lte=report.number - KEPT_VERSIONS).delete()
    return made
