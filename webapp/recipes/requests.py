"""What a pipeline is made from, resolved and checked whole before anything of it is made."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from polm_core import cookbook
from polm_core.errors import ConfigError
from polm_core.method import near
from polm_core.recipes.recipe import Recipe, Stage
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.datasets.models import DatasetVersion
from webapp.errors import Conflict, Invalid
from webapp.registry.models import BaseModel, ModelStatus
from webapp.registry.selectors import STARTER
from webapp.registry.services import model_resolve_for_run
from webapp.runs.requests import version_for_run
from webapp.runs.scoring import asks_for_judge_model, asks_for_reward_model


@dataclass(frozen=True)
class StageChoice:
    """The method of a stage and the settings changed in it."""

    method: str = ""
    config: Mapping[str, Any] | None = None


class PipelineRequest:
    """A recipe with everything chosen for it. Models and methods that nobody chose are the recipe's own.

    Raises Forbidden, or Invalid whose `fields` name everything at fault: `recipe`, `models.<slot>`,
    `datasets.<slot>`, `stages.<stage>.method`, `stages.<stage>.config.<setting>`.
    """

    def __init__(
        self,
        actor: Actor,
        *,
        recipe: str,
        datasets: Mapping[str, str],
        models: Mapping[str, str],
        stages: Mapping[str, StageChoice],
    ) -> None:
        self._actor = actor
        self.problems: dict[str, list[str]] = {}
        self.recipe: Recipe = cookbook.get(recipe)
        self._refuse_unknown("datasets", datasets, [slot.name for slot in self.recipe.datasets])
        self._refuse_unknown("models", models, [slot.name for slot in self.recipe.models])
        self._refuse_unknown("stages", stages, [stage.name for stage in self.recipe.stages])
        self.methods: dict[str, str] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        for stage in self.recipe.stages:
            self._choose_method(stage, stages.get(stage.name, StageChoice()))
        self.versions: dict[str, DatasetVersion] = {}
        for slot in self.recipe.datasets:
            with self._noting(f"datasets.{slot.name}"):
                self._choose_dataset(slot.name, datasets.get(slot.name, ""))
        self._refuse_problems()
        self.team: Team = next(iter(self.versions.values())).dataset.team
        self.models: dict[str, BaseModel] = {}
        for model_slot in self.recipe.models:
            with self._noting(f"models.{model_slot.name}"):
                self._choose_model(model_slot.name, models.get(model_slot.name) or STARTER)
        self._refuse_problems()

    def _choose_method(self, stage: Stage, choice: StageChoice) -> None:
        slug = choice.method or stage.default_method
        if slug not in stage.methods:
            self.problems[f"stages.{stage.name}.method"] = [f"must be one of {', '.join(stage.methods)}, not {slug!r}"]
            return
        with self._noting(f"stages.{stage.name}"):
            parsed = self.recipe.method(stage, slug).parse(choice.config or {})
            self.methods[stage.name], self.configs[stage.name] = slug, parsed.model_dump(mode="json")
            self._refuse_unsupplied(stage, self.configs[stage.name])

    def _refuse_unsupplied(self, stage: Stage, config: Mapping[str, Any]) -> None:
        """Note rewards that ask for a model which no earlier stage supplies: its run could not be made."""
        asked = {"reward_model": asks_for_reward_model(config), "judge_model": asks_for_judge_model(config)}
        for role in (role for role, is_asked in asked.items() if is_asked and role not in stage.uses):
            problem = f"must be 0: no stage of {self.recipe.title} supplies a {role.replace('_', ' ')} here"
            reward = "judge" if role == "judge_model" else role
            self.problems[f"stages.{stage.name}.config.rewards.{reward}"] = [problem]

    def _choose_dataset(self, name: str, ref: str) -> None:
        slot = next(slot for slot in self.recipe.datasets if slot.name == name)
        field = f"datasets.{name}"
        if not ref:
            raise Invalid("A dataset is missing.", fields={field: [f"must name a dataset: {slot.help}"]})
        stage = next(stage for stage in self.recipe.stages if stage.data == name)
        version = version_for_run(self._actor, ref, formats=slot.formats, title=stage.title, field=field)
        others = {other.dataset.team_id for other in self.versions.values()}
        if others - {version.dataset.team_id}:
            raise Invalid(
                "The datasets are of several teams.", fields={field: ["must be of the same team as the rest"]}
            )
        self.versions[name] = version

    def _choose_model(self, name: str, ref: str) -> None:
        model = model_resolve_for_run(self._actor, ref, team=self.team, field=f"models.{name}")
        if model.status == ModelStatus.FAILED:
            raise Conflict(f"{model.name} could not be prepared.", advice="Choose another model.")
        self.models[name] = model

    def _refuse_unknown(self, kind: str, given: Mapping[str, Any], known: list[str]) -> None:
        for name in given:
            if name not in known:
                problem = f"is none of {self.recipe.title}: there are {', '.join(known)}.{near(name, known)}"
                self.problems[f"{kind}.{name}"] = [problem]

    @contextmanager
    def _noting(self, field: str) -> Iterator[None]:
        """Keep what is wrong with a part, to tell of all parts at once: beside `field` where it names none itself."""
        try:
            yield
        except ConfigError as error:
            self.problems |= {f"{field}.{name}": problems for name, problems in error.fields.items()}
        except (Invalid, Conflict) as error:
            self.problems |= error.fields or {field: [f"{error.message} {error.advice}".strip()]}

    def _refuse_problems(self) -> None:
        if self.problems:
            named = "; ".join(f"{field} {problems[0]}" for field, problems in self.problems.items())
            raise Invalid(f"{self.recipe.title} cannot be started: {named}", fields=self.problems)


def as_choices(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, StageChoice]:
    """Choices as the API and forms give them."""
    return {name: StageChoice(**choice) for name, choice in stages.items()}
