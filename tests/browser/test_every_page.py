"""Every page as its reader meets it: no fault that axe finds, nothing wider than the screen, no script that fails."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from playwright.sync_api import Page

from tests.browser.test_frame import violations
from tests.support.routes import pages
from tests.support.served import session_of, wait_until_idle
from tests.support.world import World, make_world
from tests.webapp.test_access_matrix import page_value

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]


@pytest.fixture
def world(transactional_db: None) -> Iterator[World]:
    yield make_world()
    wait_until_idle()


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_no_page_has_a_fault(page: Page, server: str, world: World, width: int, theme: str) -> None:
    key = str(session_of(world.people["admin"]).session_key)
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": server}])
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    faults, looked_at = {}, 0
    for view in pages():
        path = view.path({name: str(page_value(world, view, name)) for name in view.parameters})
        answer = page.request.get(server + path, max_redirects=0)
        # The rest are files, parts of pages, and addresses that only take something.
        if answer.status != 200 or not answer.text().lstrip().lower().startswith("<!doctype html"):
            continue
        page.goto(server + path)
        looked_at += 1
        found = violations(page)
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{wide} px wide")
        if found or failed:
            faults[path] = [*found, *failed]
            failed.clear()
    page.context.close()
    assert looked_at > 30
    assert faults == {}
