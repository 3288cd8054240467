"""Making a dataset from a task: another task brings its levels and a row of its own."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from webapp.datasets.models import DatasetVersion

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_task_is_chosen_with_its_difficulty(visit: Callable[..., Page], width: int, theme: str) -> None:
    page = visit("/datasets/", width=width, theme=theme)
    page.get_by_role("link", name="Make from a task").click()
    difficulty = page.get_by_label("Difficulty")
    expect(difficulty).to_contain_text("1: terms 2, digits 1")
    page.get_by_label("Rows").fill("25")
    page.get_by_label("Task").focus()
    page.get_by_label("Task").select_option("countdown")
    expect(difficulty).to_contain_text("target 100 to 500")
    expect(page.get_by_label("Task")).to_be_focused()
    expect(page.get_by_role("heading", name="Countdown")).to_be_visible()
    expect(page.get_by_label("Rows")).to_have_value("25")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    difficulty.select_option("1")
    page.get_by_role("button", name="Make the rows").click()
    expect(page.get_by_text("countdown, level 1, 25 rows is being made")).to_be_visible()
    made = DatasetVersion.objects.get()
    assert (made.derivation["task"], made.derivation["level"], made.derivation["size"]) == ("countdown", 1, 25)
    assert violations(page) == []
