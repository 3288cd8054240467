"""Reports: the list, one as it reads, and the page where it is written, with a preview beside the text."""

import uuid
from functools import partial
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role, Team
from webapp.errors import Conflict, Invalid
from webapp.metrics.groups import FIELDS
from webapp.pages.compare import CANDIDATES
from webapp.pages.context import Frame
from webapp.pages.runs.inputs import whole_number
from webapp.pagination import page
from webapp.registry.models import KEY_METRICS
from webapp.reports import selectors, services
from webapp.reports.forms import LinkForm, NewReportForm, ReportForm
from webapp.reports.links import link_url, links_to
from webapp.reports.models import Report, ReportVersion
from webapp.reports.rendering import render_report
from webapp.reports.rules import clean_body
from webapp.runs.models import ACTIVE, Run
from webapp.runs.selectors import projects, runs_visible

REPORTS = 30
VERSIONS = 50
MAX_LIVE = 20


@requires(Role.VIEWER)
@require_safe
def reports(request: StudioRequest) -> HttpResponse:
    """The team's reports, or the chosen project's, newest first."""
    actor, team = request.actor, request.actor.current_team
    found = selectors.reports_visible(actor).filter(project__team=team)
    if project := Frame(request).project:
        found = found.filter(project=project)
    items, cursor = page(found, REPORTS, request.GET.get("cursor"))
    context = {"reports": items, "cursor": cursor, "may_change": actor.holds(Role.MEMBER, team.pk)}
    return render(request, "reports/reports.html", context)


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def report_new(request: StudioRequest) -> HttpResponse:
    """A new report in one of the team's projects."""
    actor = request.actor
    offered = projects(actor)
    if request.method == "POST":
        form = NewReportForm(request.POST, projects=offered)
        made = form.attempt(partial(_create, request))
        if made:
            return redirect("report", made.pk)
    else:
        chosen = Frame(request).project
        form = NewReportForm(projects=offered, initial={"project": chosen.pk if chosen else None})
    context = {"form": form, **_helper(request, actor.current_team)}
    return render(request, "reports/edit.html", context, status=422 if form.errors else 200)


@requires(Role.VIEWER)
@require_safe
def report(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A report as it reads; `?version=` shows it as it was."""
    found = selectors.report_get(request.actor, pk)
    version = selectors.version_of(found, whole_number(request.GET.get("version", "")))
    team = found.project.team
    may_change = request.actor.holds(Role.MEMBER, team.pk)
    context = {
        "report": found,
        "version": version,
        "rendered": render_report(team, version.body),
        "may_change": may_change,
        "links": [(link, link_url(request, link)) for link in links_to(found)] if may_change else [],
        "link_form": LinkForm(),
        "live": Run.objects.filter(team=team, status__in=ACTIVE).order_by("-id")[:MAX_LIVE],
    }
    return render(request, "reports/report.html", context)


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def report_edit(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The text of a report. Saved by somebody else meanwhile, it comes back with both texts, and nothing is lost."""
    found = selectors.report_get(request.actor, pk, Role.MEMBER)
    if request.method == "POST":
        form = ReportForm(request.POST)
        if form.attempt(partial(_save, request, found)):
            return redirect("report", pk)
    else:
        version = selectors.version_of(found)
        form = ReportForm(initial={"title": version.title, "body": version.body, "base": version.number})
    status = 409 if form.theirs else 422 if form.errors else 200
    context = {"report": found, "form": form, **_helper(request, found.project.team)}
    return render(request, "reports/edit.html", context, status=status)


@requires(Role.VIEWER)
@require_POST
def report_preview(request: StudioRequest) -> HttpResponse:
    """A text as it will read, as a fragment."""
    of = request.POST.get("report")
    team = selectors.report_get(request.actor, of).project.team if of else request.actor.current_team
    try:
        body = clean_body(request.POST.get("body", ""))
    except Invalid as error:
        return render(request, "reports/_link_problem.html", {"error": error}, status=422)
    return HttpResponse(render_report(team, body))


@requires(Role.VIEWER)
@require_safe
def report_history(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The versions of a report, newest first."""
    found = selectors.report_get(request.actor, pk)
    items, cursor = page(selectors.versions_of(found), VERSIONS, request.GET.get("cursor"))
    may_change = request.actor.holds(Role.MEMBER, found.team_id)
    context = {"report": found, "versions": items, "cursor": cursor, "may_change": may_change}
    return render(request, "reports/history.html", context)


@requires(Role.MEMBER)
@require_POST
def report_restore(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Make the posted `version` the newest again."""
    found = selectors.report_get(request.actor, pk, Role.MEMBER)
    number = whole_number(request.POST.get("version", "")) or 0
    try:
        made = services.report_restore(actor=request.actor, report=found, number=number)
        messages.success(request, f"Version {number} is back, as version {made.number}.")
    except (Invalid, Conflict) as error:
        messages.error(request, f"{error.message} {error.advice}".strip())
    return redirect("report", pk)


@requires(Role.MEMBER)
@require_POST
def report_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.report_get(request.actor, pk, Role.MEMBER)
    services.report_delete(actor=request.actor, report=found)
    messages.info(request, f"{found.title} was deleted.")
    return redirect("reports")


def _create(request: StudioRequest, *, base: int | None, **values: Any) -> Report:
    """A new report, of no version before."""
    return services.report_begin(actor=request.actor, **values)


def _save(request: StudioRequest, found: Report, *, base: int | None, **values: Any) -> ReportVersion:
    return services.report_save(actor=request.actor, report=found, base=base or 0, **values)


def _helper(request: StudioRequest, team: Team) -> dict[str, Any]:
    """What the dialog that inserts a block offers."""
    runs = runs_visible(request.actor).filter(team=team)
    if (project := Frame(request).project) and project.team_id == team.pk:
        runs = runs.filter(project=project)
    return {"candidates": runs[:CANDIDATES], "keys": KEY_METRICS, "group_fields": list(FIELDS)}
