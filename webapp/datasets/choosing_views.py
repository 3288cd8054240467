"""Pages on which a dataset is made of the rows of others."""

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods
from django.views.decorators.vary import vary_on_headers

from polm_core.formats import Format
from webapp.accounts.access import requires
from webapp.accounts.forms import StudioForm
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets import choosing, selectors
from webapp.datasets.choosing_forms import FilterForm, MixForm, SplitForm
from webapp.datasets.models import DatasetVersion

PAGE_METHODS = ["GET", "HEAD", "POST"]


@requires(Role.MEMBER)
@require_http_methods(PAGE_METHODS)
def split(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Split the newest ready version of a dataset in two."""
    return _choose(request, pk, SplitForm, choosing.dataset_split, "Split", "Split the rows")


@requires(Role.MEMBER)
@require_http_methods(PAGE_METHODS)
def filter_rows(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Make a dataset of the rows that fit, of the newest ready version of another."""
    return _choose(request, pk, FilterForm, _filtered, "Filter", "Keep what fits")


def _filtered(**values: Any) -> tuple[DatasetVersion]:
    return (choosing.dataset_filter(**values),)


def _choose(
    request: StudioRequest,
    pk: uuid.UUID,
    kind: type[StudioForm],
    choose: Callable[..., Sequence[DatasetVersion]],
    deed: str,
    button: str,
) -> HttpResponse:
    """The page of a form whose values `choose` makes datasets by; the first that was made is shown next."""
    found = selectors.dataset_get(request.actor, pk, Role.MEMBER)
    version = selectors.version_with_rows(found)
    form = kind(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        made = form.attempt(partial(choose, actor=request.actor, version=version))
        if made is not None:
            names = " and ".join(one.dataset.name for one in made)
            messages.success(request, f"{names} {'are' if len(made) > 1 else 'is'} being made.")
            return redirect("dataset", made[0].dataset_id)
    context = {"dataset": found, "version": version, "form": form, "deed": deed, "button": button}
    return render(request, "datasets/choose.html", context, status=422 if form.errors else 200)


@requires(Role.MEMBER)
@require_http_methods(PAGE_METHODS)
@vary_on_headers("HX-Request")
def mix(request: StudioRequest) -> HttpResponse:
    """Mix datasets of one format; as a fragment, the form with one more line for what was chosen."""
    offered = selectors.datasets_of_formats(request.actor.current_team.pk, list(Format))
    if request.method != "POST":
        form = MixForm(offered=offered, chosen=request.GET.getlist("dataset"))
        return render(request, "datasets/mix.html", {"form": form})
    form = MixForm(request.POST, offered=offered)
    if request.htmx:
        form.count()
    else:
        made = form.attempt(partial(choosing.dataset_mix, actor=request.actor, parts=form.chosen))
        if made is not None:
            messages.success(request, f"{made.dataset.name} is being made.")
            return redirect("dataset", made.dataset_id)
    template = "datasets/_mix_form.html" if request.htmx else "datasets/mix.html"
    refused = not request.htmx and bool(form.errors or form.problems)
    return render(request, template, {"form": form}, status=422 if refused else 200)
