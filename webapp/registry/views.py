"""Models, checkpoints, and what a share link opens."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import messages
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from polm_core.errors import ResourceError
from webapp.accounts.access import Actor, public, requires, signed_in
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.errors import Conflict, Invalid, status_of
from webapp.pagination import page
from webapp.registry import selectors, services
from webapp.registry.downloads import download_response, export_response
from webapp.registry.exports import (
    export_create,
    export_get,
    exports_of,
    formats_of,
    parity_create,
    parity_of,
)
from webapp.registry.exports import export_delete as remove_export
from webapp.registry.exports import parity_delete as remove_parity
from webapp.registry.forms import ModelAddForm, ModelNameForm, RegisterForm, ShareForm
from webapp.registry.links import private, share_url
from webapp.registry.models import BaseModel, Checkpoint, ModelSource, ModelStatus
from webapp.registry.shares import share_revoke as end_share

PAGE = 50
RESULTS = 100
MAX_MODELS = 200


# --- models -----------------------------------------------------------------------------------------------------------
@requires(Role.VIEWER)
@require_safe
def models(request: StudioRequest) -> HttpResponse:
    """Base models and checkpoints; as a fragment, the two lists alone."""
    return _models_page(request)


@requires(Role.MEMBER)
@require_POST
def model_new(request: StudioRequest) -> HttpResponse:
    form = ModelAddForm(request.POST)
    added = form.attempt(partial(services.model_add, actor=request.actor, team=request.actor.current_team))
    if added is None:
        return _models_page(request, form=form, status=422)
    messages.success(request, f"{added.name} is being prepared by a worker.")
    return redirect("model", added.pk)


@requires(Role.VIEWER)
@require_safe
def model(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    return _model_page(request, selectors.model_get(request.actor, pk))


@requires(Role.MEMBER)
@require_POST
def model_rename(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.model_get(request.actor, pk)
    form = ModelNameForm(request.POST)
    if form.attempt(partial(services.model_rename, actor=request.actor, model=found)) is None:
        return _model_page(request, selectors.model_get(request.actor, pk), form=form, status=422)
    messages.success(request, "The name is saved.")
    return redirect("model", pk)


@requires(Role.MEMBER)
@require_POST
def model_retry(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    services.model_retry(actor=request.actor, model=selectors.model_get(request.actor, pk))
    return redirect("model", pk)


@requires(Role.MEMBER)
@require_POST
def model_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.model_get(request.actor, pk)
    services.model_delete(actor=request.actor, model=found)
    messages.success(request, f"{found.name} is deleted.")
    return redirect("models")


def _models_page(request: StudioRequest, *, form: ModelAddForm | None = None, status: int = 200) -> HttpResponse:
    actor, team = request.actor, request.actor.current_team
    found = list(selectors.models_visible(actor, team.pk).order_by(F("team").asc(nulls_first=True), "-pk")[:MAX_MODELS])
    checkpoints, next_cursor = page(selectors.checkpoints_visible(actor, team.pk), PAGE, request.GET.get("cursor"))
    context = {
        "models": found,
        "preparing": [model for model in found if model.status == ModelStatus.PREPARING],
        "own_teams": actor.team_ids(),
        "checkpoints": checkpoints,
        "next_cursor": next_cursor,
        "may_change": actor.holds(Role.MEMBER, team.pk),
        "form": form or ModelAddForm(),
    }
    template = "registry/_models.html" if request.htmx else "registry/models.html"
    return render(request, template, context, status=status)


def _model_page(
    request: StudioRequest, found: BaseModel, *, form: ModelNameForm | None = None, status: int = 200
) -> HttpResponse:
    context = {
        "model": found,
        "source": selectors.STARTER if found.source == ModelSource.STARTER else str(found.pk),
        "results": selectors.results_of(request.actor, found)[:RESULTS],
        "may_evaluate": request.actor.holds(Role.MEMBER),
        "checkpoints": selectors.checkpoints_visible(request.actor).filter(base_model=found).order_by("-pk")[:PAGE],
        "own_teams": request.actor.team_ids(),
        "may_change": found.team_id is not None and request.actor.holds(Role.MEMBER, found.team_id),
        "form": form or ModelNameForm(initial={"name": found.name}),
    }
    template = "registry/_model.html" if request.htmx else "registry/model.html"
    return render(request, template, context, status=status)


# --- checkpoints ------------------------------------------------------------------------------------------------------
@signed_in
@require_safe
def checkpoint(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    return _checkpoint_page(request, selectors.checkpoint_get(request.actor, pk))


@signed_in
@require_safe
def checkpoint_download(request: StudioRequest, pk: uuid.UUID) -> HttpResponseBase:
    found = selectors.checkpoint_get(request.actor, pk)
    return download_response(request, found, selectors.share_that_opens(request.actor, found))


@requires(Role.MEMBER)
@require_POST
def checkpoint_register(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.checkpoint_get(request.actor, pk)
    form = RegisterForm(request.POST)
    team = request.actor.current_team
    made = form.attempt(partial(services.checkpoint_register, actor=request.actor, checkpoint=found, team=team))
    if made is None:
        return _checkpoint_page(request, found, register_form=form, status=422)
    messages.success(request, f"{made.name} is one of {team}'s models now.")
    return redirect("model", made.pk)


@requires(Role.MEMBER)
@require_POST
def checkpoint_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.checkpoint_get(request.actor, pk, Role.MEMBER)
    services.checkpoint_delete(actor=request.actor, checkpoint=found)
    messages.success(request, f"{found.name} is deleted.")
    return redirect("models")


@requires(Role.MEMBER)
@never_cache
@require_POST
def share_new(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Share a checkpoint; a link is shown this once."""
    found = selectors.checkpoint_get(request.actor, pk, Role.MEMBER)
    form = ShareForm(request.POST)
    made = form.share(found, actor=request.actor)
    if made is None:
        return _checkpoint_page(request, found, share_form=form, status=422)
    url = share_url(request, made)
    if url is not None:
        return _checkpoint_page(request, found, fresh_link=url, fresh_share=made)
    messages.success(request, f"{found.name} is shared with {made.team or made.user}.")
    return redirect("checkpoint", pk)


@requires(Role.MEMBER)
@require_POST
def share_revoke(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    ended = end_share(actor=request.actor, share_id=pk)
    messages.success(request, "The share is revoked.")
    return redirect("checkpoint", ended.checkpoint_id)


# --- exports ----------------------------------------------------------------------------------------------------------
@signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def exports(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """What exports there are and how far, as a fragment; a POST asks for one of a `format`."""
    actor = request.actor
    if request.method != "POST":
        return render(request, "registry/_exports.html", _exports(actor, selectors.checkpoint_get(actor, pk)))
    found = selectors.checkpoint_get(actor, pk, Role.MEMBER)
    format_ = request.POST.get("format", "")
    return _exporting(request, found, partial(export_create, actor=actor, checkpoint=found, format=format_))


@signed_in
@require_safe
def export_download(request: StudioRequest, pk: uuid.UUID) -> HttpResponseBase:
    found = export_get(request.actor, pk)
    return export_response(request, found, selectors.share_that_opens(request.actor, found.checkpoint))


@requires(Role.MEMBER)
@require_POST
def export_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Delete an export, or cancel it."""
    found = export_get(request.actor, pk, Role.MEMBER)
    return _exporting(request, found.checkpoint, partial(remove_export, actor=request.actor, export=found))


@requires(Role.MEMBER)
@require_POST
def parity(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Have the exports checked; `prompts` holds one a line."""
    found = selectors.checkpoint_get(request.actor, pk, Role.MEMBER)
    prompts = request.POST.get("prompts", "")
    ask = partial(parity_create, actor=request.actor, checkpoint=found, prompts=prompts.splitlines())
    return _exporting(request, found, ask, prompts=prompts)


@requires(Role.MEMBER)
@require_POST
def parity_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Remove the check, or cancel it."""
    found = selectors.checkpoint_get(request.actor, pk, Role.MEMBER)
    return _exporting(request, found, partial(remove_parity, actor=request.actor, checkpoint=found))


def _exporting(request: StudioRequest, found: Checkpoint, deed: Callable[[], Any], **given: Any) -> HttpResponse:
    """Back to the exports once the deed is done; what it is refused for stands above them."""
    try:
        deed()
    except (Invalid, Conflict, ResourceError) as error:
        found = selectors.checkpoint_get(request.actor, found.pk)
        return _checkpoint_page(request, found, status=status_of(error), export_problem=error, **given)
    return redirect(f"{reverse('checkpoint', args=[found.pk])}#exports")


def _exports(actor: Actor, found: Checkpoint) -> dict[str, Any]:
    made = {export.format: export for export in exports_of(found)}
    check = parity_of(actor, found)
    return {
        "checkpoint": found,
        "may_change": actor.holds(Role.MEMBER, found.team_id),
        "formats": [(format_, made.get(format_)) for format_ in formats_of(found)],
        "check": check,
        "exports_open": any(export.is_open for export in made.values()) or (check is not None and check.is_open),
    }


def _checkpoint_page(request: StudioRequest, found: Checkpoint, *, status: int = 200, **given: Any) -> HttpResponse:
    actor = request.actor
    may_change = actor.holds(Role.MEMBER, found.team_id)
    context = {
        "checkpoint": found,
        "is_own": found.team_id in actor.roles,
        "may_change": may_change,
        "may_use": actor.team is not None and actor.holds(Role.MEMBER, actor.team.pk),
        "lineage": selectors.lineage(actor, found),
        "source": str(found.pk),
        "results": selectors.results_of(actor, found)[:RESULTS],
        "shares": selectors.shares_of(found)[:PAGE] if may_change else [],
        "share_form": ShareForm(),
        "register_form": RegisterForm(),
        **_exports(actor, found),
        **given,
    }
    return render(request, "registry/checkpoint.html", context, status=status)


# --- what a link opens ------------------------------------------------------------------------------------------------
@public
@never_cache
@require_safe
def share(request: HttpRequest, token: str) -> HttpResponseBase:
    """The page behind a share link: what the checkpoint is, and the button that downloads it."""
    found = selectors.share_for_token(token)
    response = render(request, "registry/share.html", {"share": found, "token": token})
    return private(response)


@public
@never_cache
@require_safe
def share_download(request: HttpRequest, token: str) -> HttpResponseBase:
    found = selectors.share_for_token(token)
    return private(download_response(request, found.checkpoint, found))
