"""Alerts: the list and the bell, and the rules that give them."""

import uuid
from functools import partial
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.alerts import selectors, services
from webapp.alerts.forms import EXAMPLES, RuleForm
from webapp.alerts.models import Alert, AlertRule
from webapp.errors import Conflict
from webapp.pagination import page
from webapp.runs.selectors import projects, run_get

ALERTS = 50
RULES = 50
# What the list can be narrowed to.
FILTERS = ("run", "rule", "unseen")


@requires(Role.VIEWER)
@require_safe
def alerts(request: StudioRequest) -> HttpResponse:
    """The team's alerts, newest first; as a fragment, the list alone. The address holds what it is narrowed to."""
    template = "alerts/_alerts.html" if request.htmx else "alerts/alerts.html"
    return render(request, template, _list(request))


@requires(Role.MEMBER)
@require_POST
def alerts_seen(request: StudioRequest) -> HttpResponse:
    """Say that one alert was seen (`alert`), or all that the address leaves."""
    shown = _narrowed(request)
    one = request.POST.get("alert", "")
    if one:
        shown = shown.filter(pk=request.actor.get(Alert, one, Role.MEMBER).pk)
    services.alerts_see(actor=request.actor, alerts=shown)
    if request.htmx:
        return render(request, "alerts/_alerts.html", _list(request) | {"was_seen": True})
    return redirect(f"{reverse('alerts')}?{request.GET.urlencode()}")


@requires(Role.VIEWER)
@require_safe
def bell(request: StudioRequest) -> HttpResponse:
    """Fragment: the bell of the top bar."""
    return render(request, "alerts/_bell.html")


@requires(Role.VIEWER)
@require_safe
def of_run(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: the alerts of a run's page."""
    found = run_get(request.actor, pk)
    context = {"run": found, "run_alerts": selectors.alerts_of_run(found)}
    return render(request, "alerts/_of_run.html", context)


@requires(Role.VIEWER)
@require_safe
def rules(request: StudioRequest) -> HttpResponse:
    """The team's rules, newest first."""
    actor, team = request.actor, request.actor.current_team
    mine = selectors.with_alerts(selectors.rules_visible(actor).filter(project__team=team))
    found, cursor = page(mine, RULES, request.GET.get("cursor"))
    may_change = actor.holds(Role.MEMBER, team.pk)
    return render(request, "alerts/rules.html", {"rules": found, "cursor": cursor, "may_change": may_change})


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def rule_new(request: StudioRequest) -> HttpResponse:
    """A rule to be; `?example=` fills the form in."""
    actor = request.actor
    offered: dict[str, Any] = {
        "projects": list(projects(actor)[: selectors.MAX_CHOICES]),
        "people": selectors.people_to_mail(actor.current_team),
    }
    if request.method == "POST":
        form = RuleForm(request.POST, **offered)
        made = form.attempt(partial(services.rule_create, actor=actor))
        if made:
            messages.success(request, f"{made.name} watches the runs of {made.project.name}.")
            return redirect("alert-rule", made.pk)
    else:
        chosen = {"project": request.session.get("project", ""), "name": request.GET.get("name", "")}
        form = RuleForm(initial=chosen | EXAMPLES.get(request.GET.get("example", ""), {}), **offered)
    return _form_page(request, form, None)


@requires(Role.VIEWER)
@require_safe
def rule(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """What a rule looks for, whom it tells, and how its last messages fared; as a fragment, the last alone."""
    found = selectors.rule_get(request.actor, pk)
    deliveries = selectors.deliveries_of(found)
    moving = any(one.is_open for one in deliveries)
    context: dict[str, Any] = {"rule": found, "deliveries": deliveries, "moving": moving}
    if request.htmx:
        return render(request, "alerts/_deliveries.html", context)
    context |= {
        "email_works": selectors.email_is_set_up(),
        "recent": selectors.alerts_visible(request.actor).filter(rule=found)[: selectors.SHOWN_DELIVERIES],
        "may_change": request.actor.holds(Role.MEMBER, found.team_id),
    }
    return render(request, "alerts/rule.html", context)


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def rule_edit(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Change a rule."""
    found = selectors.rule_get(request.actor, pk, Role.MEMBER)
    people = selectors.people_to_mail(found.project.team)
    form = RuleForm(request.POST if request.method == "POST" else None, rule=found, people=people)
    change = partial(services.rule_update, actor=request.actor, rule=found)
    if request.method == "POST" and form.attempt(change) is not None:
        messages.success(request, "Saved.")
        return redirect("alert-rule", pk)
    return _form_page(request, form, selectors.rule_get(request.actor, pk))


@requires(Role.MEMBER)
@require_POST
def rule_switch(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Switch a rule on (`enabled`) or off."""
    found = selectors.rule_get(request.actor, pk, Role.MEMBER)
    services.rule_update(actor=request.actor, rule=found, enabled=request.POST.get("enabled") == "yes")
    return redirect("alert-rule", pk)


@requires(Role.MEMBER)
@require_POST
def rule_test(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Send a test."""
    try:
        services.rule_test(actor=request.actor, rule=selectors.rule_get(request.actor, pk, Role.MEMBER))
    except Conflict as error:
        messages.error(request, f"{error.message} {error.advice}")
    return redirect(f"{reverse('alert-rule', args=[pk])}#deliveries")


@requires(Role.MEMBER)
@require_POST
def rule_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Delete a rule with its alerts."""
    found = selectors.rule_get(request.actor, pk, Role.MEMBER)
    services.rule_delete(actor=request.actor, rule=found)
    messages.info(request, f"{found.name} was deleted.")
    return redirect("alert-rules")


def _narrowed(request: StudioRequest) -> Any:
    asked = request.GET
    mine = selectors.alerts_visible(request.actor).filter(team=request.actor.current_team)
    return selectors.alerts_filter(
        mine, run=asked.get("run", ""), rule=asked.get("rule", ""), unseen=asked.get("unseen") == "yes"
    )


def _list(request: StudioRequest) -> dict[str, Any]:
    actor, team = request.actor, request.actor.current_team
    found, cursor = page(_narrowed(request), ALERTS, request.GET.get("cursor"))
    older = request.GET.copy()
    older["cursor"] = cursor or ""
    narrowed = [name for name in FILTERS if request.GET.get(name)]
    return {
        "alerts": found,
        "older": older.urlencode() if cursor else "",
        "query": request.GET.urlencode(),
        "narrowed": narrowed,
        "unseen": request.GET.get("unseen") == "yes",
        "of": _said_of(found, request),
        "may_change": actor.holds(Role.MEMBER, team.pk),
        "has_rules": bool(found or narrowed) or AlertRule.objects.filter(project__team=team).exists(),
    }


def _said_of(found: list[Alert], request: StudioRequest) -> str:
    """The run or the rule that the list is narrowed to, by name where it shows any of it."""
    if not found:
        return ""
    names = [found[0].run.name] if request.GET.get("run") else []
    return " and ".join(names + ([found[0].rule.name] if request.GET.get("rule") else []))


def _form_page(request: StudioRequest, form: RuleForm, rule: AlertRule | None) -> HttpResponse:
    context = {"form": form, "rule": rule, "email_works": selectors.email_is_set_up(), "examples": EXAMPLES}
    return render(request, "alerts/rule_form.html", context, status=422 if form.errors else 200)
