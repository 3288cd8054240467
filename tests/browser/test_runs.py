"""Launching, a run's page and the queue, as people use them by mouse and by key."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.test_frame import violations
from tests.support import factories
from tests.support.browser import drag, wait_until
from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import PAIRS, line, log
from tests.webapp.pages.runs.test_launch import REPORT
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.datasets.models import DatasetVersion
from webapp.live.notify import publish
from webapp.runs.models import (
    Preflight,
    QueuePause,
    Run,
    RunCheckpoint,
    RunLog,
    RunSample,
    Status,
    Worker,
)
from webapp.runs.services import preflight_finish

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


@pytest.fixture
def data(team: Team, member: User) -> dict[str, DatasetVersion]:
    """Something to launch on: a model that is ready, conversations and pairs."""
    make_base_model(team, "small")
    actor = Actor(member)
    return {"talks": factories.make_version(actor, "talks"), "pairs": factories.make_version(actor, "pairs", PAIRS)}


def answer_preflights(**changes: Any) -> None:
    """What a worker does."""
    for preflight in Preflight.objects.filter(report__isnull=True):
        preflight_finish(preflight_id=str(preflight.pk), report={**REPORT, **changes})


def example_of(row: int) -> dict[str, Any]:
    """A row of nine, counted from 1, as a worker shows it."""
    return {"tokens": [{"text": f"row {row}", "trained": True}], "rejected": [], "row": row - 1, "rows": 9}


def live(page: Page) -> None:
    expect(page.locator("body[data-live='on']")).to_be_attached()


def choose_dataset(page: Page, name: str) -> None:
    option = page.locator("#dataset option", has_text=name)
    page.locator("#dataset").select_option(value=option.get_attribute("value"))


# --- launch -----------------------------------------------------------------------------------------------------------


def test_from_a_method_to_a_run(visit: Visit, data: dict[str, DatasetVersion]) -> None:
    page = visit("/runs/new")
    button, reason = page.get_by_role("button", name="Launch run"), page.locator("#launch-reason")
    preflight = page.locator("#preflight")
    expect(button).to_be_disabled()
    expect(reason).to_have_text("Choose a method.")

    page.locator("summary", has_text="Alignment").click()
    page.get_by_role("radio", name="Direct preference optimisation").check()
    expect(page.get_by_label("Beta", exact=True)).to_be_visible()
    page.get_by_label("Start from").select_option(label="small")
    expect(reason).to_have_text("Choose a dataset.")
    choose_dataset(page, "pairs")
    expect(preflight).to_contain_text("Looking")
    answer_preflights(first_example=example_of(1))
    expect(preflight).to_contain_text("Fits")

    tokens, number = page.get_by_role("region", name="The row"), page.get_by_label("Number of the row")
    expect(tokens).to_have_text("row 1")
    page.get_by_role("button", name="Next row").press("Enter")
    expect(number).to_have_value("2")
    answer_preflights(**example_of(2))
    expect(tokens).to_have_text("row 2")
    expect(page.get_by_role("button", name="Next row")).to_be_focused()
    number.fill("9")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Next row")).to_be_disabled()
    answer_preflights(**example_of(9))
    expect(tokens).to_have_text("row 9")
    expect(preflight).to_contain_text("Fits")  # asking for a row is no change of the settings

    page.get_by_label("Max steps", exact=True).fill("7")
    page.keyboard.press("Tab")
    expect(preflight).to_contain_text("Looking")
    expect(preflight.locator(".histogram")).to_be_visible()  # what was known stays in view
    answer_preflights(fit="tight")
    expect(preflight).to_contain_text("Tight")

    page.get_by_label("Learning rate", exact=True).fill("quick")
    page.keyboard.press("Enter")
    expect(page.locator(".setting", has_text="Learning rate").first).to_contain_text("Must be a number")
    expect(button).to_be_disabled()
    expect(reason).to_have_text("Correct the settings that are marked.")
    page.get_by_label("Learning rate", exact=True).fill("1e-5")
    page.keyboard.press("Enter")
    expect(button).to_be_enabled()
    page.keyboard.press("Control+Enter")
    page.wait_for_url(re.compile("/runs/[0-9a-f-]{36}$"))
    config = Run.objects.get().config
    assert (config["max_steps"], config["learning_rate"]) == (7, 1e-5)


def test_what_is_typed_while_an_answer_is_on_its_way_stays_and_keeps_the_focus(
    visit: Visit, data: dict[str, DatasetVersion]
) -> None:
    page = visit("/runs/new?method=dpo")
    steps, rate, beta = (page.get_by_label(name, exact=True) for name in ("Max steps", "Learning rate", "Beta"))
    with page.expect_response("**/runs/new") as answered:
        steps.fill("7")
        rate.focus()
        page.keyboard.type("0.", delay=5)
        answered.value.finished()
        page.keyboard.type("001", delay=60)
    expect(rate).to_be_focused()
    expect(rate).to_have_value("0.001")
    expect(steps).to_have_value("7")
    with page.expect_response("**/runs/new"):
        beta.focus()
    expect(beta).to_be_focused()
    expect(rate).to_have_value("0.001")


def test_half_a_number_is_not_rewritten_under_the_cursor(visit: Visit, data: dict[str, DatasetVersion]) -> None:
    page = visit("/runs/new?method=dpo")
    rate = page.get_by_label("Learning rate", exact=True)
    with page.expect_response("**/runs/new"):
        rate.fill("0.00")  # which is 0 to the server
        rate.dispatch_event("change")
    expect(rate).to_have_attribute("value", "0")
    page.keyboard.type("1")
    expect(rate).to_be_focused()
    expect(rate).to_have_value("0.001")


def test_folds_and_menus_stay_open_and_other_methods_keep_what_was_typed(
    visit: Visit, data: dict[str, DatasetVersion]
) -> None:
    page = visit("/runs/new?method=dpo")
    page.locator("summary", has_text="Schedule").click()
    page.get_by_label("Seed", exact=True).fill("5")
    page.get_by_label("Name", exact=True).fill("typed")
    page.locator("summary", has=page.locator("[id='config.loss-chosen']")).click()
    with page.expect_response("**/runs/new"):
        page.get_by_role("checkbox", name="sft", exact=True).check()
    expect(page.locator("[id='config.loss-chosen']")).to_have_text("sigmoid, sft")
    expect(page.get_by_role("checkbox", name="sft", exact=True)).to_be_focused()
    expect(page.get_by_label("Seed", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="IPO").check()
    expect(page.locator("[id='config.loss-chosen']")).to_have_text("ipo")
    expect(page.get_by_role("radio", name="IPO")).to_be_focused()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("5")
    expect(page.get_by_label("Name", exact=True)).to_have_value("typed")


def test_methods_are_chosen_by_arrow_key(visit: Visit) -> None:
    page = visit("/runs/new?method=dpo")
    page.get_by_role("radio", name="Direct preference optimisation").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="IPO")).to_be_checked()
    expect(page.locator("#launch-settings")).to_contain_text("of IPO")
    expect(page.get_by_role("radio", name="IPO")).to_be_focused()


def test_a_setting_can_be_put_back(visit: Visit) -> None:
    page = visit("/runs/new?method=sft")
    steps = page.get_by_label("Max steps", exact=True)
    steps.fill("7")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="reset Max steps").click()
    expect(page.get_by_role("button", name="reset Max steps")).to_have_count(0)
    expect(steps).to_have_value("")


# --- one run ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(team: Team) -> Run:
    """A run at work that has logged, answered, printed and saved."""
    run = make_run(
        team,
        "zinc",
        status=Status.RUNNING,
        step=40,
        total_steps=80,
        started_at=timezone.now() - timedelta(seconds=60),
        progress={"phase": "training", "tokens": 1234},
        tags=["night"],
    )
    log(run, loss=line(3, 1), eval__loss=[3.0, 2.0], system__cpu_percent=line(10, 90))
    for offset, (step, said) in enumerate([(0, "I cannot say."), (40, "I can say five.")]):
        RunSample.objects.create(run=run, step=step, offset=offset, prompt="2 + 3?", completion=said, data={})
    RunLog.objects.create(run=run, offset=0, text="".join(f"line {number}\n" for number in range(200)))
    checkpoint = make_checkpoint(team, "zinc @ 40", step=40, base_model=run.model)
    RunCheckpoint.objects.create(run=run, checkpoint=checkpoint, step=40)
    return run


def test_a_question_outlives_live_refreshes(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}")
    live(page)
    page.get_by_role("button", name="Stop").click()
    Run.objects.filter(pk=run.pk).update(step=50)
    publish(f"run:{run.pk}", "metrics", {"lines": 50})
    page.wait_for_timeout(1500)
    expect(page.locator("[data-run-step]")).to_have_attribute("data-run-step", "40")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-run-step]")).to_have_attribute("data-run-step", "50")
    page.get_by_role("button", name="Stop").click()
    publish(f"run:{run.pk}", "metrics", {"lines": 51})
    page.wait_for_timeout(1500)
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.locator("#run-head")).to_contain_text("Stopping")


def test_the_last_of_many_events_is_not_lost(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}")
    live(page)
    for step in range(41, 50):
        Run.objects.filter(pk=run.pk).update(step=step)
        publish(f"run:{run.pk}", "metrics", {"lines": step})
        page.wait_for_timeout(40)
    Run.objects.filter(pk=run.pk).update(status=Status.SUCCEEDED)
    publish(f"run:{run.pk}", "status", {"status": "succeeded"})
    expect(page.locator("#run-head")).to_contain_text("Succeeded")


def test_news_that_comes_while_an_answer_is_on_its_way_is_not_lost(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}")
    live(page)
    # As on a busy machine: the news is followed up while what came in is still being put in place.
    page.evaluate("htmx.config.defaultSettleDelay = 2000")
    held: list[Route] = []
    page.route(f"**/runs/{run.pk}", lambda route: held.append(route), times=1)
    publish(f"run:{run.pk}", "metrics", {"lines": 50})
    while not held:
        page.wait_for_timeout(50)
    answer = held[0].fetch()
    Run.objects.filter(pk=run.pk).update(status=Status.SUCCEEDED)
    publish(f"run:{run.pk}", "status", {"status": "succeeded"})
    page.wait_for_timeout(1500)
    held[0].fulfill(response=answer)
    expect(page.locator("#run-head")).to_contain_text("Succeeded")


def test_the_log_follows_its_end_unless_it_is_read(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}#log")
    live(page)
    text = page.get_by_role("log")
    expect(text).to_contain_text("line 199")
    _print_more(run, "the newest line\n")
    expect(text).to_contain_text("the newest line")
    assert _distance_from_end(text) < 5
    text.evaluate("log => { log.scrollTop = 0 }")
    _print_more(run, "and another\n")
    expect(text).to_contain_text("and another")
    assert text.evaluate("log => log.scrollTop") == 0
    page.get_by_role("searchbox", name="Search the log").fill("line 150")
    expect(text).to_have_text(re.compile(r"^line 150\s*$"))
    _print_more(run, "line 150 again\n")
    expect(text).to_have_text(re.compile(r"^line 150\s*$"))


def _print_more(run: Run, text: str) -> None:
    last = RunLog.objects.filter(run=run).order_by("-offset")[0]
    offset = last.offset + len(last.text)
    RunLog.objects.create(run=run, offset=offset, text=text)
    publish(f"run:{run.pk}", "log", {"to": offset + len(text)})


def _distance_from_end(log: Locator) -> float:
    return float(log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight"))


def test_the_toolbar_of_the_charts_is_remembered(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}")
    panel = page.get_by_role("tabpanel", name="Charts")
    panel.get_by_label("Axis").select_option("relative")
    panel.get_by_label("Log scale").check()
    panel.get_by_label("Smoothing").fill("0.9")
    page.reload()
    expect(panel.get_by_label("Axis")).to_have_value("relative")
    expect(panel.get_by_label("Log scale")).to_be_checked()
    expect(panel.get_by_label("Smoothing")).to_have_value("0.9")
    page.get_by_role("tab", name="System").click()
    system = page.get_by_role("tabpanel", name="System")
    expect(system.get_by_label("Log scale")).to_be_checked()
    expect(system.get_by_role("heading", name="CPU percent")).to_be_visible()


def test_curves_appear_with_the_first_points(visit: Visit, team: Team) -> None:
    run = make_run(team, "fresh", status=Status.RUNNING)
    page = visit(f"/runs/{run.pk}")
    live(page)
    panel = page.get_by_role("tabpanel", name="Charts")
    blank = panel.get_by_text("No curves yet")
    expect(blank).to_be_visible()
    log(run, loss=line(3, 1))
    publish(f"run:{run.pk}", "metrics", {"lines": 40})
    expect(panel.locator(".main-svg").first).to_be_visible()
    expect(blank).to_be_hidden()


def test_samples_are_read_by_step_and_by_prompt(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}#samples")
    panel = page.get_by_role("tabpanel", name="Samples")
    expect(panel.locator("mark").filter(has_text="can")).to_be_visible()
    panel.get_by_label("Step").select_option("0")
    expect(panel).not_to_contain_text("five")
    panel.get_by_role("button", name="At every step").click()
    expect(panel).to_contain_text("five")
    panel.get_by_role("button", name="All prompts").click()
    expect(panel.get_by_label("Step")).to_have_value("40")


# --- the queue --------------------------------------------------------------------------------------------------------


def test_waiting_runs_are_moved_by_key_and_by_dragging(visit: Visit, team: Team, member: User) -> None:
    for age, name in enumerate("abc"):
        run = make_run(team, f"run {name}", created_by=member)
        Run.objects.filter(pk=run.pk).update(queued_at=timezone.now() - timedelta(minutes=10 - age))
    page = visit("/runs/queue")
    rows = page.locator("[data-queued]")
    page.get_by_role("button", name="Move run c up").press("Enter")
    expect(rows).to_contain_text(["run a", "run c", "run b"])
    expect(page.get_by_role("button", name="Move run c up")).to_be_focused()
    drag(rows.nth(2).locator(".grip"), rows.nth(0))
    expect(rows).to_contain_text(["run b", "run a", "run c"])


def test_a_row_that_is_held_is_not_replaced_before_it_is_dragged(visit: Visit, team: Team, member: User) -> None:
    for name in "ab":
        make_run(team, name, created_by=member)
    page = visit("/runs/queue")
    grip = page.locator(".grip").first
    row = page.locator("[data-queued]").first.element_handle()
    grip.hover()
    page.mouse.down()
    with page.expect_response("**/runs/queue"):
        page.evaluate("htmx.trigger('#queue', 'again')")
    page.wait_for_timeout(200)
    assert row.evaluate("row => row.isConnected")
    page.mouse.up()
    wait_until(page, "row => !row.isConnected", row)


# --- for everyone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_pages_are_accessible_and_fit(
    visit: Visit, run: Run, data: dict[str, DatasetVersion], width: int, theme: str
) -> None:
    Worker.objects.create(name="box:1", host="box", heartbeat_at=timezone.now(), queues=["runs"], system={"cpu": 0.5})
    failure = {"code": "x", "message": "No row is left.", "advice": "Loosen the filter.", "fields": {}}
    broken = make_run(run.team, "a run with a rather long name " * 4, status=Status.FAILED, error=failure)
    make_run(run.team, "waits", labels=["lab2"])
    QueuePause.objects.create(by=run.team.members.first())
    log(broken, loss=[0.0] * 5)
    addresses = ["/runs/", "/runs/?q=nothing+tag:x", "/runs/queue", f"/runs/{broken.pk}", "/runs/new"]
    for address in addresses:
        _check(visit(address, width=width, theme=theme), address, width)
    parts = ("charts", "samples", "log", "config", "checkpoints", "system", "lineage")
    for address in (f"/runs/{run.pk}#{part}" for part in parts):
        visit("/nowhere")
        page = visit(address, width=width, theme=theme)
        expect(page.get_by_role("tabpanel")).not_to_contain_text("Loading")
        _check(page, address, width)


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_launch_page_is_accessible_and_fits(
    visit: Visit, data: dict[str, DatasetVersion], width: int, theme: str
) -> None:
    page = visit("/runs/new?method=sft", width=width, theme=theme)
    choose_dataset(page, "talks")
    page.get_by_label("Start from").select_option(label="small")
    expect(page.locator("#preflight")).to_contain_text("Looking")
    warning = {"code": "x", "message": "2 rows are cut.", "remedy": "Raise max_length."}
    answer_preflights(warnings=[warning], fit="over")
    expect(page.locator("#preflight")).to_contain_text("Will not fit")
    page.locator("summary", has_text="As a file").click()
    page.locator("summary", has_text="Generation").click()
    _check(page, "a choice", width)
    page.get_by_label("Max steps", exact=True).fill("-1")
    page.keyboard.press("Enter")
    expect(page.locator(".setting .errors")).to_be_visible()
    _check(page, "a bad choice", width)


def _check(page: Page, what: str, width: int) -> None:
    page.wait_for_load_state()
    assert violations(page) == [], what
    assert page.evaluate("document.documentElement.scrollWidth") <= width, what
