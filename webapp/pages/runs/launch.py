"""The Launch page: paradigm and method, model and data, settings; beside them what the run will meet and need."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from polm_core import catalogue
from polm_core.data.convert import compatible
from polm_core.errors import ConfigError, PolmError
from polm_core.formats import Format
from polm_core.method import PARADIGMS, Method, Paradigm, ParadigmSpec
from webapp.accounts.access import Actor, requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.datasets.selectors import datasets_page
from webapp.errors import Conflict, Invalid, NotFound
from webapp.registry.models import BaseModel, Checkpoint
from webapp.registry.selectors import checkpoints_visible, models_visible
from webapp.runs import selectors, services
from webapp.runs.models import Run
from webapp.ui.forms import MethodForm

DATASETS = 200
MODELS = 100
CHECKPOINTS = 50
# A preflight that no worker has answered is looked for again by the page, once a second, this many times.
PREFLIGHT_TRIES = 45


@dataclass(frozen=True)
class DatasetChoice:
    """A dataset in the picker; `reason` says why it cannot be picked, `note` how it would be used."""

    dataset: Dataset
    version: DatasetVersion
    reason: str
    note: str


@dataclass
class LaunchForm:
    """Everything on the page: what is chosen so far, and what is wrong with it."""

    actor: Actor
    values: Mapping[str, Any]
    method: Method | None
    settings: MethodForm | None
    fields: dict[str, list[str]]
    problem: str = ""

    def value(self, name: str) -> str:
        return str(self.values.get(name, "") or "")

    @property
    def paradigms(self) -> list[tuple[Paradigm, ParadigmSpec, list[Method]]]:
        return [
            (paradigm, spec, [method for method in catalogue.METHODS if method.paradigm == paradigm])
            for paradigm, spec in PARADIGMS.items()
        ]

    @property
    def paradigm(self) -> Paradigm:
        """The one whose methods are unfolded."""
        return self.method.paradigm if self.method else Paradigm.FINE_TUNING

    @property
    def models(self) -> QuerySet[BaseModel]:
        return models_visible(self.actor, self.actor.current_team.pk).order_by("source", "-id")[:MODELS]

    @property
    def checkpoints(self) -> QuerySet[Checkpoint]:
        return checkpoints_visible(self.actor, self.actor.current_team.pk).order_by("-id")[:CHECKPOINTS]

    @property
    def datasets(self) -> list[DatasetChoice]:
        found, _ = datasets_page(actor=self.actor, team=self.actor.current_team, limit=DATASETS)
        return [_choice(entry.dataset, entry.latest, self.method) for entry in found]

    @property
    def missing(self) -> str:
        """Why the run cannot be launched yet; empty when it can."""
        if self.method is None:
            return "Choose a method."
        for name in ("model", "dataset"):
            if not self.value(name):
                return f"Choose a {name}."
        if self.settings is not None and not self.settings.is_valid:
            return "Correct the settings that are marked."
        return ""

    @property
    def ready(self) -> bool:
        return not self.missing

    def request(self) -> dict[str, Any]:
        """What the services are asked for."""
        return {
            "method": self.method.slug if self.method else "",
            "model": self.value("model"),
            "dataset": self.value("dataset"),
            "eval_dataset": self.value("eval_dataset") or None,
            "config": self.settings.changes if self.settings else {},
        }

    @property
    def yaml(self) -> str:
        """The choice as the body of `POST /runs`."""
        chosen = {key: value for key, value in self.request().items() if value}
        return yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True)


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def launch(request: StudioRequest) -> HttpResponse:
    """Show the page with what is chosen (a fragment while choosing), or queue the run."""
    if "launch" in request.POST:
        return _launch(request)
    posted = request.method == "POST"
    form = _form(request.actor, request.POST if posted else request.GET, posted=posted)
    return render(request, "runs/_launch_form.html" if request.htmx else "runs/launch.html", {"form": form})


def _launch(request: StudioRequest) -> HttpResponse:
    form = _form(request.actor, request.POST, posted=True)
    form.problem = form.missing
    if not form.problem:
        try:
            run = services.run_create(
                actor=request.actor,
                **form.request(),
                project=form.value("project") or None,
                name=form.value("name"),
                tags=form.value("tags").split(","),
                priority=_whole(form.value("priority")),
                request_id=form.value("request_id")[:100],
                parent=_parent(request.actor, form.value("clone")),
            )
        except (Invalid, ConfigError, Conflict) as error:
            form.problem = f"{error.message} {error.advice}".strip()
            form.fields.update(error.fields)
        else:
            return redirect("run", run.pk)
    return render(request, "runs/launch.html", {"form": form}, status=422)


@requires(Role.MEMBER)
@require_POST
def check(request: StudioRequest) -> HttpResponse:
    """Fragment: what a worker found when it looked at the data as the model would."""
    form = _form(request.actor, request.POST, posted=True)
    tries = _whole(request.POST.get("tries", "")) + 1
    context: dict[str, Any] = {"form": form, "tries": tries, "gave_up": tries > PREFLIGHT_TRIES}
    if form.ready:
        try:
            preflight = services.preflight_request(actor=request.actor, **form.request())
        except PolmError as error:
            context["error"] = error.as_dict()
        else:
            context |= {"report": preflight.report, "error": preflight.error}
            context["waiting"] = preflight.report is None and preflight.error is None
    return render(request, "runs/_preflight.html", context)


def _form(actor: Actor, values: Mapping[str, Any], *, posted: bool) -> LaunchForm:
    chosen = dict(values.items())
    config: Mapping[str, Any] | None = None
    if not posted:
        chosen.setdefault("model", "starter")
        source = _parent(actor, str(chosen.get("clone") or ""))
        if source is not None:
            chosen = {**chosen, **_choices_of(source), **dict(values.items())}
            config = source.config if chosen["method"] == source.method else None
    method = next((one for one in catalogue.METHODS if one.slug == chosen.get("method")), None)
    settings = MethodForm(method, posted=values if posted else None, values=config) if method else None
    return LaunchForm(actor, chosen, method, settings, {})


def _choices_of(run: Run) -> dict[str, str]:
    """What a clone starts with."""
    held_out = run.eval_dataset_version
    return {
        "method": run.method,
        "model": "starter" if run.model.source == "starter" else str(run.model_id),
        "dataset": str(run.dataset_version.dataset_id),
        "eval_dataset": str(held_out.dataset_id) if held_out else "",
        "project": run.project.name,
        "tags": ", ".join(run.tags),
    }


def _parent(actor: Actor, pk: str) -> Run | None:
    """The run that is cloned, if there is one the actor may see."""
    if not pk:
        return None
    try:
        return selectors.run_get(actor, pk)
    except NotFound:
        return None


def _choice(dataset: Dataset, version: DatasetVersion, method: Method | None) -> DatasetChoice:
    if version.status != VersionStatus.READY:
        return DatasetChoice(dataset, version, version.get_status_display().lower(), "")
    if method is None:
        return DatasetChoice(dataset, version, "", "")
    fit = compatible(method.formats, Format(version.format))
    return DatasetChoice(dataset, version, "" if fit.ok else fit.reason, fit.reason if fit.ok else "")


def _whole(text: str) -> int:
    """A whole number from a form; what is none counts as 0."""
    text = text.strip()
    return int(text) if text.lstrip("-").isdigit() and len(text) < 5 else 0
