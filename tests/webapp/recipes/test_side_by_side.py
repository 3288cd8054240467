"""A recipe whose first stages need nothing of each other, and whose last offers two methods."""

from typing import Any

import pytest

from polm_core import cookbook
from polm_core.formats import Format
from polm_core.method import Paper
from polm_core.recipes.recipe import DatasetSlot, ModelSlot, Recipe, Stage
from polm_core.run_dir import Outcome
from tests.support import factories
from tests.support.checkpoints import make_base_model
from tests.support.pipelines import COMPARISONS, finish, run_of, stages_of
from webapp.accounts.access import Actor
from webapp.errors import Conflict, Invalid
from webapp.recipes.models import Pipeline
from webapp.recipes.selectors import pipeline_get
from webapp.recipes.services import pipeline_create, pipeline_restart, pipeline_stop
from webapp.runs.models import Run, Status

pytestmark = pytest.mark.django_db

RECIPE = Recipe(
    slug="two-at-once",
    title="Two at once",
    summary="",
    when="",
    paper=Paper("None", "0000.00000"),
    models=(ModelSlot("base", "Base", ""), ModelSlot("judge", "Judge", "")),
    datasets=(
        DatasetSlot("talks", "Talks", "", (Format.CONVERSATION,)),
        DatasetSlot("pairs", "Pairs", "", (Format.PREFERENCE,)),
    ),
    stages=(
        Stage("tuned", "Tuned", "", {"sft": {}}, data="talks", start="base"),
        Stage("scores", "Scores", "", {"reward-model": {}}, data="pairs", start="judge"),
        Stage(
            "last",
            "Last",
            "",
            {"rloo": {"rewards": {"math": 0.0, "reward_model": 1.0}}, "sft": {"epochs": 2.0}},
            data="talks",
            start="tuned",
            uses={"reward_model": "scores"},
        ),
    ),
)


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """One more row of the cookbook."""
    monkeypatch.setattr(cookbook, "RECIPES", (*cookbook.RECIPES, RECIPE))
    monkeypatch.setitem(cookbook._BY_SLUG, RECIPE.slug, RECIPE)
    return RECIPE


@pytest.fixture
def body(actor: Actor) -> dict[str, Any]:
    talks = factories.make_version(actor, "talks")
    pairs = factories.make_version(actor, "pairs", COMPARISONS)
    base, judge = make_base_model(actor.current_team), make_base_model(actor.current_team, "judge")
    return {
        "recipe": RECIPE.slug,
        "models": {"base": str(base.pk), "judge": str(judge.pk)},
        "datasets": {"talks": str(talks.dataset_id), "pairs": str(pairs.dataset_id)},
    }


@pytest.fixture
def pipeline(actor: Actor, body: dict[str, Any]) -> Pipeline:
    return pipeline_create(actor=actor, **body)


def _states(actor: Actor, pipeline: Pipeline) -> list[str]:
    return [stage.state for stage in stages_of(actor, pipeline).values()]


def test_stages_that_need_nothing_of_each_other_begin_together(actor: Actor, pipeline: Pipeline) -> None:
    assert _states(actor, pipeline) == ["queued", "queued", "waiting"]
    assert run_of(actor, pipeline, "scores").model.name == "judge"
    finish(run_of(actor, pipeline, "scores"))
    assert _states(actor, pipeline) == ["queued", "succeeded", "waiting"]
    finish(run_of(actor, pipeline, "tuned"))
    assert _states(actor, pipeline) == ["succeeded", "succeeded", "queued"]


def test_one_that_fails_lets_the_other_end_and_nothing_begin(actor: Actor, pipeline: Pipeline) -> None:
    finish(run_of(actor, pipeline, "tuned"), Outcome.FAILED, code="x", message="m", advice="a", fields={})
    assert _states(actor, pipeline) == ["failed", "queued", "waiting"]
    assert pipeline_get(actor, pipeline.pk).state == "failed"
    with pytest.raises(Conflict, match="Scores is queued"):
        pipeline_restart(actor=actor, pipeline=pipeline, stage="tuned")
    finish(run_of(actor, pipeline, "scores"))
    assert _states(actor, pipeline) == ["failed", "succeeded", "waiting"]
    scores = run_of(actor, pipeline, "scores")
    pipeline_restart(actor=actor, pipeline=pipeline, stage="tuned")
    assert run_of(actor, pipeline, "scores") == scores, "what does not build on it is kept"
    finish(run_of(actor, pipeline, "tuned"))
    assert _states(actor, pipeline) == ["succeeded", "succeeded", "queued"]


def test_stopping_stops_both_and_starting_again_begins_both(actor: Actor, pipeline: Pipeline) -> None:
    Run.objects.filter(pk=run_of(actor, pipeline, "tuned").pk).update(status=Status.RUNNING)
    pipeline_stop(actor=actor, pipeline=pipeline)
    assert _states(actor, pipeline) == ["stopping", "stopped", "waiting"]
    finish(run_of(actor, pipeline, "tuned"), Outcome.STOPPED)
    pipeline_restart(actor=actor, pipeline=pipeline, stage="scores")
    assert _states(actor, pipeline) == ["queued", "queued", "waiting"]


def test_a_stage_is_carried_out_by_the_method_that_is_chosen(actor: Actor, body: dict[str, Any]) -> None:
    chosen = {"last": {"method": "sft", "config": {"max_steps": 3}}}
    pipeline = pipeline_create(actor=actor, **body, stages=chosen)
    for name in ("tuned", "scores", "last"):
        finish(run_of(actor, pipeline, name))
    last = run_of(actor, pipeline, "last")
    assert (last.method, last.config["max_steps"], last.config["epochs"]) == ("sft", 3, 2.0)
    assert last.reward_model is None, "it takes none"
    pipeline_restart(actor=actor, pipeline=pipeline, stage="last", method="rloo", config={"max_steps": 5})
    again = run_of(actor, pipeline, "last")
    assert (again.method, again.config["max_steps"], again.config["rewards"]["reward_model"]) == ("rloo", 5, 1.0)
    assert again.reward_model is not None


def test_a_method_that_the_stage_does_not_offer_is_refused(actor: Actor, body: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        pipeline_create(actor=actor, **body, stages={"last": {"method": "dpo"}})
    assert caught.value.fields == {"stages.last.method": ["must be one of rloo, sft, not 'dpo'"]}


def test_a_pipeline_outlives_its_recipe(
    actor: Actor, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, pages: Any
) -> None:
    monkeypatch.setattr(cookbook, "RECIPES", ())
    for name in ("tuned", "scores", "last"):
        finish(run_of(actor, pipeline, name))
    assert pipeline_get(actor, pipeline.pk).state == "succeeded"
    assert pages.get(f"/runs/pipelines/{pipeline.pk}").status_code == 200
    assert pages.get(f"/runs/pipelines/{pipeline.pk}/restart/tuned").status_code == 200
    pipeline_restart(actor=actor, pipeline=pipeline, stage="last", config={"max_steps": 5})
    assert run_of(actor, pipeline, "last").config["max_steps"] == 5


def test_forms_offer_the_methods_of_a_stage(pages: Any, actor: Actor, body: dict[str, Any]) -> None:
    place = f"/runs/recipes/{RECIPE.slug}"
    assert 'name="stages.last.method"' in pages.get(place).content.decode()
    form = {f"{kind}.{slot}": pk for kind in ("models", "datasets") for slot, pk in body[kind].items()}
    changed = pages.post(place, {**form, "stages.last.method": "sft"}, headers={"HX-Request": "true"})
    assert changed.context["form"].stages[2].method.slug == "sft"
    assert pages.post(place, {**form, "stages.last.method": "sft", "launch": "yes"}).status_code == 302
    made = Pipeline.objects.get()
    assert made.stages.get(name="last").method == "sft"
