"""A dataset's versions side by side, and the card that says what its rows are."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support import factories
from tests.webapp.datasets.files import jsonl
from webapp.accounts.access import Actor
from webapp.accounts.models import User
from webapp.datasets.services import dataset_remap
from workers.datasets import process
from workers.diffs import compare

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

BETTER = {
    "format": "prompt-completion",
    "columns": {"prompt": "prompt", "completion": "better"},
    "options": {"chat": False},  # as the first version is read: texts, not messages
}


def rows() -> bytes:
    """Answers, and better ones, which are others in every second row."""
    answers = ("It is %d.", "It is %d, as one can count.")
    return jsonl(
        [
            {"prompt": f"What is {n} + 1?", "completion": answers[0] % (n + 1), "better": answers[n % 2] % (n + 1)}
            for n in range(30)
        ]
    )


def is_fit(page: Page, width: int) -> None:
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_versions_are_compared_and_a_card_is_written(
    visit: Callable[..., Page], member: User, width: int, theme: str
) -> None:
    actor = Actor(member)
    dataset = factories.make_version(actor, "sums", rows()).dataset
    process(str(dataset_remap(actor=actor, dataset=dataset, mapping=BETTER).pk))

    page = visit(f"/datasets/{dataset.pk}", width=width, theme=theme)
    page.get_by_role("tab", name="Versions").click()
    page.get_by_label("From").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("for a worker")).to_be_visible()
    expect(page.get_by_role("row", name="Column for completion completion better")).to_be_visible()
    compare()
    expect(page.get_by_role("link", name="Changed 15")).to_be_visible(timeout=30_000)
    first = page.get_by_role("article", name="Row 2", exact=True)
    expect(first.locator("del")).to_have_text("2.")
    expect(first.locator("mark")).to_have_text("2, as one can count.")
    is_fit(page, width)
    page.get_by_role("link", name="Rows after").click()
    expect(page.get_by_text("11 to 15 of 15")).to_be_visible()
    page.get_by_role("link", name="Only in version 1").click()
    expect(page.get_by_text("No rows of this kind")).to_be_visible()
    is_fit(page, width)

    page.get_by_role("navigation").get_by_role("link", name="sums").click()
    page.get_by_role("tab", name="Card").click()
    page.get_by_role("link", name="Write the card").click()
    page.get_by_label("Text").fill("Sums that are *right*.")
    expect(page.locator("#preview em")).to_have_text("right")
    page.get_by_role("button", name="Fill from what is known").click()
    expect(page.locator("#preview").get_by_role("heading", name="Licence")).to_be_visible()
    is_fit(page, width)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("article").get_by_role("heading", name="Where it is from")).to_be_visible()
    expect(page.get_by_role("article").locator("em")).to_have_text("right")
    is_fit(page, width)
