"""Measuring a model from its page: the form, the result, and the leaderboard."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support import factories
from tests.support.checkpoints import make_base_model
from tests.support.results import figure_of, make_results
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.evaluations.services import results_record
from webapp.registry.models import BaseModel, ModelSource
from webapp.runs.leases import Claim
from webapp.runs.models import Run, Status

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ANSWERS = b"".join(b'{"prompt": "%d + 1 =", "answer": "%d"}\n' % (n, n + 1) for n in range(20))


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_starter_is_measured_from_its_page(
    visit: Callable[..., Page], team: Team, member: User, width: int, theme: str
) -> None:
    starter = BaseModel.objects.create(name="SmolLM2", source=ModelSource.STARTER, parameters=1000, context_length=128)
    factories.make_version(Actor(member), "sums", ANSWERS)
    make_results(team, make_base_model(team, "weak"), figure_of([1.0, 0.0] * 10))
    page = visit(f"/models/{starter.pk}", width=width, theme=theme)
    expect(page.get_by_text("Not measured yet")).to_be_visible()
    page.get_by_role("link", name="Evaluate", exact=True).click()
    expect(page.get_by_role("radio", name="Accuracy")).to_be_checked()
    expect(page.get_by_label("Start from")).to_have_value("starter")
    expect(page.get_by_label("Held-out set")).to_have_count(0)
    dataset = page.get_by_label("Dataset", exact=True)
    dataset.select_option(value=dataset.locator("option", has_text="sums").get_attribute("value"))
    expect(page.get_by_role("button", name="Launch run")).to_be_enabled()
    page.get_by_role("button", name="Launch run").click()
    page.wait_for_url("**/runs/*-*")
    run = Run.objects.get(method="eval-accuracy", model=starter)

    # What a worker would have measured.
    Run.objects.filter(pk=run.pk).update(status=Status.RUNNING, lease_epoch=1)
    results_record(Claim(run.pk, 1), [figure_of([1.0, 1.0, 1.0, 0.0] * 5)])
    page.goto(page.url.split("/runs/")[0] + f"/models/{starter.pk}")
    results = page.locator("#results")
    expect(results).to_contain_text("accuracy")
    expect(results).to_contain_text("0.75")
    assert violations(page) == []

    page.locator("#results").get_by_role("link", name="Leaderboard").click()
    board = page.get_by_role("region", name="Leaderboard")
    expect(board).to_contain_text("SmolLM2")
    expect(board).to_contain_text("best")
    page.get_by_label("Baseline").select_option(label="against weak")
    expect(page.get_by_text("how much higher it is than that of weak")).to_be_visible()
    assert "baseline=" in page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
