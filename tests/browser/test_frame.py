"""What every page shares: theme, search, questions, menus, tabs, the drawer, and that everyone can use it."""

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.support.browser import wait_until
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.runs.models import Run, Status

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]
GROUND = "getComputedStyle(document.body).backgroundColor"
LIVE = "document.body.dataset.live === 'on'"


@pytest.fixture
def run(team: Team) -> Run:
    return make_run(team, "zinc run")


def test_the_theme_follows_the_system_until_it_is_switched(visit: Visit) -> None:
    light = visit("/methods/", theme="light").evaluate(GROUND)
    page = visit("/methods/", theme="dark")
    dark = page.evaluate(GROUND)
    assert light != dark
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate(GROUND) == light
    page.reload()
    assert page.evaluate(GROUND) == light


@pytest.mark.parametrize("keys", ["/", "Control+k"])
def test_search_opens_by_key_and_goes_where_one_wants(visit: Visit, run: Run, keys: str) -> None:
    page = visit("/methods/")
    page.keyboard.press(keys)
    expect(page.get_by_role("option", name="Launch a run")).to_be_visible()
    page.keyboard.type("zinc")
    expect(page.get_by_role("option", name="zinc run")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{run.pk}")


def test_arrows_choose_among_results_and_tell_the_reader(visit: Visit, team: Team) -> None:
    for name in ("zinc a", "zinc b"):
        make_run(team, name)
    page = visit("/methods/")
    page.keyboard.press("/")
    page.keyboard.type("zinc")
    expect(page.get_by_role("option")).to_have_count(2)
    page.keyboard.press("ArrowDown")
    second = page.get_by_role("option").nth(1)
    expect(second).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("combobox", name="Search")).to_have_attribute(
        "aria-activedescendant", str(second.get_attribute("id"))
    )
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option").nth(0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).to_be_hidden()


def test_a_slash_typed_into_a_field_is_a_slash(visit: Visit, run: Run) -> None:
    page = visit("/runs/")
    field = page.get_by_role("combobox", name="Search runs")
    field.press("/")
    expect(field).to_have_value("/")
    expect(page.locator("#palette")).to_be_hidden()


def test_what_loses_something_asks_first(visit: Visit, team: Team) -> None:
    run = make_run(team, "zinc run", status=Status.RUNNING)
    page = visit(f"/runs/{run.pk}")
    stop = page.get_by_role("button", name="Stop")
    stop.click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("Stop zinc run?")
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_be_hidden()
    run.refresh_from_db()
    assert run.status == Status.RUNNING
    stop.click()
    question.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("main")).to_contain_text("Stopping")
    run.refresh_from_db()
    assert run.status == Status.STOPPING


def test_a_refusal_is_a_message_in_the_corner(visit: Visit, team: Team) -> None:
    run = make_run(team, "zinc run", status=Status.RUNNING)
    page = visit(f"/runs/{run.pk}")
    Run.objects.filter(pk=run.pk).update(status=Status.SUCCEEDED)
    page.get_by_role("button", name="Pause").click()
    message = page.get_by_role("region", name="Messages")
    expect(message).to_contain_text("The run is succeeded.")
    expect(page.get_by_role("heading", name="zinc run")).to_be_visible()
    message.get_by_role("button", name="Dismiss").click()
    expect(message).not_to_contain_text("The run is succeeded.")


def test_menus_close_on_escape_and_on_a_click_beside_them(visit: Visit) -> None:
    page = visit("/methods/")
    account = page.locator("summary", has_text="Account")
    item = page.get_by_role("link", name="Account and tokens")
    account.click()
    expect(item).to_be_visible()
    page.keyboard.press("Escape")
    expect(item).to_be_hidden()
    expect(account).to_be_focused()
    account.click()
    page.get_by_role("heading", name="Methods").click()
    expect(item).to_be_hidden()


def test_tabs_work_by_arrow_key_and_the_address_remembers_the_open_one(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}")
    page.get_by_role("tab", name="Charts").focus()
    page.keyboard.press("ArrowRight")
    samples = page.get_by_role("tab", name="Samples")
    expect(samples).to_be_focused()
    expect(samples).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Config").click()
    page.reload()
    expect(page.get_by_role("tabpanel", name="Config")).to_be_visible()
    expect(page.locator("#charts")).to_be_hidden()


def test_on_a_phone_the_tab_that_opens_comes_into_view(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}#lineage", width=390)
    last, first = page.get_by_role("tab", name="Lineage"), page.get_by_role("tab", name="Charts")
    expect(last).to_have_attribute("aria-selected", "true")
    expect(last).to_be_in_viewport(ratio=0.95)
    assert page.evaluate("scrollY") == 0
    last.press("ArrowRight")
    expect(first).to_be_focused()
    expect(first).to_be_in_viewport(ratio=0.95)


def test_on_a_phone_the_rail_is_a_drawer(visit: Visit) -> None:
    page = visit("/methods/", width=390)
    runs = page.get_by_role("link", name="Runs", exact=True)
    expect(runs).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    expect(runs).to_be_visible()
    page.keyboard.press("Escape")
    expect(runs).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    runs.click()
    page.wait_for_url("**/runs/")


def test_the_connection_s_state_is_shown(visit: Visit, server: str) -> None:
    page = visit("/methods/")
    wait_until(page, LIVE)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_of_the_frame_is_accessible_and_fits(visit: Visit, run: Run, width: int, theme: str) -> None:
    other = make_run(run.team, "other run", status=Status.RUNNING, step=5, total_steps=10)
    addresses = ["/", "/methods/", "/methods/dpo", "/compare/", f"/compare/?run={run.pk}&run={other.pk}", "/nowhere"]
    for address in addresses:
        page = visit(address, width=width, theme=theme)
        page.wait_for_load_state()
        assert violations(page) == [], address
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address


def test_the_palette_and_the_question_are_accessible(visit: Visit, team: Team) -> None:
    run = make_run(team, "zinc run", status=Status.RUNNING)
    page = visit(f"/runs/{run.pk}")
    page.keyboard.press("/")
    page.keyboard.type("zinc")
    expect(page.get_by_role("option", name=re.compile("zinc"))).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Stop").click()
    assert violations(page) == []


# Done once every animation that has an end is over.
SETTLED = """async () => {
  const ending = document.getAnimations().filter(({ effect }) => effect?.getComputedTiming().endTime !== Infinity);
  await Promise.allSettled(ending.map(({ finished }) => finished));
}"""


def violations(page: Page) -> list[str]:
    """What axe finds, once nothing fades or moves any more: half faded text has too little contrast."""
    page.evaluate(SETTLED)
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]
