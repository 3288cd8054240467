"""The reward workbench: filling in what to try, reading what came out, pinning it, launching with it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support import factories
from tests.support.checkpoints import make_base_model
from tests.webapp.workbench.conftest import SUMS, done
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.runs.models import Run
from webapp.workbench.models import RewardTrial

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_rewards_are_tried_read_and_pinned_for_a_run(
    visit: Visit, team: Team, member: User, width: int, theme: str
) -> None:
    make_base_model(team, "small")
    rows = factories.make_version(Actor(member), "sums", SUMS)
    page = visit(f"/datasets/{rows.dataset_id}", width=width, theme=theme)
    page.get_by_role("link", name="Try rewards").click()
    rubric = page.get_by_label("Judge rubric", exact=True)
    expect(rubric).to_be_hidden()
    page.get_by_label("Length weight", exact=True).fill("0.5")
    page.get_by_label("Judge weight", exact=True).fill("1")
    page.keyboard.press("Tab")
    expect(rubric).to_be_visible()
    page.get_by_label("Judge model", exact=True).select_option(label="small")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Try these rewards").click()
    page.wait_for_url("**/workbench/*-*")
    expect(page.get_by_role("region", name="State")).to_contain_text("for a worker")
    trial = RewardTrial.objects.get()
    assert trial.names == ["math", "length", "judge"]
    done(trial, 25)

    # The page learns of the end by itself.
    expect(page.get_by_role("region", name="Each reward", exact=True)).to_contain_text("weighted sum", timeout=15_000)
    expect(page.locator("[data-histogram][data-drawn] .bars")).to_have_count(3)
    expect(page.get_by_label("What to know")).to_contain_text("length gives every answer 1")
    page.get_by_label("First").select_option("highest")
    expect(page.locator("#trial-rows .said .pre").first).to_have_text("answer 24")
    page.get_by_role("link", name="Next").click()
    expect(page.locator("#trial-rows article")).to_have_count(5)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("Name", exact=True).fill("sums")
    page.get_by_role("button", name="Pin").click()
    expect(page.get_by_text("sums v1 is pinned")).to_be_visible()
    page.get_by_role("link", name="Reward workbench").click()
    expect(page.get_by_role("region", name="Pinned rewards")).to_contain_text("sums v1")
    assert violations(page) == []

    page.goto(page.url.split("/workbench")[0] + f"/runs/new?method=rloo&dataset={rows.dataset_id}")
    page.get_by_label("Start from").select_option(label="small")
    page.locator("#reward_list").select_option(label="sums v1 · Experiments")
    expect(page.locator("#judge_model")).to_have_value(str(trial.judge_model_id))
    page.get_by_role("button", name="Launch run").click()
    page.wait_for_url("**/runs/*-*")
    expect(page.get_by_role("region", name="State")).to_contain_text("sums v1")
    run = Run.objects.get()
    assert (run.config["rewards"], run.judge_model) == (trial.rewards, trial.judge_model)
