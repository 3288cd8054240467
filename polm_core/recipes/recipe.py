"""What a recipe is: a frozen record that the cookbook lists, of stages that are each a method of the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from polm_core import catalogue
from polm_core.formats import Format
from polm_core.method import Method, Paper, merged

# Where settings come from that keep a recipe within reach of the starter on a laptop.
LAPTOP = "what a laptop manages"


@dataclass(frozen=True)
class ModelSlot:
    """A model that whoever starts the recipe chooses."""

    name: str
    title: str
    help: str


@dataclass(frozen=True)
class DatasetSlot:
    """A dataset that whoever starts the recipe chooses: of one of the formats, the preferred first, or convertible."""

    name: str
    title: str
    help: str
    formats: tuple[Format, ...]


@dataclass(frozen=True)
class Stage:
    """One method of a recipe, carried out as a run of its own once the stages that it needs have succeeded.

    `methods` are those to choose from, the first unless another is chosen, each with the settings that the recipe sets
    differently. `data` names a dataset slot. `start` names what training starts from: a model slot, or an earlier
    stage for its final checkpoint. `uses` says which earlier stage supplies what else the run takes, by the name that
    the run has for it: `{"reward_model": "reward"}`. `sources` says where those of its settings come from that are not
    the recipe's paper's, by their dotted names.
    """

    name: str
    title: str
    summary: str
    methods: Mapping[str, Mapping[str, Any]]
    data: str
    start: str
    uses: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def default_method(self) -> str:
        return next(iter(self.methods))


@dataclass(frozen=True)
class Recipe:
    """One row of the cookbook. `summary` says in a line what it does, `when` when to choose it."""

    slug: str
    title: str
    summary: str
    when: str
    paper: Paper
    models: tuple[ModelSlot, ...]
    datasets: tuple[DatasetSlot, ...]
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage | None:
        return next((stage for stage in self.stages if stage.name == name), None)

    def method(self, stage: Stage, slug: str) -> Method:
        """A method of the stage, with the recipe's settings as its defaults."""
        method = catalogue.get(slug)
        return replace(
            method,
            defaults=merged(method.defaults, stage.methods[slug]),
            sources={**method.sources, **stage.sources},
            paper=self.paper,
        )
