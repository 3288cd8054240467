"""From the empty page to a rule, to the bell that rings, to an alert that was seen; and a run that is decided on."""

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.alerts.firing import rules_check
from webapp.alerts.models import Alert, AlertRule
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Run, Status

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


@pytest.fixture
def run(team: Team) -> Run:
    return make_run(team, "zinc run", status=Status.RUNNING)


def log(run: Run, step: int, value: float) -> None:
    MetricWriter(run.pk).append([MetricLine(step, time.time() + 1, {"loss": value})])


def test_a_rule_is_made_its_alert_rings_the_bell_and_is_seen(visit: Visit, run: Run) -> None:
    page = visit("/alerts/")
    page.get_by_role("link", name="When the loss is no number").click()
    expect(page.get_by_label("Metric", exact=True)).to_have_value("loss")
    page.get_by_label("Is", exact=True).select_option("above")
    page.get_by_label("Bound", exact=True).fill("5")
    page.get_by_role("radio", name="A run ends").check()
    expect(page.get_by_label("Bound", exact=True)).to_be_hidden()
    page.get_by_role("radio", name="A metric passes").check()
    page.get_by_role("button", name="Watch").click()
    expect(page.get_by_text("loss is above 5")).to_be_visible()
    page.goto(page.url.partition("/alerts")[0] + f"/runs/{run.pk}")
    expect(page.locator("body")).to_have_attribute("data-live", "on")
    log(run, 1, 9.0)
    rules_check()
    expect(page.get_by_role("link", name="Alerts, 1 unseen")).to_be_visible()
    expect(page.get_by_role("list", name="Alerts")).to_contain_text("loss is 9 at step 1")
    page.get_by_role("link", name="Alerts, 1 unseen").click()
    page.get_by_role("button", name=re.compile("^Seen")).click()
    expect(page.get_by_role("link", name="Alerts", exact=True)).to_be_visible()
    expect(page.get_by_text("No such alert")).to_be_visible()
    assert Alert.objects.get().seen_by is not None


def test_a_finished_run_is_decided_on_in_place(visit: Visit, run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(status=Status.SUCCEEDED)
    page = visit(f"/runs/{run.pk}")
    line = page.get_by_role("region", name="Decision")
    line.get_by_role("button", name="Decide").click()
    line.get_by_label("Hypothesis").fill("zinc beats tin")
    line.get_by_label("Result").fill("0.31 against 0.35")
    line.get_by_label("Verdict").select_option("accepted")
    line.get_by_role("button", name="Save").click()
    expect(line.get_by_role("button", name="Change")).to_be_visible()
    expect(line).to_contain_text("zinc beats tin")
    run.refresh_from_db()
    assert (run.result, run.verdict) == ("0.31 against 0.35", "accepted")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pages_are_accessible_and_fit(visit: Visit, run: Run, team: Team, width: int, theme: str) -> None:
    Run.objects.filter(pk=run.pk).update(
        status=Status.SUCCEEDED, hypothesis="zinc beats tin", result="0.31 against 0.35", verdict="accepted"
    )
    rule = AlertRule.objects.create(
        project=run.project, name="Too high", kind="metric", metric="loss", comparison="above", threshold=5,
        since=run.created_at, checked_at=run.created_at,
    )  # fmt: skip
    message = "loss is 9.123 at step 1,200, above 5, for 3 points in a row."
    Alert.objects.create(team=team, rule=rule, run=run, message=message)
    Alert.objects.create(team=team, rule=rule, run=run, message=message, cleared_at=run.created_at)
    rule.deliveries.create(status="failed", attempts=5, error={"message": "It answered 503.", "advice": ""})
    address = f"/alerts/rules/{rule.pk}"
    run_page = f"/runs/{run.pk}"
    for path in ("/alerts/", "/alerts/rules/", address, f"{address}/edit", run_page):
        page = visit(path, width=width, theme=theme)
        page.wait_for_load_state()
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
