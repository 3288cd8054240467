"""The decision line of a run's page: hypothesis, result and verdict, edited in place."""

import uuid
from functools import partial
from typing import Any

from django import forms
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from webapp.accounts.access import requires
from webapp.accounts.forms import StudioForm
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pages.runs.inputs import storable
from webapp.runs import selectors, services
from webapp.runs.models import FINISHED, Run, Verdict

_LINE = {"autocomplete": "off"}


class DecisionForm(StudioForm):
    """Of a run that has not finished, the hypothesis alone."""

    hypothesis = forms.CharField(
        required=False, help_text="What the run is to show.", widget=forms.TextInput(attrs={**_LINE, "autofocus": True})
    )
    result = forms.CharField(
        required=False, help_text="What came out, in one line.", widget=forms.TextInput(attrs=_LINE)
    )
    verdict = forms.ChoiceField(
        required=False, choices=[("", "None yet"), *Verdict.choices], help_text="What that says of the hypothesis."
    )

    def __init__(self, *args: Any, run: Run, **kwargs: Any) -> None:
        kwargs.setdefault("initial", {name: getattr(run, name) for name in self.base_fields})
        super().__init__(*args, **kwargs)
        if run.status not in FINISHED:
            del self.fields["result"], self.fields["verdict"]


@requires(Role.VIEWER)
@require_http_methods(["GET", "HEAD", "POST"])
def decision(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Fragment: the line, or with `?edit=yes` its form, which is posted here."""
    posts = request.method == "POST"
    run = selectors.run_get(request.actor, pk, Role.MEMBER if posts else Role.VIEWER)
    context: dict[str, Any] = {
        "run": run,
        "finished": run.status in FINISHED,
        "may_edit": request.actor.holds(Role.MEMBER, run.team_id),
    }
    if posts:
        form = DecisionForm(storable(request.POST), run=run)
        if form.attempt(partial(services.run_update, actor=request.actor, run=run)) is None:
            return render(request, "runs/_decision_form.html", context | {"form": form}, status=422)
        if not request.htmx:
            return redirect("run", pk)
    elif request.GET.get("edit") and context["may_edit"]:
        return render(request, "runs/_decision_form.html", context | {"form": DecisionForm(run=run)})
    return render(request, "runs/_decision.html", context)
