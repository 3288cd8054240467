"""Curves as people see and use them, from points in the database to lines on the page."""

import json
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, Request, expect

from tests.support.browser import wait_until
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.live.notify import publish
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Run, Status

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]
# The points of the lines that have a name (not of bands and raw lines) in the first chart that is drawn.
LINES = """() => [...document.querySelectorAll('.js-plotly-plot')].slice(0, 1)
    .flatMap((plot) => plot.data.filter((line) => line.name).map((line) => [line.name, line.x.length]))"""


def log(run: Run, first: int, last: int, **values: float) -> None:
    """Steps `first` to `last` of a falling loss, and `values` at every step."""
    MetricWriter(run.pk).append(
        MetricLine(step, 1_790_000_000 + step, {"loss": 3 - step / 200, **values}) for step in range(first, last + 1)
    )


@pytest.fixture
def run(team: Team) -> Run:
    run = make_run(team, "zinc", status=Status.RUNNING, total_steps=400)
    log(run, 1, 100)
    return run


def chart(page: Page, title: str) -> Locator:
    return page.locator(".chart-card", has=page.get_by_role("heading", name=title, exact=True))


def lines(page: Page, *expected: Any) -> None:
    wait_until(
        page, f"expected => JSON.stringify(({LINES})()) === expected", arg=json.dumps(expected, separators=(",", ":"))
    )


def requested(page: Page) -> list[dict[str, list[str]]]:
    """What is asked of the API for metrics from now on, as queries."""
    queries: list[dict[str, list[str]]] = []

    def note(request: Request) -> None:
        if "/metrics/" in request.url:
            queries.append(parse_qs(urlsplit(request.url).query))

    page.on("request", note)
    return queries


def test_a_curve_grows_without_a_reload_and_fetches_only_what_is_new(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}")
    lines(page, ["loss", 100])
    wait_until(page, "document.body.dataset.live === 'on'")
    page.evaluate("window.stayed = true")
    queries = requested(page)
    log(run, 101, 130)
    publish(f"run:{run.pk}", "metrics", {"lines": 130})
    lines(page, ["loss", 130])
    assert page.evaluate("window.stayed")
    assert ["100"] in [query.get("from") for query in queries]


def test_steps_that_are_repeated_after_a_resume_replace_what_was_there(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}")
    lines(page, ["loss", 100])
    wait_until(page, "document.body.dataset.live === 'on'")
    log(run, 51, 60)
    publish(f"run:{run.pk}", "status", {"status": "running"})
    lines(page, ["loss", 60])


def test_where_a_run_was_resumed_is_ringed_on_its_one_line(visit: Visit, twins: list[Run]) -> None:
    Run.objects.filter(pk=twins[0].pk).update(resumed_from=[20, 40, 61])
    page = visit("/compare/?" + "&".join(f"run={run.pk}" for run in twins))
    page.locator(".js-plotly-plot").first.wait_for()
    rings = "document.querySelector('.js-plotly-plot').data.filter((trace) => trace.marker?.symbol === 'circle-open')"
    wait_until(page, f"() => {rings}.length === 1")
    # No more is logged than 60 steps.
    assert page.evaluate(f"{rings}.map(({{ name, x }}) => [name, x])") == [["twin 0", [20, 40]]]


def test_nothing_is_loaded_for_charts_out_of_view(visit: Visit, run: Run) -> None:
    log(run, 101, 110, **{f"odd_{number:02d}": 1.0 for number in range(60)})
    page = visit(f"/runs/{run.pk}")
    lines(page, ["loss", 110])
    expect(page.locator(".chart-card")).not_to_have_count(0)
    page.wait_for_load_state("networkidle")
    last = chart(page, "Odd 59")
    expect(last.locator(".main-svg")).to_have_count(0)
    last.scroll_into_view_if_needed()
    expect(last.locator(".main-svg").first).to_be_visible()


def test_zooming_reads_that_stretch_finer_and_a_double_click_goes_back(visit: Visit, run: Run) -> None:
    log(run, 101, 4000)
    page = visit(f"/runs/{run.pk}")
    plot = chart(page, "Loss").locator(".nsewdrag")
    plot.wait_for()
    queries = requested(page)
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 82, steps=6)
    page.mouse.up()
    wait_until(page, "() => document.querySelector('.js-plotly-plot').data.at(-1).x[0] > 1000")
    steps = page.evaluate("document.querySelector('.js-plotly-plot').data.at(-1).x")
    assert steps[1] - steps[0] < 4
    assert 1000 < int(queries[0]["from"][0]) < int(queries[0]["to"][0]) < 2300
    page.mouse.dblclick(box["x"] + 50, box["y"] + 60)
    wait_until(page, "() => document.querySelector('.js-plotly-plot').data.at(-1).x[0] < 10")


def test_values_that_are_no_numbers_are_counted_and_marked(visit: Visit, run: Run) -> None:
    MetricWriter(run.pk).append([MetricLine(101, 1_790_000_101, {"loss": math.nan})])
    page = visit(f"/runs/{run.pk}")
    expect(chart(page, "Loss")).to_contain_text("1 value is NaN or infinite")
    assert page.evaluate("document.querySelector('.js-plotly-plot').layout.shapes.length") == 1


def test_sizes_are_said_in_their_units(visit: Visit, run: Run) -> None:
    log(run, 101, 110, **{"system/rss_bytes": 1_647_400_000.0})
    page = visit(f"/runs/{run.pk}#system")
    memory = chart(page, "RSS bytes")
    expect(memory.locator(".legend")).to_contain_text("1.65 GB")
    expect(memory.locator(".ytick").first).to_contain_text("GB")


def test_a_run_without_points_says_so(visit: Visit, team: Team) -> None:
    waiting = make_run(team, "waiting")
    page = visit(f"/runs/{waiting.pk}")
    expect(page.get_by_role("tabpanel", name="Charts")).to_contain_text("No curves yet")


@pytest.mark.parametrize(("kind", "begins"), [("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"line,step,time,min")])
def test_a_chart_can_be_taken_away(visit: Visit, run: Run, kind: str, begins: bytes) -> None:
    page = visit(f"/runs/{run.pk}")
    lines(page, ["loss", 100])
    card = chart(page, "Loss")
    card.locator("summary", has_text="Download").click()
    with page.expect_download() as download:
        card.get_by_role("button", name=kind, exact=True).click()
    content = download.value.path().read_bytes()
    assert download.value.suggested_filename == f"loss.{kind.lower()}"
    assert content.startswith(begins)
    if kind == "CSV":
        assert content.decode().splitlines()[1].startswith("loss,1,2026-")
        assert len(content.splitlines()) == 101


def test_in_csv_a_name_is_never_a_formula(visit: Visit) -> None:
    page = visit("/methods/")
    series = {"step": [1], "time": [0], "count": [1], "min": [1], "mean": [1], "max": [1], "not_finite": []}
    text = page.evaluate(
        "async series => (await import('/static/js/chart-files.js')).csv([{ name: '=1+\"2,3\"', series }], 'step')",
        series,
    )
    assert text.splitlines()[1].startswith('"\'=1+""2,3""",1,')


def test_hovering_over_one_chart_shows_the_same_step_in_the_others(visit: Visit, run: Run) -> None:
    log(run, 1, 120, mean_token_accuracy=0.5)
    page = visit(f"/runs/{run.pk}")
    plots = page.locator(".js-plotly-plot")
    plots.nth(1).locator(".nsewdrag").wait_for()
    plots.nth(0).locator(".nsewdrag").hover()
    expect(plots.nth(1).locator(".hoverlayer")).to_contain_text("mean_token_accuracy")


@pytest.fixture
def twins(team: Team) -> list[Run]:
    """Two runs that share a colour."""
    runs = [make_run(team, f"twin {number}", pk=f"0192f0c0-0000-7000-8000-00000000000{number}") for number in (0, 1)]
    other = make_run(team, "twin 2", pk="0192f0c0-0000-7000-8000-00000000000a")
    for run in (*runs, other):
        log(run, 1, 60, num_tokens=512.0)
    return [runs[0], other]


def test_compared_runs_that_share_a_colour_differ_in_their_dashes(visit: Visit, twins: list[Run]) -> None:
    page = visit("/compare/?" + "&".join(f"run={run.pk}" for run in twins))
    lines(page, ["twin 0", 60], ["twin 2", 60])
    data = page.evaluate("document.querySelector('.js-plotly-plot').data")
    first, second = (trace["line"] for trace in data if trace.get("name"))
    assert first["color"] == second["color"]
    assert first["dash"] != second["dash"]


def test_a_link_shows_the_same_comparison_again(visit: Visit, twins: list[Run]) -> None:
    page = visit("/compare/?" + "&".join(f"run={run.pk}" for run in twins))
    lines(page, ["twin 0", 60], ["twin 2", 60])
    page.get_by_label("Axis").select_option("relative")
    page.get_by_label("Log y").check()
    page.locator(f'[data-toggle-run="{twins[0].pk}"]').click()
    lines(page, ["twin 2", 60])
    address = page.url
    assert "x=relative" in address
    page = visit("/methods/")
    page.goto(address)
    lines(page, ["twin 2", 60])
    expect(page.get_by_label("Axis")).to_have_value("relative")
    layout = page.evaluate("document.querySelector('.js-plotly-plot').layout")
    assert layout["yaxis"]["type"] == "log"
    assert re.match("seconds", layout["xaxis"]["title"]["text"])


@pytest.mark.parametrize(("axis", "first"), [("num_tokens", 512), ("step", 1), ("relative", 0)])
def test_the_axis_can_be_chosen(visit: Visit, twins: list[Run], axis: str, first: float) -> None:
    page = visit("/compare/?" + "&".join(f"run={run.pk}" for run in twins) + f"&x={axis}")
    lines(page, ["twin 0", 60], ["twin 2", 60])
    x = page.evaluate("document.querySelector('.js-plotly-plot').data.at(-1).x[0]")
    assert x == pytest.approx(first, abs=1)


def test_a_run_s_name_is_only_text(visit: Visit, team: Team) -> None:
    runs = [make_run(team, name) for name in ('<a href="javascript:alert(1)">x</a>', "<b>bold</b>")]
    for run in runs:
        log(run, 1, 5)
    page = visit("/compare/?" + "&".join(f"run={run.pk}" for run in runs))
    page.locator(".nsewdrag").first.wait_for()
    page.locator(".nsewdrag").first.hover()
    hovered = page.locator(".hoverlayer").first
    expect(hovered).to_contain_text("<b>bold</b>")
    assert hovered.locator("a").count() == 0


def test_runs_can_be_left_out_and_another_made_the_baseline(visit: Visit, twins: list[Run]) -> None:
    page = visit("/compare/?" + "&".join(f"run={run.pk}" for run in twins))
    legend = page.get_by_role("list", name="Runs").get_by_role("listitem")
    expect(legend.nth(0)).to_contain_text("twin 0")
    legend.nth(1).get_by_role("button", name="Make twin 2 the baseline").click()
    expect(legend.nth(0)).to_contain_text("twin 2")
    legend.nth(1).get_by_role("button", name="Leave twin 0 out").click()
    expect(legend).to_have_count(1)


@pytest.fixture
def scaling(team: Team) -> Run:
    """A run that trained nothing, whose values stand at the numbers of answers that they were measured with."""
    run = make_run(team, "votes", method="test-time-scaling", status=Status.SUCCEEDED, step=60, total_steps=60)
    share = {1: 0.31, 2: 0.34, 4: 0.45, 8: 0.52}
    keys = ("majority", "weighted", "best", "any")
    MetricWriter(run.pk).append(
        MetricLine(
            count,
            1_790_000_000,
            {
                f"accuracy/{key}{end}": value + 0.05 * place + change
                for place, key in enumerate(keys)
                for end, change in (("", 0.0), ("/low", -0.1), ("/high", 0.08))
            },
        )
        for count, value in share.items()
    )
    return run


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_lines_have_the_band_that_was_measured_over_an_axis_of_their_own(
    visit: Visit, scaling: Run, width: int, theme: str
) -> None:
    page = visit(f"/runs/{scaling.pk}", width, theme)
    lines(page, *[[f"accuracy/{key}", 4] for key in ("majority", "weighted", "best", "any")])
    plot = "document.querySelector('.js-plotly-plot')"
    high, low, line = page.evaluate(f"{plot}.data.slice(0, 3).map(({{ x, y }}) => [x, y])")
    assert line == [[1, 2, 4, 8], [0.31, 0.34, 0.45, 0.52]]
    assert low == [[1, 2, 4, 8], pytest.approx([0.21, 0.24, 0.35, 0.42])]
    assert high == [[1, 2, 4, 8], pytest.approx([0.39, 0.42, 0.53, 0.6])]
    axis = page.evaluate(f"{plot}.layout.xaxis")
    assert (axis["type"], axis["title"]["text"], axis["tickvals"]) == ("log", "answers a prompt (N)", [1, 2, 4, 8])
    expect(page.locator(".chart-card:visible")).to_have_count(3)
    expect(page.get_by_role("tab", name="Checkpoints")).to_have_count(0)
    expect(page.locator("#run-head .figure", has_text="Majority vote").locator("b")).to_have_text("0.52")
