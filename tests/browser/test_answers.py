"""From a run's answers to a dataset, and from one dataset to another, the way people do it."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.datasets.models import DatasetVersion
from webapp.runs.models import Run, RunSample
from workers.datasets import process

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


@pytest.fixture
def run(team: Team) -> Run:
    """A run that answered a held-out prompt at two steps, and learned from two answers to a prompt at two steps."""
    made = make_run(team, "learns", method="rloo", status="succeeded")
    for step, text in ((0, "I have no idea, sorry."), (4, "I have an idea: <i>seven</i>.")):
        RunSample.objects.create(run=made, step=step, offset=step, prompt="What is 3 + 4?", completion=text)
    answers = ((1, "It is five.", 0.1), (1, "It is six.", 0.4), (4, "It is seven, I think.", 0.9), (4, "Six.", 0.2))
    for offset, (step, text, reward) in enumerate(answers, 10):
        RunSample.objects.create(
            run=made,
            step=step,
            offset=offset,
            prompt="What is 2 + 5?",
            completion=text,
            is_rollout=True,
            data={"group": 0, "place": offset % 2, "reward": reward, "advantage": reward - 0.5},
        )
    return made


def check(page: Page, width: int) -> None:
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_two_steps_are_compared_word_by_word(visit: Visit, run: Run, width: int, theme: str) -> None:
    page = visit(f"/runs/{run.pk}#samples", width=width, theme=theme)
    panel = page.get_by_role("tabpanel", name="Samples")
    panel.get_by_role("button", name="Compare").first.click()
    expect(panel.locator(".said del")).to_have_text("no idea, sorry.")
    expect(panel.locator(".said mark")).to_have_text("an idea: <i>seven</i>.")
    check(page, width)
    panel.get_by_role("button", name="All prompts").click()
    panel.get_by_label("Show").select_option("answers it learned from")
    panel.locator("#samples-step").select_option("every step")
    expect(panel.locator(".said > .pre")).to_have_text(["It is seven, I think.", "Six.", "It is six.", "It is five."])
    check(page, width)
    panel.get_by_role("button", name="Compare").first.click()
    expect(panel.locator(".said mark")).to_have_text("seven, I think.")
    panel.locator("#compare-a").select_option("step 1, answer 2, reward 0.4")
    expect(panel.locator(".said del")).to_have_text("six.")
    panel.locator("#compare-b").select_option("step 1, answer 2, reward 0.4")
    expect(panel).to_contain_text("Both say the same.")
    check(page, width)


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_ticked_answers_become_pairs_and_those_ratings(visit: Visit, run: Run, width: int, theme: str) -> None:
    page = visit(f"/runs/{run.pk}#samples", width=width, theme=theme)
    panel = page.get_by_role("tabpanel", name="Samples")
    panel.get_by_label("Show").select_option("answers it learned from")
    panel.locator("#samples-step").select_option("every step")
    expect(panel.locator(".said > .pre")).to_have_count(4)
    for text in ("It is seven, I think.", "It is five."):
        panel.get_by_role("checkbox", name=re.compile(re.escape(text))).check()
    panel.get_by_role("button", name="Add to a dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Answers as a dataset")
    expect(page.locator("main")).to_contain_text("2 answers to 1 prompt are chosen.")
    check(page, width)
    page.get_by_label("As", exact=True).select_option("Preference")
    page.get_by_label("Margin of at least").fill("3")
    page.get_by_role("button", name="Make the rows").click()
    expect(page.get_by_role("alert")).to_contain_text("at least 3 apart")
    page.get_by_label("Margin of at least").fill("0.5")
    page.get_by_label("Name").fill("seven or five")
    page.get_by_role("button", name="Make the rows").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("seven or five")
    process(str(DatasetVersion.objects.get(dataset__name="seven or five").pk))
    expect(page.locator("#rows-page")).to_contain_text("It is five.")
    expect(page.get_by_role("link", name="learns")).to_be_visible()
    check(page, width)
    page.get_by_role("tab", name="Make others").click()
    check(page, width)
    page.get_by_role("button", name="Convert to rating").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("seven or five as rating")
    process(str(DatasetVersion.objects.get(dataset__name="seven or five as rating").pk))
    expect(page.locator("#rows-page .data-row")).to_have_count(2)
    expect(page.get_by_role("link", name="seven or five", exact=True)).to_be_visible()
    check(page, width)
