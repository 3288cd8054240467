"""The browser of the tests: a Chromium found on this machine."""

import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

# Tests use the ORM in the thread in which Playwright's event loop runs.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

# A busy machine may take seconds over the chart library alone; waiting for what does come costs nothing.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)

# The headless shell first: it takes two thirds of the time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def wait_until(page: Page, expression: str, arg: Any = None) -> None:
    """Wait until a JavaScript expression or function is true. (Playwright's own waiting evaluates a string in the page
    again and again, which the pages' Content Security Policy refuses.)"""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"waited in vain for {expression}"
        page.wait_for_timeout(50)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for a module's tests, which are skipped where there is none.

    Not for the session: while Playwright is there its event loop runs in this thread, and Django's test client refuses
    to work beside one.
    """
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser was found: none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """An empty page of a fresh profile."""
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def drag(grip: Locator, row: Locator) -> None:
    """The events of a drag to a row's upper half. (Playwright's `drag_to` takes a pointer event of the browser's own,
    which follows a change of layout, for its own, and then never drops.)"""
    box = row.bounding_box()
    assert box is not None
    transfer = row.page.evaluate_handle("new DataTransfer()")
    there = {"dataTransfer": transfer, "clientX": box["x"] + 40, "clientY": box["y"] + 4}
    for element, event in ((grip, "dragstart"), (row, "dragover"), (row, "drop"), (grip, "dragend")):
        element.dispatch_event(event, there)
