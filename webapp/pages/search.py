"""The search palette: everything one can go to, by the first letters that come to mind."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from polm_core import catalogue
from webapp.accounts.access import Actor, signed_in
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets.models import Dataset
from webapp.registry.selectors import checkpoints_visible, models_visible
from webapp.runs.selectors import runs_visible, runs_with_words

MAX_QUERY = 100
PER_KIND = 6


@dataclass(frozen=True)
class Found:
    """A line of the palette."""

    kind: str
    icon: str
    title: str
    detail: str
    url: str


@signed_in
@require_safe
def search(request: StudioRequest) -> HttpResponse:
    """The palette's results for `q`; places and actions when nothing was typed."""
    query = request.GET.get("q", "")[:MAX_QUERY].strip()
    return render(request, "ui/_search.html", {"found": list(_find(request.actor, query)), "query": query})


def _find(actor: Actor, query: str) -> Iterator[Found]:
    yield from _actions(actor, query)
    if not query:
        return
    if actor.team is not None:
        yield from _things(actor, query)
    yield from _methods(query)


def _actions(actor: Actor, query: str) -> Iterator[Found]:
    actions = [
        ("Launch a run", "rocket", "launch", Role.MEMBER),
        ("Recipes and pipelines", "workflow", "recipes", Role.VIEWER),
        ("Upload a dataset", "upload", "datasets", Role.MEMBER),
        ("Home", "house", "home", None),
        ("Runs", "activity", "runs", Role.VIEWER),
        ("Compare runs", "chart-spline", "compare", Role.VIEWER),
        ("Datasets", "database", "datasets", Role.VIEWER),
        ("Reward workbench", "scale", "workbench", Role.VIEWER),
        ("Models and checkpoints", "box", "models", Role.VIEWER),
        ("Methods", "flask-conical", "methods", None),
        ("Playground", "messages-square", "playground", Role.VIEWER),
        ("Queue and workers", "list-ordered", "queue", Role.VIEWER),
        ("Team, roles and tokens", "users", "team", None),
    ]
    for title, icon, name, role in actions:
        if query.lower() in title.lower() and (role is None or actor.holds(role)):
            yield Found("Go to", icon, title, "", reverse(name))


def _things(actor: Actor, query: str) -> Iterator[Found]:
    for run in runs_with_words(runs_visible(actor), query)[:PER_KIND]:
        detail = f"{run.method} · {run.get_status_display().lower()}"
        yield Found("Runs", "activity", run.name, detail, reverse("run", args=[run.pk]))
    datasets = Dataset.objects.filter(team__in=actor.team_ids(), name__icontains=query).order_by("-pk")
    for dataset in datasets[:PER_KIND]:
        detail = dataset.get_origin_display()
        yield Found("Datasets", "database", dataset.name, detail, reverse("dataset", args=[dataset.pk]))
    for checkpoint in checkpoints_visible(actor).filter(name__icontains=query).order_by("-pk")[:PER_KIND]:
        detail = f"{checkpoint.method} · step {checkpoint.step:,}"
        yield Found("Checkpoints", "save", checkpoint.name, detail, reverse("checkpoint", args=[checkpoint.pk]))
    for model in models_visible(actor).filter(name__icontains=query).order_by("-pk")[:PER_KIND]:
        yield Found("Models", "box", model.name, model.get_source_display(), reverse("model", args=[model.pk]))


def _methods(query: str) -> Iterator[Found]:
    wanted = query.lower()
    hits = [m for m in catalogue.METHODS if wanted in m.slug or wanted in m.title.lower()]
    for method in hits[:PER_KIND]:
        yield Found("Methods", "flask-conical", method.title, method.slug, reverse("method", args=[method.slug]))
