"""Mixing datasets: what each gives is told while one chooses."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support import factories
from webapp.accounts.access import Actor
from webapp.accounts.models import User
from webapp.datasets.models import Dataset

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def rows(word: str, count: int) -> bytes:
    return b"".join(b'{"prompt": "%s %d?", "completion": " Yes."}\n' % (word.encode(), n) for n in range(count))


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_datasets_are_mixed_by_weight(visit: Callable[..., Page], member: User, width: int, theme: str) -> None:
    for name, count in (("sums", 40), ("towns", 10)):
        factories.make_version(Actor(member), name, rows(name, count))
    page = visit(f"/datasets/mix?dataset={Dataset.objects.get(name='sums').pk}", width=width, theme=theme)
    form = page.locator("#mix")
    form.get_by_label("One more dataset").select_option(label="towns: prompt-completion, 10 rows")
    expect(form.get_by_text("10 rows", exact=True)).to_have_count(2)
    form.get_by_label("Weight of dataset 1").fill("3")
    form.get_by_label("Weight of dataset 1").press("Tab")
    expect(form.get_by_text("30 rows", exact=True)).to_be_visible()
    form.get_by_label("Weight of dataset 1").fill("much")
    form.get_by_role("button", name="Mix them").click()
    expect(form.get_by_text("weights must be numbers above 0")).to_be_visible()
    expect(form.get_by_label("Weight of dataset 1")).to_have_value("much")
    form.get_by_label("Weight of dataset 1").fill("3")
    form.get_by_role("button", name="Mix them").click()
    expect(page.get_by_role("heading", name="Mixture of sums, towns")).to_be_visible()
    expect(page.get_by_text("being made")).to_be_visible()
