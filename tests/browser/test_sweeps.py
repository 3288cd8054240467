"""A sweep in the browser: made from the choices of the Launch page, then followed live on its own."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.test_frame import violations
from tests.support import factories
from tests.support.checkpoints import make_base_model
from tests.support.sweeps import end, make_sweep, running
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.live.notify import publish
from webapp.sweeps.models import Sweep
from webapp.sweeps.services import sweep_advance

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


@pytest.fixture
def actor(member: User) -> Actor:
    return Actor(member)


def test_it_is_made_from_the_launch_page_and_followed_live(visit: Visit, actor: Actor, team: Team) -> None:
    make_base_model(team, "small")
    factories.make_version(actor, "rows")
    page = visit("/runs/new?method=sft")
    page.get_by_label("Start from").select_option(label="small")
    page.get_by_label("Dataset", exact=True).select_option(index=1)
    page.get_by_role("button", name="Sweep…").click()
    page.wait_for_url("**/sweeps/new")
    expect(page.get_by_label("Setting 1", exact=True)).to_have_value("learning_rate")
    page.get_by_label("Setting 2", exact=True).fill("batch_size")
    page.get_by_label("Values of setting 2", exact=True).fill("0, 4")
    page.keyboard.press("Tab")
    expect(page.locator(".vary-row .errors")).to_contain_text("Must be at least 1")
    expect(page.get_by_role("button", name="Start sweep")).to_be_disabled()
    page.get_by_label("Values of setting 2", exact=True).fill("2, 4")
    page.get_by_label("Trials", exact=True).fill("6")
    page.keyboard.press("Tab")
    expect(page.locator("#sweep-count")).to_have_text("6")
    expect(page.get_by_label("Setting 3", exact=True)).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Start sweep").click()
    page.wait_for_url("**/sweeps/*-*")
    expect(page.get_by_text("No trials yet")).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-live", "on")

    sweep = Sweep.objects.get()
    sweep_advance(sweep.pk)
    expect(page.locator("[data-trial='1']")).to_contain_text("Running")
    for loss in (3.0, 1.5, 2.0, 2.5):
        end(running(sweep)[0], loss)
    expect(page.get_by_text("4 of 6 trials have ended")).to_be_visible()
    expect(page.locator("[data-trial='2']")).to_contain_text("best")
    expect(page.locator(".parallel polyline")).to_have_count(4)
    expect(page.locator("#sweep-best .scatterlayer")).to_be_visible()
    assert violations(page) == []

    page.locator(".parallel .axis-grip").last.scroll_into_view_if_needed()
    axis = page.locator(".parallel .axis-grip").last.bounding_box()
    assert axis is not None
    page.mouse.move(axis["x"] + axis["width"] / 2, axis["y"] + axis["height"] - 1)
    page.mouse.down()
    page.mouse.move(axis["x"] + axis["width"] / 2, axis["y"] + axis["height"] * 0.8)
    page.mouse.up()
    expect(page.locator(".parallel polyline.faded")).to_have_count(3)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()


def test_it_can_be_stopped_while_its_page_is_read_anew(visit: Visit, actor: Actor) -> None:
    sweep = make_sweep(actor)
    page = visit(f"/sweeps/{sweep.pk}")
    expect(page.locator("body")).to_have_attribute("data-live", "on")
    held: list[Route] = []
    page.route(f"**/sweeps/{sweep.pk}", lambda route: held.append(route), times=1)
    publish(f"run:{running(sweep)[0].run_id}", "status", {})
    expect(page.locator("#sweep.htmx-request")).to_be_attached()
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_have_css("opacity", "1")
    stop.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    held[0].continue_()


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_its_pages_fit_any_screen(visit: Visit, actor: Actor, width: int, theme: str) -> None:
    space = {"learning_rate": {"min": 1e-5, "max": 1e-2, "log": True}, "lr_scheduler": ["linear", "cosine"]}
    sweep = make_sweep(actor, space=space, max_trials=12)
    for loss in (3.0, 1.5, 2.0, 2.5, 1.4, 1.9):
        end(running(sweep)[0], loss)
    for address in ("/sweeps/", f"/sweeps/{sweep.pk}", "/sweeps/new?method=sft"):
        page = visit(address, width=width, theme=theme)
        expect(page.locator("h1")).to_be_visible()
        if address.endswith(str(sweep.pk)):
            expect(page.locator("#sweep-best .scatterlayer")).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
