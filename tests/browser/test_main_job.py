"""The main job as a person does it: from signing in to a share link that no longer opens."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.lookalikes import alpaca
from tests.support.studio import RunningStudio

pytestmark = [pytest.mark.live, pytest.mark.browser]

SECONDS = 1000  # of Playwright's milliseconds


@pytest.fixture
def visitor(page: Page, studio: RunningStudio) -> Page:
    """The first admin, signed in by the link that `make run` prints."""
    link = studio.manage("sign_in_link", "admin").strip().split()[-1]
    page.set_default_timeout(30 * SECONDS)
    page.goto(f"{studio.url}{link[link.index('/welcome/') :]}")
    page.get_by_role("main").get_by_role("button").click()
    page.wait_for_load_state()
    return page


@pytest.mark.timeout(600)
def test_from_a_file_to_a_shared_checkpoint(
    visitor: Page, chromium: Browser, studio: RunningStudio, tiny: str, tmp_path: Path
) -> None:
    page = visitor
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    upload_and_map(page, studio, tmp_path)
    first = launch(page, studio, steps=400)
    curve_grows(page)
    stop(page)
    second = launch(page, studio, steps=20)
    expect(page.locator("#run-head")).to_contain_text("Succeeded", timeout=120 * SECONDS)

    page.goto(f"{studio.url}/compare/?run={first}&run={second}")
    expect(page.locator(".js-plotly-plot .scatterlayer .trace").nth(1)).to_be_attached(timeout=30 * SECONDS)
    expect(page.get_by_role("main")).to_contain_text("max_steps")

    link = share(page, studio, second)
    stranger = chromium.new_context().new_page()
    assert stranger.goto(link).status == 200  # type: ignore[union-attr]
    with stranger.expect_download() as download:
        stranger.get_by_role("link", name=re.compile("Download")).click()
    assert download.value.suggested_filename.endswith(".zip")
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("main")).to_contain_text("Only your team can read it")
    assert stranger.goto(link).status == 404  # type: ignore[union-attr]
    stranger.context.close()
    assert problems == []


def upload_and_map(page: Page, studio: RunningStudio, folder: Path) -> None:
    file = folder / "browser rows.json"
    file.write_bytes(alpaca(150, seed=11))
    page.goto(f"{studio.url}/datasets/")
    page.set_input_files("#upload-files", file)
    page.get_by_role("link", name=re.compile("browser rows", re.IGNORECASE)).first.click()
    expect(page.get_by_role("main")).to_contain_text("Ready", timeout=60 * SECONDS)
    page.get_by_role("tab", name=re.compile("Mapping")).click()
    expect(page.locator("#mapping-preview")).to_contain_text("rows fit")
    page.get_by_role("button", name="Use this mapping").click()
    expect(page.get_by_role("main")).to_contain_text(re.compile("version 2", re.IGNORECASE), timeout=60 * SECONDS)


def launch(page: Page, studio: RunningStudio, *, steps: int) -> str:
    """Launch a run of the tiny model through the form; returns its id."""
    page.goto(f"{studio.url}/runs/new")
    page.get_by_role("radio", name=re.compile("Supervised fine-tuning")).check()
    page.get_by_label("Start from").select_option(label="tiny")
    dataset = page.get_by_label("Dataset", exact=True)
    value = dataset.locator("option", has_text="browser rows").get_attribute("value")
    dataset.select_option(value=value)
    expect(page.locator("#preflight")).to_contain_text("Rows used", timeout=60 * SECONDS)
    page.locator("[name='config.max_steps']").fill(str(steps))
    page.locator("[name='config.batch_size']").fill("2")
    page.get_by_role("button", name="Launch run").click()
    page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{36}"))
    return page.url.rstrip("/").split("/")[-1].split("#")[0]


def curve_grows(page: Page) -> None:
    """The loss curve gains points while the page stays as it is."""
    page.evaluate("window.stayed = true")
    seen = points_beyond(page, 2, 120)
    points_beyond(page, seen + 4, 60)
    assert page.evaluate("window.stayed") is True


def points_beyond(page: Page, count: int, seconds: int) -> int:
    """Wait until the first chart's first curve has more than `count` points, and say how many."""
    drawn = "() => document.querySelector('#charts .js-plotly-plot')?.data?.[0]?.x?.length ?? 0"
    for _ in range(seconds * 4):
        found: int = page.evaluate(drawn)
        if found > count:
            return found
        page.wait_for_timeout(250)
    raise AssertionError(f"the curve has {found} points after {seconds} s")


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.locator("#run-head")).to_contain_text("Stopped", timeout=60 * SECONDS)


def share(page: Page, studio: RunningStudio, run: str) -> str:
    """Share the run's last checkpoint by link; returns the link."""
    page.goto(f"{studio.url}/runs/{run}#checkpoints")
    page.locator("#checkpoints").get_by_role("link", name=re.compile("Open|20")).first.click()
    page.get_by_role("button", name="Share").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("With", exact=True).select_option("link")
    dialog.get_by_role("button", name="Share").click()
    shown = page.get_by_text(re.compile(r"/models/shared/\S+")).first
    found = re.search(r"https?://\S+/models/shared/[^\s\"]+", shown.inner_text() or shown.input_value())
    assert found is not None
    return found.group()
