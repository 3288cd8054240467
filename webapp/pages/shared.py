"""Sharing a comparison or a report by a link, and what whoever holds the link sees: that and nothing else."""

import uuid
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from pydantic import ValidationError

from webapp.accounts.access import public, requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import Conflict, Invalid, NotFound, refused, status_of
from webapp.metrics.answers import ComparisonOptions, comparison, json_answer
from webapp.metrics.groups import SETTING
from webapp.metrics.selectors import summaries, with_settings
from webapp.pages.compare import drawn, run_keys
from webapp.registry.links import private
from webapp.reports.blocks import ChartBlock, block_runs
from webapp.reports.forms import LinkForm
from webapp.reports.links import link_create, link_for_token, link_revoke, link_url, links_to
from webapp.reports.models import Report, ViewLink
from webapp.reports.rendering import block_at, render_report
from webapp.reports.selectors import report_get, version_of
from webapp.runs.models import Run

# What a machine does is for the team.
SYSTEM = "system/"


# --- making and ending links ------------------------------------------------------------------------------------------
@requires(Role.MEMBER)
@require_POST
def compare_share(request: StudioRequest) -> HttpResponse:
    """A link to the comparison of the posted `address`; answers with the open links to these runs, as a fragment."""
    address = QueryDict(request.POST.get("address", "").removeprefix("?"))
    runs = run_keys(address.getlist("run"))
    try:
        link_create(
            actor=request.actor,
            runs=runs,
            group=address.get("group", ""),
            view=address.urlencode(),
            title=request.POST.get("title", ""),
            expires_at=_end(request),
        )
    except (Invalid, Conflict) as error:
        return render(request, "reports/_link_problem.html", {"error": error}, status=status_of(error))
    found = Run.objects.filter(team__in=request.actor.team_ids()).in_bulk(runs)
    return _links(request, [found[pk] for pk in runs if pk in found])


@requires(Role.MEMBER)
@require_POST
def report_share(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A link to a report; answers with its open links, as a fragment."""
    report = report_get(request.actor, pk, Role.MEMBER)
    try:
        link_create(actor=request.actor, report=report, expires_at=_end(request))
    except (Invalid, Conflict) as error:
        return render(request, "reports/_link_problem.html", {"error": error}, status=status_of(error))
    return _links(request, report)


@requires(Role.MEMBER)
@require_POST
def link_end(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Revoke a link; answers with those that are left to what it showed, as a fragment."""
    link = request.actor.get(ViewLink.objects.select_related("report__project"), pk, Role.MEMBER)
    link_revoke(actor=request.actor, link=link)
    if link.report is not None:
        return _links(request, link.report)
    found = Run.objects.filter(team=link.team_id).in_bulk(link.runs)
    return _links(request, [found[pk] for pk in link.runs if pk in found])


def _links(request: HttpRequest, shown: Report | Sequence[Run]) -> HttpResponse:
    links = links_to(shown) if shown else []
    return render(request, "reports/_links.html", {"links": [(link, link_url(request, link)) for link in links]})


def _end(request: HttpRequest) -> Any:
    form = LinkForm(request.POST)
    if not form.is_valid():
        raise Invalid("The end is not accepted.", fields={"days": ["Choose one of those that are offered."]})
    return form.expires_at


# --- what a link opens ------------------------------------------------------------------------------------------------
@public
@never_cache
@require_safe
def shared_view(request: HttpRequest, token: str) -> HttpResponseBase:
    """The page behind a link."""
    link = link_for_token(token)
    if link.report is not None:
        return private(render(request, "reports/shared_report.html", _report(link, link.report, token)))
    return private(render(request, "reports/shared_comparison.html", _comparison(link, token)))


@public
@never_cache
@require_safe
def shared_data(request: HttpRequest, token: str) -> HttpResponseBase:
    """The numbers of one chart behind a link. Which runs, and how they are grouped, the link says."""
    link = link_for_token(token)
    given = {name: value for name, value in request.GET.items() if name in ("key", "points", "x", "from", "to", "band")}
    if link.report is None:
        runs, fixed = _runs(link), {"group": link.group}
    else:
        place = request.GET.get("block", "")
        block = block_at(version_of(link.report).body, int(place)) if place.isdecimal() and len(place) < 4 else None
        if not isinstance(block, ChartBlock):
            raise NotFound("The report has no such chart.")
        runs, fixed = block_runs(link.team, block)[0], {"key": block.key, "x": block.x, "group": block.group}
    try:
        asked = ComparisonOptions.model_validate(given | fixed)
    except ValidationError as error:
        raise refused(error, "The chart cannot be read like this.", "query") from None
    if link.report is None and (asked.key.startswith(SYSTEM) or asked.x.startswith(SYSTEM)):
        raise NotFound("There is no such chart.")
    return private(json_answer(comparison(runs, asked)))


def _report(link: ViewLink, report: Report, token: str) -> dict[str, Any]:
    version = version_of(report)
    source = reverse("shared-data", args=[token])
    return {
        "link": link,
        "version": version,
        "rendered": render_report(link.team, version.body, lambda place: f"{source}?block={place}&"),
    }


def _comparison(link: ViewLink, token: str) -> dict[str, Any]:
    runs = _runs(link)
    figures = {
        pk: {key: value for key, value in keys.items() if not key.startswith(SYSTEM)}
        for pk, keys in summaries([run.pk for run in runs]).items()
    }
    context = drawn(runs, figures, link.group)
    return context | {
        "link": link,
        "runs": runs,
        "group": context["group"].removeprefix(SETTING),
        "source": f"{reverse('shared-data', args=[token])}?",
    }


def _runs(link: ViewLink) -> list[Run]:
    """The link's runs that are still there and still the team's. Raises NotFound when none is."""
    found = with_settings(Run.objects.filter(team=link.team_id)).in_bulk(link.runs)
    runs = [found[pk] for pk in link.runs if pk in found]
    if not runs:
        raise NotFound("The runs of this comparison are not there any more.")
    return runs
