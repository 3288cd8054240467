"""Which project the pages show, and a project's settings."""

import uuid

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts.access import requires
from webapp.accounts.forms import StudioForm
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pages.lists import back_to
from webapp.pages.runs.inputs import storable
from webapp.runs.models import Best, Project
from webapp.runs.projects import MAX_KEPT, MAX_METRIC, Retention, project_update


class ProjectForm(StudioForm):
    name = forms.CharField(label="Name", max_length=100)
    keep_last = forms.IntegerField(
        label="Newest checkpoints to keep of each run",
        required=False,
        min_value=1,
        max_value=MAX_KEPT,
        help_text="Empty keeps all.",
    )
    best_metric = forms.CharField(
        label="Also keep the best by",
        required=False,
        max_length=MAX_METRIC,
        help_text="A metric such as eval/loss. Empty keeps the newest alone.",
    )
    best_mode = forms.ChoiceField(label="Where", choices=Best.choices)


@requires(Role.VIEWER)
@require_POST
def switch(request: StudioRequest) -> HttpResponse:
    """Show one project's runs from now on, or those of all."""
    wanted = request.POST.get("project", "")
    if wanted:
        request.session["project"] = str(request.actor.get(Project, wanted).pk)
    else:
        request.session.pop("project", None)
    return redirect(back_to(request, reverse("home")))


@requires(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def project(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A project's name, and which checkpoints of its runs are kept."""
    found = request.actor.get(Project, pk, Role.ADMIN)
    if request.method == "POST":
        form = ProjectForm(storable(request.POST))

        def save(name: str, **retention: object) -> Project:
            return project_update(actor=request.actor, project=found, name=name, retention=Retention(**retention))  # type: ignore[arg-type]

        if form.attempt(save):
            messages.success(request, "Saved. Checkpoints that are kept no more are removed in the background.")
            return redirect("project", pk)
    else:
        form = ProjectForm(
            initial={
                "name": found.name,
                "keep_last": found.keep_last,
                "best_metric": found.keep_best_metric,
                "best_mode": found.keep_best_mode,
            }
        )
    title = Project.objects.values_list("name", flat=True).get(pk=pk)
    return render(request, "ui/project.html", {"title": title, "form": form}, status=422 if form.errors else 200)
