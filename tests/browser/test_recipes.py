"""A recipe in the browser: started by one button, followed live as its stages go on, started again from the second."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from polm_core.run_dir import Outcome
from tests.browser.test_frame import violations
from tests.support.checkpoints import make_base_model
from tests.support.pipelines import finish, make_pipeline, make_slots, run_of
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.live.notify import publish
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.recipes.models import Pipeline
from webapp.runs.models import Run, Status

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


@pytest.fixture
def actor(member: User) -> Actor:
    return Actor(member)


def _trains(run: Run, key: str, steps: int = 5) -> None:
    """What a worker stores while a run is at it."""
    Run.objects.filter(pk=run.pk).update(status=Status.RUNNING, step=steps, total_steps=10)
    MetricWriter(run.pk).append([MetricLine(n, 1_790_000_000.0 + n, {key: 1 / n}) for n in range(1, steps + 1)])
    publish(f"run:{run.pk}", "metrics", {"lines": steps})


def test_one_button_starts_it_and_the_stages_go_on_by_themselves(visit: Visit, actor: Actor, team: Team) -> None:
    make_base_model(team, "small")
    make_slots(actor)
    page = visit("/methods/")
    page.get_by_role("link", name="Start InstructGPT").click()
    page.get_by_label("Base model").select_option(label="small")
    button = page.get_by_role("button", name="Start InstructGPT")
    expect(button).to_be_enabled()
    assert violations(page) == []
    button.click()
    page.wait_for_url("**/runs/pipelines/*")
    pipeline = Pipeline.objects.get()
    stages = page.get_by_role("list", name="Stages").get_by_role("listitem").filter(has=page.locator("h2"))
    expect(stages.nth(0)).to_contain_text("Queued")
    expect(stages.nth(2)).to_contain_text("Begins when what it needs is there.")
    expect(page.locator("body")).to_have_attribute("data-live", "on")

    _trains(run_of(actor, pipeline, "sft"), "loss")
    expect(stages.nth(0)).to_contain_text("Step 5 of 10")
    expect(page.locator("[data-stage-chart=sft] .legend")).to_contain_text("loss")
    finish(run_of(actor, pipeline, "sft"))
    expect(stages.nth(0)).to_contain_text("Succeeded")
    expect(stages.nth(0).get_by_role("link", name="Checkpoint of Supervised fine-tuning")).to_be_visible()
    expect(stages.nth(1)).to_contain_text("Queued")
    _trains(run_of(actor, pipeline, "reward"), "accuracy")
    expect(page.locator("[data-stage-chart=reward] .legend")).to_contain_text("accuracy")
    assert violations(page) == []


def test_a_choice_that_is_made_while_the_page_still_loads_counts(visit: Visit, actor: Actor, team: Team) -> None:
    make_base_model(team, "small")
    make_slots(actor)
    page = visit("/methods/")
    held: list[Route] = []
    page.route("**/htmx.min*.js", lambda route: held.append(route), times=1)
    page.evaluate("() => { location.href = '/runs/recipes/instructgpt' }")
    page.get_by_label("Base model").select_option(label="small")
    button = page.get_by_role("button", name="Start InstructGPT")
    expect(button).to_be_disabled()
    held[0].continue_()
    expect(button).to_be_enabled()


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_it_is_started_again_from_a_stage_that_failed(visit: Visit, actor: Actor, width: int, theme: str) -> None:
    pipeline = make_pipeline(actor, name="ours")
    finish(run_of(actor, pipeline, "sft"))
    error = {"code": "out_of_memory", "message": "Out of memory.", "advice": "Lower batch_size.", "fields": {}}
    finish(run_of(actor, pipeline, "reward"), Outcome.FAILED, **error)
    page = visit(f"/runs/pipelines/{pipeline.pk}", width=width, theme=theme)
    expect(page.get_by_role("alert")).to_contain_text("Reward model: Out of memory. Lower batch_size.")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    link = page.get_by_role("link", name="Start again from Reward model")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/restart/reward")
    size = page.get_by_label("Batch size rows per device")
    size.fill("0")
    page.keyboard.press("Tab")
    expect(page.locator(".setting .errors")).to_contain_text("Must be at least 1")
    expect(page.get_by_role("button", name="Start again from here")).to_be_disabled()
    size.fill("2")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Start again from here")).to_be_enabled()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Start again from here").click()
    page.wait_for_url(f"**/runs/pipelines/{pipeline.pk}")
    expect(page.locator("[data-stage=reward]")).to_contain_text("Queued")
    again = run_of(actor, pipeline, "reward")
    assert again.config["batch_size"] == 2
    assert again.parent == run_of(actor, pipeline, "sft")


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_what_is_set_for_one_stage_is_that_stage_s_alone(
    visit: Visit, actor: Actor, team: Team, width: int, theme: str
) -> None:
    make_base_model(team, "small")
    make_slots(actor)
    page = visit("/runs/recipes/instructgpt", width=width, theme=theme)
    page.get_by_label("Base model").select_option(label="small")
    page.locator("summary", has_text="Reward model").click()
    page.locator('[name="stages.reward.config.max_steps"]').fill("6")
    page.keyboard.press("Tab")
    expect(page.locator('[data-reset="stages.reward.config.max_steps"]')).to_be_visible()
    expect(page.locator('[name="stages.sft.config.max_steps"]')).to_be_hidden()
    page.locator('[data-reset="stages.reward.config.max_steps"]').click()
    expect(page.locator('[data-reset="stages.reward.config.max_steps"]')).to_have_count(0)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
