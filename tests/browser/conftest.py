"""A signed-in browser in front of the in-process server, which fails its test when a page reports an error."""

from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from playwright.sync_api import ConsoleMessage, Page

from tests.support import factories
from tests.support.served import session_of, wait_until_idle
from webapp.accounts.models import Role, Team, User

Visit = Callable[..., Page]
# A refused request is what some tests are about, and one that a newer one replaces is given up: each is logged.
EXPECTED = ("Failed to load resource", "Response Status Error Code", "htmx:sendAbort", "htmx:afterRequest")


@pytest.fixture
def team(transactional_db: None) -> Team:
    return factories.make_team("Red")


@pytest.fixture
def member(team: Team) -> User:
    return factories.make_user("max", team, Role.MEMBER)


@pytest.fixture
def visit(page: Page, server: str, member: User) -> Iterator[Visit]:
    """Opens an address as a member of `team`; in the end no script may have failed or been refused."""
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(EXPECTED):
            problems.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    key = session_of(member).session_key
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": str(key), "url": server}])

    def open_page(address: str, width: int = 1280, theme: str = "light") -> Page:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.goto(server + address)
        return page

    yield open_page
    found = list(problems)
    page.context.close()
    wait_until_idle()
    assert not found, found
