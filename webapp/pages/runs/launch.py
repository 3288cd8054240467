"""The Launch page: method, model and data, settings; beside them what the run will meet and need."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from polm_core import catalogue, cookbook
from polm_core.errors import ConfigError, PolmError
from polm_core.formats import Format
from polm_core.method import EVALUATION, PARADIGMS, Method, Paradigm, ParadigmSpec, merged
from webapp.accounts.access import Actor, requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets.models import DatasetVersion
from webapp.datasets.selectors import datasets_page, version_find
from webapp.errors import Conflict, Invalid, NotFound
from webapp.pages.runs import recipe
from webapp.pages.runs.choices import (
    DatasetChoice,
    Source,
    checkpoints_to_choose,
    dataset_choice,
    models_to_choose,
    naming,
    source_called,
)
from webapp.pages.runs.figures import method_of
from webapp.pages.runs.inputs import storable, whole_number
from webapp.pages.runs.merging import MergePicker, choices_of, merge_picker, merging_fields, with_weights
from webapp.pages.runs.preflight import ReportView
from webapp.pages.runs.scorers import SCORERS, ScorerChoice, pinned_lists, scorer_choices, teacher_choice
from webapp.registry.models import BaseModel, Checkpoint, ModelSource, ModelStatus
from webapp.registry.selectors import STARTER
from webapp.runs import selectors, services
from webapp.runs.estimates import seconds_of_report
from webapp.runs.models import Preflight, RewardList, Run
from webapp.ui.forms import MethodForm

DATASETS = 200
# A preflight that no worker has answered is asked for again by the page this many times, about a second apart.
PREFLIGHT_TRIES = 60


@dataclass(frozen=True)
class MethodGroup:
    """A paradigm with its methods by branch, or the evaluations, which have none."""

    paradigm: Paradigm | None
    spec: ParadigmSpec
    branches: dict[str, list[Method]]


@dataclass
class LaunchForm:
    """Everything on the page: what is chosen so far, and what is wrong with it."""

    actor: Actor
    values: Mapping[str, Any]
    method: Method | None
    settings: MethodForm | None
    source_run: Run | None = None
    problem: str = ""
    fields: dict[str, list[str]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        return str(self.values.get(name, "") or "").strip()

    @property
    def groups(self) -> list[MethodGroup]:
        found = []
        for paradigm, spec in PARADIGMS.items():
            branches: dict[str, list[Method]] = {}
            for method in catalogue.METHODS:
                if method.paradigm == paradigm:
                    branches.setdefault(method.branch, []).append(method)
            found.append(MethodGroup(paradigm, spec, branches))
        return [*found, MethodGroup(None, EVALUATION, {EVALUATION.title: list(catalogue.EVALUATIONS)})]

    @property
    def paradigm(self) -> Paradigm | None:
        """The one whose methods are unfolded."""
        return self.method.paradigm if self.method else Paradigm.FINE_TUNING

    @cached_property
    def models(self) -> list[BaseModel]:
        return models_to_choose(self.actor, self.value("model"))

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        return checkpoints_to_choose(self.actor, self.value("model"))

    @cached_property
    def source(self) -> Source | None:
        """The model or checkpoint that is chosen."""
        return source_called(self.value("model"), self.models, self.checkpoints)

    @cached_property
    def scorers(self) -> list[ScorerChoice]:
        """The models that the method and the settings ask for besides the one that is trained."""
        config = (self.settings.config or self.settings.changes) if self.settings else {}
        teacher = teacher_choice(self.actor, self.method, self.values, self.source) if self.method else None
        return [*scorer_choices(self.actor, config, self.values), *([teacher] if teacher else [])]

    @cached_property
    def merging(self) -> MergePicker | None:
        """The further models and the weights of a merge."""
        if self.method is None or self.settings is None or not self.method.merges:
            return None
        return merge_picker(self.actor, self.settings.settings["merge_method"].value, self.values, self.source)

    @cached_property
    def reward_lists(self) -> list[RewardList]:
        """The pinned rewards that may be chosen, where the method learns from rewards."""
        if self.settings is None or "rewards.math" not in self.settings.settings:
            return []
        return pinned_lists(self.actor, self.value("reward_list"))

    @property
    def reward_list(self) -> RewardList | None:
        """Those that are chosen."""
        return next((one for one in self.reward_lists if str(one.pk) == self.value("reward_list")), None)

    @property
    def unasked(self) -> dict[str, str]:
        """Those that were chosen and are not asked for now, which the page remembers."""
        asked = {one.field for one in self.scorers}
        found = {field: self.value(field) for field in SCORERS if field not in asked}
        return found if self.merging else found | merging_fields(self.values)

    @cached_property
    def datasets(self) -> list[DatasetChoice]:
        found, _ = datasets_page(actor=self.actor, team=self.actor.current_team, limit=DATASETS)
        formats = self.method.formats if self.method else None
        return [dataset_choice(entry.dataset, entry.latest, formats) for entry in found]

    @property
    def unfit(self) -> list[DatasetChoice]:
        """The datasets that cannot be picked."""
        return [choice for choice in self.datasets if choice.reason]

    @property
    def takes_dataset(self) -> bool:
        return self.method is None or bool(self.method.formats)

    @property
    def holds_out(self) -> bool:
        return self.method is None or self.method.holds_out

    @property
    def dataset(self) -> DatasetChoice | None:
        return self._dataset_called(self.value("dataset")) if self.takes_dataset else None

    @property
    def held_out(self) -> DatasetChoice | None:
        """The set to measure on, where the method takes one beside its dataset."""
        return self._dataset_called(self.value("eval_dataset")) if self.holds_out else None

    @cached_property
    def document_sets(self) -> list[DatasetChoice]:
        """The datasets that hold documents, where the method takes some."""
        if self.method is None or not self.method.takes_documents:
            return []
        offered = (dataset_choice(one.dataset, one.version, [Format.DOCUMENTS]) for one in self.datasets)
        return [choice for choice in offered if not choice.reason]

    @property
    def documents(self) -> DatasetChoice | None:
        return next((one for one in self.document_sets if str(one.dataset.pk) == self.value("documents")), None)

    def _dataset_called(self, pk: str) -> DatasetChoice | None:
        return next((choice for choice in self.datasets if str(choice.dataset.pk) == pk), None)

    @property
    def missing(self) -> str:
        """Why the run cannot be launched yet; empty when it can."""
        if self.method is None:
            return "Choose a method."
        if self.source is None:
            return "Choose a model to start from."
        if isinstance(self.source, BaseModel) and self.source.status == ModelStatus.FAILED:
            return f"{self.source.name} could not be prepared: choose another model."
        if self.takes_dataset and self.dataset is None:
            return "Choose a dataset."
        if self.merging is not None and not self.merging.chosen:
            return "Choose a model to merge with."
        if self.method.takes_documents and self.documents is None:
            return "Choose the documents to answer from."
        if unchosen := [one for one in self.scorers if one.chosen is None]:
            return f"Choose a {unchosen[0].label.lower()}{unchosen[0].or_else}."
        for choice in (self.dataset, self.held_out):
            if choice is not None and choice.reason:
                return f"{choice.dataset.name} does not fit: {choice.reason}"
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
            "dataset": (self.value("dataset") or None) if self.takes_dataset else None,
            "eval_dataset": str(self.held_out.dataset.pk) if self.held_out else None,
            "documents": str(self.documents.dataset.pk) if self.documents else None,
            "merge_models": [str(one.pk) for one in self.merging.chosen] if self.merging else [],
            **{one.field: str(one.chosen.pk) if one.chosen else None for one in self.scorers},
            "reward_list": str(self.reward_list.pk) if self.reward_list else None,
            "config": self.settings.changes if self.settings else {},
        }

    def naming(self) -> dict[str, Any]:
        """What the run is called and where it stands. Problems with it are noted beside their fields."""
        return naming(self.value, self.fields) | {"hypothesis": self.value("hypothesis")}

    def refuse(self, error: PolmError) -> None:
        """Show an error of the services: beside the fields it names, and above the form."""
        self.problem = f"{error.message} {error.advice}".strip()
        self.fields.update(error.fields)

    @property
    def config_file(self) -> str:
        """The choice as `python -m polm_core run` takes it; empty while something is missing."""
        if self.method is None or self.source is None or (self.takes_dataset and self.dataset is None):
            return ""
        return recipe.config_file(
            method=self.method.slug,
            model=self.source,
            others={one.field: one.chosen for one in self.scorers if one.chosen is not None},
            merged=self.merging.chosen if self.merging else (),
            rows=self.dataset.version if self.dataset else None,
            held_out=self.held_out.version if self.held_out else None,
            documents=self.documents.version if self.documents else None,
            config=self.request()["config"],
        )


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def launch(request: StudioRequest) -> HttpResponse:
    """Show the page with what is chosen (a fragment while choosing), or queue the run."""
    # htmx adds the button clicked last to what it sends, and a change may still be waiting when the form is sent off.
    if "launch" in request.POST and not request.htmx:
        return _launch(request)
    if request.method != "POST":
        form = form_of_link(request.actor, storable(request.GET))
        return render(request, "runs/launch.html", _context(request, form))
    form = form_of_post(request.actor, storable(request.POST))
    return render(request, "runs/_launch_form.html", _context(request, form) | _preflight(form))


def _launch(request: StudioRequest) -> HttpResponse:
    form = form_of_post(request.actor, storable(request.POST))
    naming = form.naming()
    form.problem = form.missing or ("Correct the fields that are marked." if form.fields else "")
    if not form.problem:
        try:
            run = services.run_create(
                actor=request.actor,
                **form.request(),
                **naming,
                request_id=form.value("request_id")[:100],
                parent=form.source_run,
            )
        except (Invalid, ConfigError, Conflict) as error:
            form.refuse(error)
        else:
            return redirect("run", run.pk)
    return render(request, "runs/launch.html", _context(request, form), status=422)


@requires(Role.MEMBER)
@require_POST
def check(request: StudioRequest) -> HttpResponse:
    """Fragment: what a worker found when it looked at the data as the model would."""
    posted = storable(request.POST)
    form = form_of_post(request.actor, posted)
    tries = (whole_number(posted.get("tries", "")) or 0) + 1
    asked = _asked_before(request.actor, posted.get("preflight", ""))
    return render(request, "runs/_preflight.html", {"form": form, "polled": True} | _preflight(form, asked, tries))


@requires(Role.MEMBER)
@require_POST
def row(request: StudioRequest) -> HttpResponse:
    """Fragment: another row as the model will see it, by its number, which people count from 1."""
    posted = storable(request.POST)
    form = form_of_post(request.actor, posted)
    rows = max(1, whole_number(posted.get("rows", "")) or 1)
    number = min(rows, max(1, whole_number(posted.get("row", "")) or 1))
    tries = (whole_number(posted.get("tries", "")) or 0) + 1
    found: dict[str, Any] = {"number": number, "rows": rows, "tries": tries}
    try:
        if not form.ready:
            raise Invalid(form.missing)
        asked = _asked_before(request.actor, posted.get("preflight", ""), row=number - 1)
        preflight = asked or services.preflight_request(actor=request.actor, row=number - 1, **form.request())
    except PolmError as error:
        return render(request, "runs/_example.html", found | {"error": error.as_dict()})
    if (example := preflight.report) is not None:
        found |= {"example": example, "version": _version_of_images(preflight, example)}
    elif preflight.error is not None:
        found["error"] = preflight.error
    elif tries > PREFLIGHT_TRIES:
        found["error"] = {"message": "No worker has answered.", "advice": ""}
    else:
        found["preflight"] = preflight
    return render(request, "runs/_example.html", found)


def _asked_before(actor: Actor, pk: str, row: int | None = None) -> Preflight | None:
    """The preflight, or that of a row, whose answer the page waits for; old ones are forgotten."""
    try:
        asked = actor.get(Preflight, pk) if pk else None
    except NotFound:
        return None
    return asked if asked is not None and asked.request.get("row") == row else None


def _context(request: StudioRequest, form: LaunchForm) -> dict[str, Any]:
    naming = {name: value for name, value in form.naming().items() if value}
    body = {name: value for name, value in form.request().items() if value}
    url = request.build_absolute_uri(reverse("api:run_create"))
    api_call = recipe.api_call(url, body | naming)
    return {
        "form": form,
        "api_call": api_call,
        "worker_labels": selectors.worker_labels(),
        "recipes": cookbook.RECIPES,
    }


def _preflight(form: LaunchForm, asked: Preflight | None = None, tries: int = 0) -> dict[str, Any]:
    """The report on what is chosen, as far as a worker has answered."""
    if not form.ready:
        return {}
    try:
        preflight = asked or services.preflight_request(actor=form.actor, **form.request())
    except PolmError as error:
        return {"error": error.as_dict()}
    if preflight.error is not None:
        return {"error": preflight.error}
    if (report := preflight.report) is not None:
        version = _version_of_images(preflight, report.get("first_example"))
        expected = seconds_of_report(preflight.team_id, preflight.request["method"], report)
        return {"view": ReportView(report, preflight.request["config"], version, expected)}
    gave_up = tries > PREFLIGHT_TRIES
    return {"waiting": not gave_up, "gave_up": gave_up, "preflight": preflight, "tries": tries}


def _version_of_images(preflight: Preflight, example: Mapping[str, Any] | None) -> DatasetVersion | None:
    """The dataset's version that the images of an example belong to, if it has any."""
    return version_find(preflight.request["dataset_version"]) if example and example.get("images") else None


def form_of_post(actor: Actor, posted: QueryDict) -> LaunchForm:
    """The page with the choices that were posted."""
    method = method_of(posted.get("method", ""))
    settings = _settings(method, posted) if method else None
    form = LaunchForm(actor, posted.dict(), method, settings, _run_to_clone(actor, posted.get("clone", "")))
    return _with_pinned(form)


def _with_pinned(form: LaunchForm) -> LaunchForm:
    """The form with the settings and models of the reward list that is chosen in it, if one is."""
    pinned = form.reward_list
    if pinned is None or form.method is None or form.settings is None:
        return form
    settings = MethodForm(form.method, values=merged(form.settings.changes, {"rewards": pinned.rewards}))
    models = {"reward_model": _named(pinned.reward_model), "judge_model": _named(pinned.judge_model)}
    return LaunchForm(form.actor, {**form.values, **models}, form.method, settings, form.source_run)


def _settings(method: Method, posted: QueryDict) -> MethodForm:
    """The posted settings. Those of another method, chosen before, keep what was changed in them.

    What the method itself sets is not kept: it makes the method what it is.
    """
    before = method_of(posted.get("settings_of", ""))
    if before is None or before is method:
        return MethodForm(method, posted=with_weights(posted) if method.merges else posted)
    return MethodForm(method, values=_beyond(MethodForm(before, posted=posted).changes, method.defaults))


def _beyond(changes: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` without what `own` says something about, at every level."""
    kept = {}
    for name, value in changes.items():
        if isinstance(value, Mapping):
            below = own.get(name, {})
            kept[name] = _beyond(value, below if isinstance(below, Mapping) else {})
        elif name not in own:
            kept[name] = value
    return kept


def form_of_link(actor: Actor, asked: QueryDict) -> LaunchForm:
    """The page as a link asks for it: with choices made, or as the clone of a run."""
    source = _run_to_clone(actor, asked.get("clone", ""))
    values: dict[str, Any] = {"model": STARTER, **(_choices_of(source) if source else {}), **asked.dict()}
    method = method_of(values.get("method", ""))
    keeps_settings = source is not None and method is not None and method.slug == source.method
    settings = MethodForm(method, values=source.config if source and keeps_settings else None) if method else None
    return _with_pinned(LaunchForm(actor, values, method, settings, source))


def _choices_of(run: Run) -> dict[str, str]:
    """What a clone starts with."""
    held_out, documents = run.eval_dataset_version, run.documents_version
    return {
        "method": run.method,
        "model": STARTER if run.model.source == ModelSource.STARTER else str(run.model_id),
        "dataset": str(run.dataset_version.dataset_id) if run.dataset_version else "",
        "eval_dataset": str(held_out.dataset_id) if held_out else "",
        "documents": str(documents.dataset_id) if documents else "",
        "reward_model": _named(run.reward_model),
        "judge_model": _named(run.judge_model),
        "teacher_model": _named(run.teacher_model),
        **choices_of(run),
        "reward_list": str(run.reward_list_id or ""),
        "project": run.project.name,
        "tags": ", ".join(run.tags),
        "labels": ", ".join(run.labels),
        "gpu_memory_gb": str(run.gpu_memory_gb or ""),
    }


def _named(model: BaseModel | None) -> str:
    """What scored its answers or taught it, as the picker names it: a checkpoint by its own id."""
    return str(model.checkpoint_id or model.pk) if model else ""


def _run_to_clone(actor: Actor, pk: str) -> Run | None:
    """The run with that id, if there is one in the team whose things the page shows."""
    if not pk:
        return None
    try:
        run = selectors.run_get(actor, pk)
    except NotFound:
        return None
    return run if run.team_id == actor.current_team.pk else None
