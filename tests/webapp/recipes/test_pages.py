"""The pages of recipes and pipelines: one click where the slots can be filled, refusals beside their fields."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from polm_core.data.samples import write_samples
from polm_core.run_dir import Outcome
from tests.support import factories
from tests.support.checkpoints import make_base_model
from tests.support.pipelines import COMPARISONS, finish, make_pipeline, make_slots, run_of
from webapp.accounts.access import Actor
from webapp.accounts.models import User
from webapp.recipes.models import Pipeline
from webapp.recipes.services import pipeline_restart, pipeline_stop
from webapp.registry.models import BaseModel, ModelSource
from webapp.runs.models import Run, Status
from webapp.runs.services import run_delete

pytestmark = pytest.mark.django_db

ANSWERS = b"".join(b'{"prompt": "%d + 1 =", "answer": "%d"}\n' % (n, n + 1) for n in range(8))
PLACE = "/runs/recipes/instructgpt"


def _queries(client: Client, path: str) -> int:
    client.get(path)  # a first visit notes when somebody was last here
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path).status_code == 200
    return len(queries)


def test_where_there_is_something_for_every_slot_one_click_will_do(pages: Client, actor: Actor) -> None:
    BaseModel.objects.create(name="starter", source=ModelSource.STARTER)
    factories.make_version(actor, "dialogues")
    pairs = factories.make_version(actor, "pairs", COMPARISONS)
    answers = factories.make_version(actor, "answers", ANSWERS)
    answer = pages.get(PLACE)
    fields = {field.slot.name: field for field in answer.context["form"].datasets}
    assert {name: field.chosen.dataset.name for name, field in fields.items()} == {
        "demonstrations": "dialogues",
        "comparisons": "pairs",
        "prompts": "answers",
    }
    # Only what fits is offered.
    assert [choice.version for choice in fields["comparisons"].choices] == [pairs]
    assert fields["comparisons"].unfit == 2
    assert answers in [choice.version for choice in fields["demonstrations"].choices]
    assert answer.context["form"].missing == ""
    untouched = {f"datasets.{name}": field.chosen.dataset.pk for name, field in fields.items()}
    assert pages.post(PLACE, {**untouched, "models.base": "starter", "launch": "yes"}).status_code == 302
    assert run_of(actor, Pipeline.objects.get(), "sft").model.source == ModelSource.STARTER


@pytest.mark.parametrize(
    ("recipe", "chosen"),
    [
        ("deepseek-r1", {"cold_start": "thoughts", "problems": "prompt-answer", "general": "conversation"}),
        ("o1", {"steps": "steps", "problems": "prompt-answer"}),
    ],
)
def test_the_samples_serve_a_recipe_as_they_are(
    pages: Client, actor: Actor, tmp_path: Path, recipe: str, chosen: dict[str, str]
) -> None:
    BaseModel.objects.create(name="starter", source=ModelSource.STARTER)
    for path in write_samples(tmp_path).values():
        if path.suffix == ".jsonl":
            factories.make_version(actor, path.stem.removeprefix("sample-"), path.read_bytes())
    form = pages.get(f"/runs/recipes/{recipe}").context["form"]
    assert form.missing == ""
    assert {field.slot.name: field.chosen.dataset.name for field in form.datasets} == chosen
    untouched = {f"datasets.{field.slot.name}": field.chosen.dataset.pk for field in form.datasets}
    untouched |= {field.name: "starter" for field in form.models}
    assert pages.post(f"/runs/recipes/{recipe}", {**untouched, "launch": "yes"}).status_code == 302
    page = pages.get(f"/runs/pipelines/{Pipeline.objects.get().pk}").content.decode()
    used = {"deepseek-r1": "taught by final reinforcement learning", "o1": "scored by process reward model"}
    assert used[recipe] in page


def test_what_was_chosen_is_what_is_started(pages: Client, actor: Actor) -> None:
    base = make_base_model(actor.current_team)
    slots = make_slots(actor)
    form = {f"datasets.{slot}": pk for slot, pk in slots.items()} | {"models.base": str(base.pk)}
    answer = pages.post(PLACE, {**form, "launch": "yes", "stages.reward.config.max_steps": "7", "name": "ours"})
    made = Pipeline.objects.get()
    assert answer.url == reverse("pipeline", args=[made.pk])  # type: ignore[attr-defined]
    assert made.name == "ours"
    assert made.stages.get(name="reward").config["max_steps"] == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"datasets.comparisons": ""}, "Choose a dataset: comparisons."),
        ({"models.base": ""}, "Choose a model: base model."),
        ({"stages.policy.config.beta": "many"}, "must be a number"),
        ({"stages.policy.config.num_generations": "3"}, "must divide"),
        ({"priority": "lots"}, "must be a whole number from -10 to 10"),
        ({"name": "n" * 151}, "at most 150"),
    ],
)
def test_what_is_wrong_is_told_beside_its_field_and_nothing_is_lost(
    pages: Client, actor: Actor, change: dict[str, str], said: str
) -> None:
    base = make_base_model(actor.current_team)
    form = {f"datasets.{slot}": pk for slot, pk in make_slots(actor).items()} | {"models.base": str(base.pk)}
    answer = pages.post(PLACE, {"name": "kept", **form, "launch": "yes", **change})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert said.lower() in text.lower()
    assert change.get("name", "kept") in text
    assert not Pipeline.objects.exists()


def test_a_dataset_of_the_wrong_format_that_was_sent_all_the_same_is_not_taken(pages: Client, actor: Actor) -> None:
    base = make_base_model(actor.current_team)
    slots = make_slots(actor)
    form = {f"datasets.{slot}": pk for slot, pk in slots.items()} | {"models.base": str(base.pk)}
    answer = pages.post(PLACE, {**form, "datasets.comparisons": slots["prompts"], "launch": "yes"})
    assert answer.status_code == 422
    assert "Choose a dataset: comparisons." in answer.content.decode()


def test_an_empty_studio_says_what_to_upload(pages: Client) -> None:
    text = pages.get(PLACE).content.decode()
    assert "of preference rows: none of yours fits" in text
    assert "No pipelines yet" in pages.get("/runs/recipes/").content.decode()
    assert pages.get("/runs/recipes/dall-e").status_code == 404


def test_recipes_are_reached_from_launch_and_methods(pages: Client, signed_in: Any, viewer: User, team: Any) -> None:
    assert PLACE in pages.get("/runs/new").content.decode()
    assert PLACE in pages.get("/methods/").content.decode()
    assert PLACE not in signed_in(viewer).get("/methods/").content.decode()


def test_a_pipeline_shows_each_stage_with_its_run_and_what_it_left(pages: Client, actor: Actor) -> None:
    pipeline = make_pipeline(actor)
    sft = run_of(actor, pipeline, "sft")
    finish(sft)
    error = {"code": "out_of_memory", "message": "Out of memory.", "advice": "Lower batch_size.", "fields": {}}
    finish(run_of(actor, pipeline, "reward"), Outcome.FAILED, **error)
    text = pages.get(f"/runs/pipelines/{pipeline.pk}").content.decode()
    assert reverse("run", args=[sft.pk]) in text
    assert reverse("checkpoint", args=[sft.run_checkpoints.get().checkpoint_id]) in text
    assert "Reward model: Out of memory." in text
    assert "Lower batch_size." in text
    assert "from supervised fine-tuning, scored by reward model" in text
    restart = [reverse("pipeline-restart", args=[pipeline.pk, name]) for name in ("sft", "reward", "policy")]
    assert [place in text for place in restart] == [True, True, False]


def test_a_stage_is_started_again_with_other_settings(pages: Client, actor: Actor) -> None:
    pipeline = make_pipeline(actor)
    place = f"/runs/pipelines/{pipeline.pk}/restart/sft"
    assert "Stop the pipeline first." in pages.post(place, {"launch": "yes"}).content.decode()
    pipeline_stop(actor=actor, pipeline=pipeline)
    pipeline_restart(actor=actor, pipeline=pipeline, stage="sft", config={"max_steps": 9, "learning_rate": 0.5})
    pipeline_stop(actor=actor, pipeline=pipeline)
    shown = pages.get(place)
    assert [one.title for one in shown.context["anew"]] == [
        "Supervised fine-tuning",
        "Reward model",
        "Reinforcement learning",
    ]
    assert 'value="9"' in shown.content.decode()
    wrong = pages.post(place, {"launch": "yes", "config.max_steps": "-1"})
    assert (wrong.status_code, "Must be at least 0" in wrong.content.decode()) == (422, True)
    # What was set before and is emptied goes back to the default.
    assert pages.post(place, {"launch": "yes", "config.max_steps": "4"}).status_code == 302
    config = run_of(actor, pipeline, "sft").config
    assert (config["max_steps"], config["learning_rate"]) == (4, 2e-5)
    assert pages.get(f"/runs/pipelines/{pipeline.pk}/restart/ppo").status_code == 404


def test_runs_name_the_pipeline_they_belong_to(pages: Client, actor: Actor) -> None:
    pipeline = make_pipeline(actor, name="ours")
    finish(run_of(actor, pipeline, "sft"))
    reward = run_of(actor, pipeline, "reward")
    place = reverse("pipeline", args=[pipeline.pk])
    assert pages.get("/runs/").content.decode().count(place) == 2
    page = pages.get(f"/runs/{reward.pk}").content.decode()
    assert place in page
    assert "Clone of" not in page
    assert "the method's defaults" in page
    first = pages.get(f"/runs/{run_of(actor, pipeline, 'sft').pk}").content.decode()
    assert reverse("run", args=[reward.pk]) in first, "it is what the first led to"


def test_pages_cost_the_same_however_much_they_show(pages: Client, actor: Actor) -> None:
    first = make_pipeline(actor)
    datasets = {
        stage.dataset_version.dataset.name: str(stage.dataset_version.dataset_id) for stage in first.stages.all()
    }
    Run.objects.update(status=Status.RUNNING)
    lists = _queries(pages, "/runs/recipes/"), _queries(pages, "/runs/")
    detail = _queries(pages, f"/runs/pipelines/{first.pk}")
    for name in ("sft", "reward"):
        finish(run_of(actor, first, name))
    make_pipeline(actor, datasets=datasets)
    make_pipeline(actor, datasets=datasets)
    Run.objects.filter(status=Status.QUEUED).update(status=Status.RUNNING)
    assert (_queries(pages, "/runs/recipes/"), _queries(pages, "/runs/")) == lists
    assert _queries(pages, f"/runs/pipelines/{first.pk}") == detail


def test_the_list_of_pipelines_is_read_in_parts(pages: Client, actor: Actor) -> None:
    datasets = make_slots(actor)
    made = [make_pipeline(actor, datasets=datasets, name=f"number {n}") for n in range(26)]
    newest = pages.get("/runs/recipes/")
    assert made[-1].name in newest.content.decode()
    assert f">{made[0].name}<" not in newest.content.decode()
    older = pages.get("/runs/recipes/", {"cursor": newest.context["next_cursor"]}).content.decode()
    assert f">{made[0].name}<" in older


def test_stopping_and_deleting(pages: Client, actor: Actor) -> None:
    pipeline = make_pipeline(actor)
    place = f"/runs/pipelines/{pipeline.pk}"
    assert pages.post(f"{place}/delete").status_code == 409
    assert pages.post(f"{place}/stop").status_code == 302
    assert "The runs stay" in pages.get(place).content.decode()
    assert pages.post(f"{place}/delete").url == "/runs/recipes/"  # type: ignore[attr-defined]
    assert (Pipeline.objects.count(), Run.objects.count()) == (0, 1)


def test_a_stage_whose_run_was_deleted_can_be_started_again(pages: Client, actor: Actor) -> None:
    pipeline = make_pipeline(actor)
    run_delete(actor=actor, run=run_of(actor, pipeline, "sft"))
    text = pages.get(f"/runs/pipelines/{pipeline.pk}").content.decode()
    assert "Start again from here to go on." in text
    pipeline_restart(actor=actor, pipeline=pipeline, stage="sft")
    assert run_of(actor, pipeline, "sft").status == Status.QUEUED
