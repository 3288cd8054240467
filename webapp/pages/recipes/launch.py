"""Starting a recipe: its models and datasets, each stage's settings folded away, one button."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from polm_core import cookbook
from polm_core.errors import ConfigError, PolmError
from polm_core.formats import SPECS
from polm_core.method import Method
from polm_core.recipes.recipe import DatasetSlot, ModelSlot, Recipe, Stage
from webapp.accounts.access import Actor, requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets.selectors import datasets_page
from webapp.errors import Conflict, Invalid, NotFound
from webapp.pages.runs import recipe as written
from webapp.pages.runs.choices import (
    DatasetChoice,
    Source,
    checkpoints_to_choose,
    dataset_choice,
    models_to_choose,
    naming,
    source_called,
)
from webapp.pages.runs.inputs import storable
from webapp.recipes.services import MAX_NAME, pipeline_create
from webapp.registry.models import BaseModel, Checkpoint, ModelStatus
from webapp.registry.selectors import STARTER
from webapp.runs import selectors
from webapp.ui.forms import MethodForm

DATASETS = 200


@dataclass(frozen=True)
class ModelField:
    """The picker of a model, with what is wrong with the choice."""

    slot: ModelSlot
    name: str
    models: list[BaseModel]
    checkpoints: list[Checkpoint]
    source: Source | None
    problems: list[str]

    @property
    def missing(self) -> str:
        if self.source is None:
            return f"Choose a model: {self.slot.title.lower()}."
        if isinstance(self.source, BaseModel) and self.source.status == ModelStatus.FAILED:
            return f"{self.source.name} could not be prepared: choose another model."
        return ""


@dataclass(frozen=True)
class DatasetField:
    """The picker of a dataset: the choices that fit, what is chosen, how it would be used, what is wrong with it."""

    slot: DatasetSlot
    name: str
    choices: list[DatasetChoice]
    unfit: int
    chosen: DatasetChoice | None
    problems: list[str]

    @property
    def missing(self) -> str:
        return "" if self.chosen else f"Choose a dataset: {self.slot.title.lower()}."

    @property
    def needs(self) -> str:
        return " or ".join(SPECS[format_].title.lower() for format_ in self.slot.formats)


@dataclass(frozen=True)
class StageField:
    """A stage with its method and settings."""

    stage: Stage
    name: str
    methods: list[Method]
    method: Method
    settings: MethodForm

    @property
    def has_changes(self) -> bool:
        return bool(self.settings.changes)


@dataclass
class RecipeForm:
    """Everything on the page: what is chosen so far, and what is wrong with it."""

    actor: Actor
    recipe: Recipe
    values: Mapping[str, Any]
    posted: QueryDict | None = None
    problem: str = ""
    fields: dict[str, list[str]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        return str(self.values.get(name, "") or "").strip()

    @cached_property
    def models(self) -> list[ModelField]:
        return [self._model(slot, f"models.{slot.name}") for slot in self.recipe.models]

    def _model(self, slot: ModelSlot, name: str) -> ModelField:
        chosen = self.value(name)
        models, checkpoints = models_to_choose(self.actor, chosen), checkpoints_to_choose(self.actor, chosen)
        source = source_called(chosen, models, checkpoints)
        return ModelField(slot, name, models, checkpoints, source, self.fields.get(name, []))

    @cached_property
    def datasets(self) -> list[DatasetField]:
        entries, _ = datasets_page(actor=self.actor, team=self.actor.current_team, limit=DATASETS)
        found = []
        for slot in self.recipe.datasets:
            choices = [dataset_choice(entry.dataset, entry.latest, slot.formats) for entry in entries]
            fitting = [choice for choice in choices if not choice.reason]
            name = f"datasets.{slot.name}"
            chosen = next((one for one in fitting if str(one.dataset.pk) == self.value(name)), None)
            if self.posted is None and not self.value(name):
                chosen = _best(slot, fitting)
            unfit = len(choices) - len(fitting)
            found.append(DatasetField(slot, name, fitting, unfit, chosen, self.fields.get(name, [])))
        return found

    @cached_property
    def stages(self) -> list[StageField]:
        return [self._stage(stage) for stage in self.recipe.stages]

    def _stage(self, stage: Stage) -> StageField:
        name = f"stages.{stage.name}"
        methods = [self.recipe.method(stage, slug) for slug in stage.methods]
        chosen = self.value(f"{name}.method")
        method = next((method for method in methods if method.slug == chosen), methods[0])
        return StageField(stage, name, methods, method, MethodForm(method, posted=self.posted, prefix=f"{name}.config"))

    @property
    def missing(self) -> str:
        """Why the recipe cannot be started yet; empty when it can."""
        for missing in [*(one.missing for one in self.models), *(one.missing for one in self.datasets)]:
            if missing:
                return missing
        for stage in self.stages:
            if not stage.settings.is_valid:
                return f"Correct the settings of {stage.stage.title.lower()} that are marked."
        return ""

    def request(self) -> dict[str, Any]:
        """What the service is asked for."""
        stages = {
            one.stage.name: {"method": one.method.slug, "config": one.settings.changes}
            for one in self.stages
            if one.has_changes or one.method is not one.methods[0]
        }
        return {
            "recipe": self.recipe.slug,
            "models": {one.slot.name: self.value(one.name) for one in self.models if self.value(one.name)},
            "datasets": {one.slot.name: str(one.chosen.dataset.pk) for one in self.datasets if one.chosen},
            "stages": stages,
        }

    def naming(self) -> dict[str, Any]:
        """What the pipeline is called and where its runs stand. Problems are noted beside their fields."""
        return naming(self.value, self.fields, longest=MAX_NAME)

    def refuse(self, error: PolmError) -> None:
        """Show an error of the services: beside the fields it names, and above the form."""
        self.problem = f"{error.message} {error.advice}".strip()
        self.fields.update(error.fields)
        for stage in self.stages:
            own = {name: said for name, said in error.fields.items() if name.startswith(f"{stage.name}.config.")}
            stage.settings.add_problems(own)
        # They are made anew, with what is wrong beside them.
        self.__dict__.pop("models", None)
        self.__dict__.pop("datasets", None)


def _best(slot: DatasetSlot, choices: list[DatasetChoice]) -> DatasetChoice | None:
    """The newest of those that need the least conversion."""
    ranks = {str(format_): rank for rank, format_ in enumerate(slot.formats)}
    return min(choices, key=lambda choice: ranks.get(choice.version.format, len(ranks)), default=None)


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def launch(request: StudioRequest, slug: str) -> HttpResponse:
    """Show the page with what is chosen (a fragment while choosing), or start the pipeline."""
    try:
        recipe = cookbook.get(slug)
    except ConfigError as error:
        raise NotFound(f"There is no recipe {slug!r}.", advice=error.message) from None
    if request.method != "POST":
        asked = storable(request.GET).dict()
        form = RecipeForm(request.actor, recipe, {f"models.{slot.name}": STARTER for slot in recipe.models} | asked)
        return render(request, "recipes/launch.html", _context(request, form))
    posted = storable(request.POST)
    form = RecipeForm(request.actor, recipe, posted.dict(), posted)
    if "launch" in posted and not request.htmx:
        return _launch(request, form)
    return render(request, "recipes/_launch_form.html", _context(request, form))


def _launch(request: StudioRequest, form: RecipeForm) -> HttpResponse:
    placing = form.naming()
    form.problem = form.missing or ("Correct the fields that are marked." if form.fields else "")
    if not form.problem:
        try:
            made = pipeline_create(
                actor=request.actor, **form.request(), **placing, request_id=form.value("request_id")[:100]
            )
        except (Invalid, ConfigError, Conflict) as error:
            form.refuse(error)
        else:
            return redirect("pipeline", made.pk)
    return render(request, "recipes/launch.html", _context(request, form), status=422)


def _context(request: StudioRequest, form: RecipeForm) -> dict[str, Any]:
    url = request.build_absolute_uri(reverse("api:pipeline_create"))
    placing = {name: value for name, value in form.naming().items() if value}
    body = {name: value for name, value in form.request().items() if value}
    return {
        "form": form,
        "api_call": written.api_call(url, body | placing),
        "worker_labels": selectors.worker_labels(),
        "action": reverse("recipe", args=[form.recipe.slug]),
    }
