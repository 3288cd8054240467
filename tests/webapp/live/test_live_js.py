"""static/js/live.js in a real browser: one stream for the page, sent on as events of its body."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Page, Request

from tests.support.browser import wait_until
from tests.support.runs import make_run
from tests.support.served import session_of
from webapp.accounts.models import Team, User
from webapp.live.notify import publish
from webapp.runs.models import Run

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAGE = """<!doctype html>
<body data-topics="{topics}"><p id="fragment"></p>
<script type="module" src="/static/js/live.js"></script>
<script>
  window.heard = [];
  for (const kind of ["status", "metrics", "log", "sample", "checkpoint", "progress", "token", "resync"])
    document.body.addEventListener("live:" + kind, (event) => heard.push([kind, event.detail]));
</script>
"""
OPEN = "document.body.dataset.live === 'on'"


@pytest.fixture
def visit(page: Page, server: str, member: User) -> Callable[[str], Page]:
    """Opens a page of a signed-in person that listens to the given topics."""
    key = session_of(member).session_key
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": str(key), "url": server}])

    def open_page(topics: str) -> Page:
        page.route(
            f"{server}/page", lambda route: route.fulfill(body=PAGE.format(topics=topics), content_type="text/html")
        )
        page.goto(f"{server}/page")
        return page

    return open_page


def heard(page: Page, count: int) -> list[Any]:
    """What the body has heard, once that is at least `count` events."""
    wait_until(page, "count => window.heard.length >= count", arg=count)
    return list(page.evaluate("window.heard"))


def test_events_arrive_at_the_body(visit: Callable[[str], Page], run: Run, team: Team) -> None:
    page = visit(f"run:{run.pk} team:{team.pk}")
    wait_until(page, OPEN)
    publish(f"run:{run.pk}", "metrics", {"lines": 3, "step": 2})
    publish(f"team:{team.pk}", "status", {"run": "x"})
    assert heard(page, 2) == [
        ["metrics", {"lines": 3, "step": 2, "topic": f"run:{run.pk}"}],
        ["status", {"run": "x", "topic": f"team:{team.pk}"}],
    ]


def test_a_fragment_can_bring_a_topic(visit: Callable[[str], Page], run: Run, team: Team) -> None:
    page = visit(f"run:{run.pk}")
    wait_until(page, OPEN)
    other = make_run(team, "other")
    with page.expect_request(lambda request: str(other.pk) in request.url):
        page.evaluate(
            "topic => { fragment.dataset.topics = topic; document.dispatchEvent(new Event('htmx:afterSettle')); }",
            f"run:{other.pk}",
        )
    wait_until(page, "window.heard.some(([kind]) => kind === 'resync')")
    publish(f"run:{other.pk}", "log", {"to": 9})
    wait_until(page, "window.heard.some(([kind, data]) => kind === 'log' && data.to === 9)")


def test_a_lost_stream_shows_and_what_was_missed_is_read_again(
    visit: Callable[[str], Page], run: Run, page: Page
) -> None:
    visit(f"run:{run.pk}")
    wait_until(page, OPEN)
    page.evaluate("window.heard.length = 0")
    # The browser gives up on an answer that is an error; the page must not.
    page.route("**/events?*", lambda route: route.fulfill(status=503, body="starting"))
    page.evaluate("fragment.dataset.topics = 'team:none'; document.dispatchEvent(new Event('htmx:afterSettle'))")
    wait_until(page, "document.body.dataset.live === 'off'")
    page.unroute("**/events?*")
    page.evaluate("delete fragment.dataset.topics")
    wait_until(page, OPEN)
    events = heard(page, 7)
    assert events[0] == ["resync", {"topics": [f"run:{run.pk}"]}]
    assert {kind for kind, _ in events[1:]} == {"status", "metrics", "log", "sample", "checkpoint", "progress"}
    assert all(data == {"topic": f"run:{run.pk}", "resync": True} for _, data in events[1:])


def test_a_page_without_topics_opens_no_stream(visit: Callable[[str], Page], page: Page) -> None:
    streams: list[Request] = []
    page.on("request", lambda request: streams.append(request) if "/events" in request.url else None)
    visit("")
    page.wait_for_load_state("networkidle")
    assert streams == []
