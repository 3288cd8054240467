"""Methods that learn from rewards: filling in the rewards, and reading the answers that were learned from."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support import factories
from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.registry.models import Checkpoint
from webapp.runs.models import Run, RunSample

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]

ANSWERS = b"".join(b'{"prompt": "%d + 1 =", "answer": "%d"}\n' % (n, n + 1) for n in range(8))


@pytest.fixture
def run(team: Team) -> Run:
    """A run that answered one held-out prompt, and learned from two answers to each of two prompts."""
    made = make_run(team, "learns", method="rloo")
    RunSample.objects.create(run=made, step=0, offset=0, prompt="held out?", completion="yes", data={})
    for offset, (reward, advantage) in enumerate(((0.25, -1.0), (0.75, 0.5), (1.0, 0.125), (0.5, -0.125)), 1):
        RunSample.objects.create(
            run=made,
            step=3,
            offset=offset,
            prompt=f"prompt {(offset - 1) // 2}?",
            completion=f"worth {reward}",
            is_rollout=True,
            data={
                "group": (offset - 1) // 2,
                "reference": "5",
                "rewards": {"math": reward, "length": 0.5},
                "reward": reward,
                "advantage": advantage,
            },
        )
    return made


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_answers_learned_from_are_read_by_prompt(visit: Visit, run: Run, width: int, theme: str) -> None:
    page = visit(f"/runs/{run.pk}#samples", width=width, theme=theme)
    panel = page.get_by_role("tabpanel", name="Samples")
    expect(panel).to_contain_text("held out?")
    panel.get_by_label("Show").select_option("answers it learned from")
    answers = panel.locator(".said .pre")
    expect(answers).to_have_text(["worth 1.0", "worth 0.5", "worth 0.75", "worth 0.25"])
    panel.get_by_label("Sort by").select_option("advantage")
    expect(answers).to_have_text(["worth 0.75", "worth 0.25", "worth 1.0", "worth 0.5"])
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    panel.get_by_label("Show").select_option("answers to held-out prompts")
    expect(panel).to_contain_text("held out?")


@pytest.mark.parametrize(("method", "width", "theme"), [("rloo", 1280, "dark"), ("grpo", 390, "light")])
def test_rewards_are_weighed_on_the_form(
    visit: Visit, team: Team, member: User, method: str, width: int, theme: str
) -> None:
    make_base_model(team, "small")
    scorer = make_checkpoint(team, "scores @ 20")
    Checkpoint.objects.filter(pk=scorer.pk).update(method="reward-model")
    rows = factories.make_version(Actor(member), "sums", ANSWERS)
    page = visit(f"/runs/new?method={method}&dataset={rows.dataset_id}", width=width, theme=theme)
    page.locator("summary", has_text="Rewards").click()
    pattern, weight = page.get_by_label("Regex pattern", exact=True), page.get_by_label("Regex weight", exact=True)
    expect(weight).to_be_visible()
    expect(pattern).to_be_hidden()
    weight.fill("0.5")
    page.keyboard.press("Tab")
    expect(pattern).to_be_visible()
    expect(page.locator(".setting .errors")).to_contain_text("while regex has a weight")
    pattern.fill("[0-9]+")
    page.keyboard.press("Tab")
    expect(page.locator(".setting .errors")).to_have_count(0)
    page.get_by_label("Reward model weight", exact=True).fill("1")
    page.keyboard.press("Tab")
    expect(page.locator("#launch-reason")).to_contain_text("Choose a")
    page.locator("#reward_model").select_option(label="scores @ 20")
    page.get_by_label("Start from").select_option(label="small")
    expect(page.get_by_role("button", name="Launch run")).to_be_enabled()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Launch run").click()
    page.wait_for_url("**/runs/*-*")
    made = Run.objects.get()
    assert made.reward_model is not None
    assert made.reward_model.checkpoint == scorer
    rewards = made.config["rewards"]
    assert (rewards["regex"], rewards["regex_pattern"], rewards["reward_model"]) == (0.5, "[0-9]+", 1)


PRINCIPLES = ["Be brief: one sentence.", "Say so where you do not know."]


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_principles_are_written_a_line_each(visit: Visit, team: Team, member: User, width: int, theme: str) -> None:
    make_base_model(team, "small")
    rows = factories.make_version(Actor(member), "sums", ANSWERS)
    page = visit(f"/runs/new?method=constitutional-ai&dataset={rows.dataset_id}", width=width, theme=theme)
    chosen = page.get_by_role("radio", name="Constitutional AI")
    expect(chosen).to_be_checked()
    if width > 1000:
        expect(chosen).to_be_in_viewport()
        assert page.evaluate("document.scrollingElement.scrollTop") == 0
    page.get_by_label("Start from").select_option(label="small")
    field = page.get_by_role("textbox", name="Principles")
    field.fill("x" * 2001)
    page.keyboard.press("Tab")
    expect(page.locator(".setting .errors")).to_contain_text("at most 2,000 characters each")
    expect(page.get_by_role("button", name="Launch run")).to_be_disabled()
    field.fill("\n\n".join(PRINCIPLES))
    page.keyboard.press("Tab")
    expect(page.locator(".setting .errors")).to_have_count(0)
    expect(page.get_by_role("button", name="Launch run")).to_be_enabled()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Launch run").click()
    page.wait_for_url("**/runs/*-*")
    assert Run.objects.get().config["principles"] == PRINCIPLES
