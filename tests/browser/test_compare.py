"""Comparing in the browser: groups, what settings do, links for others, and reports with charts."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import wait_until
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.reports.services import report_create
from webapp.runs.models import Run

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]
FIRST = "document.querySelector('.js-plotly-plot')"


@pytest.fixture
def runs(team: Team) -> list[Run]:
    """Two seeds of each of three ranks; the higher the rank, the lower the loss."""
    made = []
    for rank in (4, 8, 16):
        for seed in (1, 2):
            run = make_run(team, f"r{rank} s{seed}", config={"adapter": {"r": rank}, "seed": seed})
            lines = [
                MetricLine(
                    step, 1_790_000_000 + step, {"loss": 3 - step / 100 - rank / 20 + seed / 10, "epoch": step / 50}
                )
                for step in range(1, 101)
            ]
            MetricWriter(run.pk).append(lines)
            made.append(run)
    return made


def test_smoothing_can_go_by_distance(visit: Visit, team: Team) -> None:
    """Values far apart on the axis shall not be drawn together, however few lie between them."""
    runs = [make_run(team, name) for name in "ab"]
    for run in runs:
        steps = [*range(1, 51), *range(5001, 5051)]
        MetricWriter(run.pk).append(MetricLine(step, 1e9 + step, {"loss": float(step > 5000)}) for step in steps)
    page = visit(address(runs, "&smoothing=0.9"))
    last = f"{FIRST}?.data.at(-1)"
    first_after = f"{last}?.y[{last}.x.findIndex((x) => x > 5000)]"
    wait_until(page, f"() => {first_after} < 0.2")
    page.locator("select[name=weighting]").select_option("time")
    wait_until(page, f"() => {first_after} > 0.99")
    assert "weighting=time" in page.url


def address(runs: list[Run], more: str = "") -> str:
    return "/compare/?" + "&".join(f"run={run.pk}" for run in runs) + more


def test_groups_are_drawn_as_one_line_with_a_band(visit: Visit, server: str, runs: list[Run]) -> None:
    page = visit(address(runs))
    page.get_by_label("Group by").select_option("config.adapter.r")
    legend = page.get_by_role("list", name="Groups").get_by_role("listitem")
    expect(legend).to_have_count(3)
    expect(legend.nth(2)).to_contain_text("16")
    expect(legend.nth(2)).to_contain_text("2 runs")
    wait_until(page, f"() => {FIRST}?.data.filter((line) => line.name).length === 3")
    page.get_by_label("Band").select_option("range")
    wait_until(page, f"() => {FIRST}.data.some((line) => line.fill === 'tonexty')")
    page.get_by_label("Axis").select_option("epoch")
    wait_until(page, f"() => {FIRST}.data.at(-1).x.at(-1) === 2")
    legend.nth(0).get_by_role("button").click()
    wait_until(page, f"() => {FIRST}.data.filter((line) => line.name).length === 2")
    for part in ("group=config.adapter.r", "band=range", "x=epoch", "hide=group-0"):
        assert part in page.url
    again = visit(page.url.removeprefix(server))
    wait_until(again, f"() => {FIRST}?.data.filter((line) => line.name).length === 2")
    expect(again.get_by_label("Band")).to_have_value("range")


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_settings_are_shown_beside_a_metric(visit: Visit, runs: list[Run], width: int, theme: str) -> None:
    page = visit(address(runs, "#settings"), width=width, theme=theme)
    lines = page.locator("[data-parallel] polyline")
    expect(lines).to_have_count(6)
    importance = page.locator("[data-importance] li")
    expect(importance.first).to_contain_text("adapter.r")
    expect(importance.first).to_contain_text(re.compile(r"\d+% over 6 runs, falls with it"))
    grip = page.locator("[data-axis='0'] .axis-grip")
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 14, box["y"] + 4)
    page.mouse.down()
    page.mouse.move(box["x"] + 14, box["y"] + 30, steps=4)
    page.mouse.up()
    expect(page.locator("[data-parallel] polyline.faded")).to_have_count(4)
    page.locator("select[name=sy]").select_option("setting:seed")
    wait_until(page, "() => document.querySelector('[data-scatter]').data?.[0].y.includes(2)")
    assert "sy=setting%3Aseed" in page.url
    bars = page.get_by_role("img", name="Distribution")
    bars.scroll_into_view_if_needed()
    expect(bars.locator(".bars path").first).to_be_visible()
    assert (
        page.evaluate("document.querySelector('[data-histogram]').calcdata[0].reduce((sum, bin) => sum + bin.s, 0)")
        == 6
    )
    expect(page.get_by_text("6 of 6 runs have a value")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_shared_comparison_opens_without_a_login(visit: Visit, chromium: Browser, runs: list[Run]) -> None:
    page = visit(address(runs[:2], "&group=config.seed&logy=1"))
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Address of the link").input_value()
    context = chromium.new_context()
    stranger = context.new_page()
    problems: list[str] = []
    stranger.on("pageerror", lambda error: problems.append(str(error)))
    stranger.goto(link)
    wait_until(stranger, f"() => {FIRST}?.data.filter((line) => line.name).length === 2")
    assert stranger.evaluate(f"{FIRST}.layout.yaxis.type") == "log"
    expect(stranger.get_by_role("list", name="Groups")).to_contain_text("1 run")
    stranger.get_by_role("tab", name="Values").click()
    expect(stranger.get_by_role("region", name="Values")).to_contain_text("loss")
    assert not problems
    context.close()


def test_a_report_is_written_with_a_chart(visit: Visit, member: User, team: Team, runs: list[Run]) -> None:
    report = report_create(actor=Actor(member), project=runs[0].project, title="Ranks", body="# Found\n")
    page = visit(f"/reports/{report.pk}/edit")
    expect(page.locator("#preview h2")).to_have_text("Found")
    page.get_by_role("button", name="Insert a chart or table").click()
    for run in runs[:2]:
        page.locator(f"#pick-{run.pk}").check()
    page.get_by_label("Group by").fill("method")
    page.get_by_role("button", name="Insert", exact=True).click()
    expect(page.locator("#preview .chart-card")).to_have_count(1)
    wait_until(page, f"() => {FIRST}?.data.filter((line) => line.name === 'sft').length === 1")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Ranks")).to_be_visible()
    wait_until(page, f"() => {FIRST}?.data.filter((line) => line.name === 'sft').length === 1")
    expect(page.locator(".report")).to_contain_text("sft")
