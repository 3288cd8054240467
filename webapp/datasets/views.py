"""The list of datasets, and a dataset's page."""

import uuid
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from polm_core.data.completions import ANSWERED
from polm_core.data.limits import human_bytes
from polm_core.formats import Format
from polm_core.gym.tasks import table
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets import cards, pages, selectors, services
from webapp.datasets.derivations import derivation_of
from webapp.datasets.downloads import image_response, rows_response
from webapp.datasets.forms import DatasetForm, MappingForm, TaskForm
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.datasets.presenting import row_view
from webapp.errors import Invalid
from webapp.ui.markdown import render_markdown

PAGE = 50
ROWS = 10


@requires(Role.VIEWER)
@require_safe
@vary_on_headers("HX-Request")
def datasets(request: StudioRequest) -> HttpResponse:
    """The team's datasets; as a fragment, the table alone."""
    team = request.actor.current_team
    query = request.GET.get("q", "")
    entries, next_cursor = selectors.datasets_page(
        actor=request.actor, team=team, q=query, limit=PAGE, cursor=request.GET.get("cursor")
    )
    context = {
        "entries": entries,
        "next_cursor": next_cursor,
        "q": query,
        "team": team,
        "may_change": request.actor.holds(Role.MEMBER, team.pk),
        "max_bytes": settings.MAX_UPLOAD_BYTES,
        "max_size": human_bytes(settings.MAX_UPLOAD_BYTES),
        "busy": any(entry.latest.status == VersionStatus.PROCESSING for entry in entries),
    }
    template = "datasets/_datasets.html" if request.htmx else "datasets/datasets.html"
    return render(request, template, context)


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Request")
def dataset_generate(request: StudioRequest) -> HttpResponse:
    """A dataset to be made by a task of reasoning-gym; as a fragment, the form for the task that was chosen."""
    if request.method == "POST":
        form = TaskForm(request.POST)
        make = partial(services.dataset_generate, actor=request.actor, team=request.actor.current_team)
        if (made := form.attempt(make)) is not None:
            messages.success(request, f"{made.dataset.name} is being made.")
            return redirect("dataset", made.dataset_id)
        return render(request, "datasets/generate.html", _generate(form), status=422)
    # Another task has other levels: what was chosen of the last one's means nothing.
    kept = {name: request.GET[name] for name in ("task", "size", "seed", "name") if name in request.GET}
    form = TaskForm(initial=kept | ({"level": ""} if "task" in kept else {}))
    template = "datasets/_generate_form.html" if request.htmx else "datasets/generate.html"
    return render(request, template, _generate(form))


def _generate(form: TaskForm) -> dict[str, Any]:
    task = form.chosen
    example = row_view(Format.PROMPT_ANSWER, {"prompt": task.question, "answer": task.answer})
    return {"form": form, "task": task, "example": example, "left_out": table().left_out}


@requires(Role.VIEWER)
@require_safe
@vary_on_headers("HX-Request")
def dataset(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A dataset with one of its versions; as a fragment, what changes while it is processed."""
    found = selectors.dataset_get(request.actor, pk)
    return _dataset_page(request, found, selectors.version_get(found, number_in(request, "version")))


@requires(Role.VIEWER)
@require_safe
@vary_on_headers("HX-Request")
def dataset_rows(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """A page of rows; outside htmx, the whole dataset with them."""
    found = selectors.dataset_get(request.actor, pk)
    version = selectors.version_with_rows(found, number_in(request, "version"))
    if not request.htmx:
        return _dataset_page(request, found, version)
    context = {"dataset": found, "version": version, **_rows(request, version)}
    return render(request, "datasets/_rows.html", context)


@requires(Role.VIEWER)
@require_safe
def dataset_download(request: StudioRequest, pk: uuid.UUID) -> HttpResponseBase:
    """All rows of a version as one file."""
    found = selectors.dataset_get(request.actor, pk)
    return rows_response(request, selectors.version_with_rows(found, number_in(request, "version")))


@requires(Role.VIEWER)
@require_safe
def dataset_image(request: StudioRequest, pk: uuid.UUID, name: str) -> HttpResponseBase:
    """An image of a version's rows; with `small` its small copy, where it has one."""
    found = selectors.dataset_get(request.actor, pk)
    version = selectors.version_with_rows(found, number_in(request, "version"))
    return image_response(request, version, name, small="small" in request.GET)


@requires(Role.VIEWER)
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Request")
def dataset_mapping(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The mapping editor with its preview; posting reads the file anew as it says."""
    found = selectors.dataset_get(request.actor, pk, Role.MEMBER if request.method == "POST" else Role.VIEWER)
    version = selectors.version_get(found)
    if request.method == "POST":
        form = pages.mapping_form(version, request.POST)
        remap = partial(_remap, request, found, form)
        if form.attempt(remap) is not None:
            messages.success(request, "The file is being read with the new mapping.")
            return redirect(reverse("dataset", args=[pk]) + "#rows")
        return _dataset_page(request, found, version, form=form, status=422)
    form = pages.mapping_form(version, request.GET)
    if not request.htmx:
        return _dataset_page(request, found, version, form=form)
    return render(request, "datasets/_mapping.html", _mapping(request, found, version, form))


@requires(Role.MEMBER)
@require_POST
def dataset_convert(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Turn the rows of a version into another format, as a new dataset."""
    found = selectors.dataset_get(request.actor, pk, Role.MEMBER)
    number = request.POST.get("version", "")
    version = selectors.version_with_rows(found, int(number) if number.isdecimal() and len(number) < 10 else None)
    try:
        made = services.dataset_convert(actor=request.actor, version=version, to=request.POST.get("to", ""))
    except Invalid as error:
        messages.error(request, f"{error.message} {error.advice}".strip())
        return redirect(reverse("dataset", args=[pk]) + "#conversions")
    messages.success(request, f"The rows are being converted into {made.dataset.name}.")
    return redirect("dataset", made.dataset_id)


@requires(Role.MEMBER)
@require_POST
def dataset_edit(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Change what is said about a dataset."""
    found = selectors.dataset_get(request.actor, pk, Role.MEMBER)
    form = DatasetForm(request.POST)
    if form.attempt(partial(services.dataset_update, actor=request.actor, dataset=found)) is None:
        found.refresh_from_db()
        return _dataset_page(request, found, selectors.version_get(found), edit=form, status=422)
    messages.success(request, "Saved.")
    return redirect("dataset", pk)


@requires(Role.MEMBER)
@require_POST
def dataset_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    found = selectors.dataset_get(request.actor, pk, Role.MEMBER)
    services.dataset_delete(actor=request.actor, dataset=found)
    messages.success(request, f"{found.name} is deleted.")
    return redirect("datasets")


def _dataset_page(
    request: StudioRequest,
    found: Dataset,
    version: DatasetVersion,
    *,
    form: MappingForm | None = None,
    edit: DatasetForm | None = None,
    status: int = 200,
) -> HttpResponse:
    report = selectors.report_of(version)
    versions = selectors.versions(found)
    ready = [one for one in versions if one.status == VersionStatus.READY]
    uses = selectors.uses(found)
    problems = sum(report.problem_counts.values()) if report else 0
    context: dict[str, Any] = {
        "dataset": found,
        "version": version,
        "report": report,
        "versions": versions,
        "ready_versions": ready,
        "uses": uses,
        "problem_total": problems,
        "labels": pages.labels(report),
        "card": (card := cards.card_of(found)),
        "card_page": render_markdown(card.body),
        "derivation": derivation_of(version.derivation),
        "source_run": selectors.source_run(version) if version.derivation else None,
        "may_change": request.actor.holds(Role.MEMBER, found.team_id),
        "edit_form": edit or DatasetForm.of(found),
        "launch_url": f"{reverse('launch')}?dataset={found.pk}",
    }
    if version.status == VersionStatus.READY:
        format_ = Format(version.format)
        context |= _rows(request, version) | {
            "serves": pages.serves(format_),
            "has_answers": format_ in ANSWERED,
            "conversions": selectors.conversions(version),
            "made_into": selectors.made_into(found),
        }
    if report is not None and report.columns:
        context |= _mapping(request, found, version, form or pages.mapping_form(version))
    tabs = pages.tabs(context)
    context |= {"tabs": tabs, "open": "mapping" if form else tabs[0].panel}
    template = "datasets/_dataset.html" if request.htmx else "datasets/dataset.html"
    return render(request, template, context, status=status)


def _rows(request: StudioRequest, version: DatasetVersion) -> dict[str, Any]:
    wanted = (number_in(request, "row") or 1) - 1 + (number_in(request, "offset") or 0)
    offset = min(wanted, max(0, version.rows - 1))
    return {"page": pages.rows(version, offset=offset, limit=ROWS)}


def _mapping(request: StudioRequest, found: Dataset, version: DatasetVersion, form: MappingForm) -> dict[str, Any]:
    return {
        "dataset": found,
        "version": version,
        "form": form,
        "choices": pages.format_choices(version),
        "preview": pages.preview(version, form),
        "next_number": selectors.version_get(found).number + 1,
        "may_change": request.actor.holds(Role.MEMBER, found.team_id),
    }


def _remap(request: StudioRequest, found: Dataset, form: MappingForm, **_: Any) -> DatasetVersion:
    return services.dataset_remap(actor=request.actor, dataset=found, mapping=form.mapping())


def number_in(request: StudioRequest, name: str) -> int | None:
    """A whole number from the address; None when there is none, or something else."""
    text = request.GET.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else None
