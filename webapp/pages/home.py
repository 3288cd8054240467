"""Home: what runs now, what went wrong, what came out, and what to do next."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_POST, require_safe

from polm_core.formats import Format
from webapp.accounts.access import Actor, requires, signed_in
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.datasets.selectors import datasets_page
from webapp.errors import Conflict
from webapp.pages.context import Frame
from webapp.pages.lists import entries
from webapp.registry.models import BaseModel, ModelSource, ModelStatus
from webapp.registry.selectors import STARTER, checkpoints_visible, models_visible
from webapp.runs.models import Project, Status
from webapp.runs.selectors import active_runs, runs_visible, worker_is_alive, workers_list
from webapp.runs.services import run_create

SHOWN = 6
# A new visit begins after this long without one; failures are news until then.
VISIT_GAP = timedelta(minutes=30)
NEWS_FROM = timedelta(days=7)
FIRST_RUN = {"max_steps": 30, "batch_size": 4, "eval_steps": 10, "save_steps": 0}


@dataclass(frozen=True)
class Step:
    """One line of the first-steps list. `post` makes its button do the deed rather than lead to a page."""

    title: str
    text: str
    done: bool
    url: str
    label: str
    post: bool = False
    busy: bool = False


@signed_in
@require_safe
def home(request: StudioRequest) -> HttpResponse:
    """The page, or to htmx only its live part."""
    if request.actor.team is None:
        return render(request, "ui/home_no_team.html")
    since = _note_visit(request)
    context = _content(request.actor, Frame(request).project, since)
    return render(request, "ui/_home.html" if request.htmx else "ui/home.html", context)


def _content(actor: Actor, project: Project | None, since: datetime) -> dict[str, Any]:
    team = actor.current_team
    visible = runs_visible(actor).filter(team=team)
    if project is not None:
        visible = visible.filter(project=project)
    waiting = visible.filter(status=Status.QUEUED).count()
    datasets, _ = datasets_page(actor=actor, team=team, limit=SHOWN)
    workers = list(workers_list())
    return {
        "active": entries(visible.filter(pk__in=active_runs(actor))[:SHOWN]),
        "waiting": waiting,
        "failed": visible.filter(status=Status.FAILED, finished_at__gt=since)[:SHOWN],
        # For want of space: until somebody makes some and has them go on.
        "held": visible.filter(status=Status.PAUSED, error__isnull=False)[:SHOWN],
        "finished": entries(visible.filter(status__in=(Status.SUCCEEDED, Status.STOPPED))[:SHOWN]),
        "since": since,
        "checkpoints": checkpoints_visible(actor, team.pk).order_by("-pk")[:SHOWN],
        "datasets": datasets,
        "workers": [(worker, worker_is_alive(worker)) for worker in workers],
        "steps": [] if runs_visible(actor).filter(team=team).exists() else _first_steps(actor),
    }


def _note_visit(request: StudioRequest) -> datetime:
    """The time from which on something is news to this person: when their last visit ended."""
    now = timezone.now()
    last = parse_datetime(request.session.get("home_at", "")) or now - NEWS_FROM
    since = parse_datetime(request.session.get("home_since", "")) or last
    if now - last > VISIT_GAP:
        since = last
    if not request.htmx:
        request.session["home_at"] = now.isoformat()
        request.session["home_since"] = since.isoformat()
    return since


@requires(Role.MEMBER)
@require_POST
def first_run(request: StudioRequest) -> HttpResponse:
    """Train the starter model for a few steps on the team's first conversations: the tour of the studio."""
    actor = request.actor
    dataset = _first_conversations(actor)
    if dataset is None:
        raise Conflict("There is no dataset of conversations yet.", advice="Upload one, then launch a run on it.")
    run = run_create(
        actor=actor,
        method="lora",
        model=STARTER,
        dataset=dataset.pk,
        config=FIRST_RUN,
        name="First run",
        tags=["first"],
    )
    return redirect("run", run.pk)


def _first_conversations(actor: Actor) -> Dataset | None:
    ready = DatasetVersion.objects.filter(
        dataset__team=actor.current_team, status=VersionStatus.READY, format=Format.CONVERSATION
    )
    version = ready.select_related("dataset").order_by("dataset_id").first()
    return version.dataset if version else None


def _first_steps(actor: Actor) -> list[Step]:
    """What a team does that has not run anything."""
    team = actor.current_team
    starter = models_visible(actor).filter(source=ModelSource.STARTER).first()
    ready = starter is not None and starter.status == ModelStatus.READY
    data = _first_conversations(actor)
    steps = [
        Step(
            "Bring data",
            f"{data.name} is there; a file of your own is read, checked and mapped for you."
            if data
            else "Upload a file; it is read, checked and mapped for you.",
            data is not None,
            reverse("datasets"),
            "Upload a dataset",
        ),
        Step(
            "Train for the first time",
            "A small adapter on the sample conversations: a few minutes, curves from the first step on.",
            False,
            reverse("first-run") if ready and data and actor.holds(Role.MEMBER, team.pk) else "",
            "Run the sample",
            post=True,
        ),
        Step(
            "Invite the team",
            "Everyone sees the same runs; roles say who may do what.",
            team.memberships.count() > 1,
            reverse("team"),
            "Invite someone",
        ),
    ]
    return [_model_step(starter), *steps] if starter else steps


def _model_step(starter: BaseModel) -> Step:
    url = reverse("model", args=[starter.pk])
    if starter.status == ModelStatus.READY:
        return Step(f"{starter.name} is ready", "A small model to start from.", True, url, "Open")
    if starter.status == ModelStatus.FAILED:
        return Step(f"{starter.name} could not be prepared", "Its page says why.", False, url, "Open")
    return Step(f"Preparing {starter.name}", "A worker unpacks it: half a minute.", False, url, "Open", busy=True)
