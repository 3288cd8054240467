"""Which project the pages show."""

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.pages.lists import back_to
from webapp.runs.models import Project


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
