"""The list of runs, as people use it by mouse and by key: search, columns, views, and many runs at once."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support.browser import drag
from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import line, log
from webapp.accounts.models import Team, User
from webapp.live.notify import publish
from webapp.runs.models import Project, Run, RunView, Status

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


def test_a_selection_lives_through_refreshes(visit: Visit, team: Team) -> None:
    runs = [make_run(team, f"run {number}") for number in range(4)]
    page = visit("/runs/")
    expect(page.locator("body[data-live='on']")).to_be_attached()
    bar = page.get_by_role("region", name="Selected runs")
    expect(bar).to_be_hidden()
    boxes = page.get_by_role("checkbox", name=re.compile("Select run"))
    boxes.nth(0).check()
    boxes.nth(2).click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 selected")
    bar.get_by_label("Tag to add").fill("night")
    with page.expect_response("**/runs/?*"):
        publish(f"team:{team.pk}", "status", {"run": str(runs[0].pk)})
    expect(boxes.nth(1)).to_be_checked()
    expect(bar.get_by_label("Tag to add")).to_have_value("night")
    bar.get_by_role("button", name="Tag", exact=True).click()
    expect(page.get_by_role("region", name="Messages")).to_contain_text("3 runs tagged")
    assert Run.objects.filter(tags=["night"]).count() == 3


def test_deleting_many_says_how_many(visit: Visit, team: Team, member: User) -> None:
    for number in range(2):
        make_run(team, f"run {number}", created_by=member)
    page = visit("/runs/")
    page.get_by_role("checkbox", name="Select all").check()
    page.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("Delete 2 runs?")
    question.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("main")).to_contain_text("No runs yet")


def test_moving_asks_where_checkpoints_are_lost(visit: Visit, team: Team, member: User) -> None:
    for number in range(2):
        make_run(team, f"run {number}", created_by=member)
    Project.objects.create(team=team, name="Sparing", keep_last=2)
    page = visit("/runs/")
    page.get_by_role("checkbox", name="Select all").check()
    bar = page.get_by_role("region", name="Selected runs")
    bar.get_by_label("Project to move to").select_option("Sparing")
    bar.get_by_role("button", name="Move").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text(
        "Move 2 runs to Sparing? It keeps 2 checkpoints of each run: the others are deleted."
    )
    question.get_by_role("button", name="Move").click()
    expect(page.get_by_role("region", name="Messages")).to_contain_text("2 runs moved")
    assert Run.objects.filter(project__name="Sparing").count() == 2


def test_filters_change_the_address_and_the_table(visit: Visit, team: Team) -> None:
    make_run(team, "zinc", tags=["night"])
    make_run(team, "iron")
    page = visit("/runs/?sort=name")
    page.get_by_label("Tag", exact=True).select_option("night")
    expect(page.get_by_role("link", name="iron")).to_have_count(0)
    expect(page.get_by_role("list", name="Filters in force")).to_contain_text("tag: night")
    assert re.search("tag=night", page.url)
    assert re.search("sort=name", page.url)
    page.get_by_role("link", name="Take out tag: night").click()
    expect(page.get_by_role("link", name="iron")).to_be_visible()
    expect(page.get_by_label("Tag", exact=True)).to_have_value("")
    page.get_by_role("combobox", name="Search runs").press_sequentially("zin")
    expect(page.get_by_role("link", name="iron")).to_have_count(0)


def test_a_query_is_completed_by_key(visit: Visit, team: Team) -> None:
    zinc = make_run(team, "zinc", method="dpo", tags=["two words"], config={"beta": 0.1})
    log(zinc, loss=line(2, 0.5))
    make_run(team, "iron")
    page = visit("/runs/")
    box = page.get_by_role("combobox", name="Search runs")
    options = page.get_by_role("listbox", name="Completions").get_by_role("option")
    box.press_sequentially("ta")
    expect(options.first).to_contain_text("tag")
    assert violations(page) == []
    for key in ("ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(box).to_have_value("tag:")
    expect(options).to_have_count(1)
    for key in ("ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect(box).to_have_value('tag:"two words"')
    page.keyboard.type(" config.be")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type(">=0.1 lo")
    expect(options.filter(has_text="metric")).to_have_text(["lossmetric"])
    page.keyboard.press("Escape")
    expect(options).to_have_count(0)
    expect(box).to_have_value('tag:"two words" config.beta>=0.1 lo')
    page.keyboard.type("ss<")
    problem = page.locator("#runs-query-problem")
    expect(problem).to_contain_text("loss<: a number was expected after <, at character 38")
    assert violations(page) == []
    page.keyboard.type("0.6")
    expect(page.get_by_role("link", name="iron")).to_have_count(0)
    expect(problem).to_be_empty()
    expect(page.get_by_role("link", name="zinc")).to_be_visible()
    expect(box).to_be_focused()


def test_columns_are_chosen_put_in_order_and_kept_by_the_address(visit: Visit, team: Team) -> None:
    log(make_run(team, "zinc", config={"beta": 0.25}), loss=line(2, 0.5), eval__loss=line(3, 1))
    page = visit("/runs/")
    heads = page.locator(".runs-table th[title]")
    page.get_by_role("button", name="Columns").click()
    dialog = page.get_by_role("dialog", name="Columns")
    dialog.get_by_label("Find a setting or a metric").fill("eval/loss")
    dialog.get_by_role("button", name="Show eval/loss min").click()
    dialog.get_by_label("Find a setting or a metric").fill("beta")
    dialog.get_by_role("button", name="Show config.beta").click()
    dialog.get_by_role("button", name="Take Dataset out").click()
    dialog.get_by_role("button", name="Move config.beta to the left").press("Enter")
    expect(dialog.get_by_role("button", name="Move config.beta to the left")).to_be_focused()
    shown = dialog.get_by_role("list", name="Shown").get_by_role("listitem")
    drag(shown.filter(has_text="eval/loss min"), shown.filter(has_text="Loss").first)
    expect(shown).to_have_text(["State", "eval/loss min", "Loss", "Method", "Created", "config.beta"])
    assert violations(page) == []
    dialog.get_by_role("button", name="Show these").click()
    wanted = ["Run", "State", "eval/loss min", "Loss", "Method", "Created", "beta"]
    expect(heads).to_have_text(wanted)
    heads.get_by_role("link", name="beta").click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("beta")
    page.reload()
    expect(heads).to_have_text(wanted)
    expect(page.locator("td.value-column").last).to_have_text("0.25")
    assert violations(page) == []


def test_an_open_menu_outlives_live_refreshes(visit: Visit, team: Team) -> None:
    run = make_run(team, "zinc")
    page = visit("/runs/")
    expect(page.locator("body[data-live='on']")).to_be_attached()
    page.locator("#views-menu > summary").click()
    Run.objects.filter(pk=run.pk).update(status=Status.FAILED)
    publish(f"team:{team.pk}", "status", {"run": str(run.pk)})
    page.wait_for_timeout(1_500)  # longer than an event takes to be followed
    expect(page.locator("#views-menu")).to_have_attribute("open", "")
    row = page.get_by_role("row").filter(has_text="zinc")
    expect(row).to_contain_text("Queued")
    page.keyboard.press("Escape")
    expect(row).to_contain_text("Failed")


def test_a_view_is_saved_changed_and_deleted(visit: Visit, team: Team) -> None:
    make_run(team, "zinc", tags=["night"])
    make_run(team, "iron")
    page = visit("/runs/?q=tag:night")
    page.get_by_role("button", name="Save as a view").click()
    dialog = page.get_by_role("dialog", name="Save as a view")
    dialog.get_by_label("Name").fill("nights")
    dialog.get_by_label("Begin with it").check()
    assert violations(page) == []
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("region", name="Messages")).to_contain_text("The view nights is saved")
    page = visit("/runs/")
    expect(page.locator("#views-menu > summary")).to_contain_text("nights")
    expect(page.get_by_role("link", name="iron")).to_have_count(0)
    page.get_by_role("combobox", name="Search runs").fill("iron or tag:night")
    expect(page.get_by_role("link", name="iron", exact=True)).to_be_visible()
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("button", name="Save changes")).to_have_count(0)
    assert RunView.objects.get().query == "iron or tag:night"
    # A refusal is told within the dialog, which keeps what was typed.
    page.get_by_role("button", name="Save as a view").click()
    dialog.get_by_label("Name").fill("Nights")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_contain_text("You have a view of the name Nights already")
    expect(dialog.get_by_label("Name")).to_have_value("Nights")
    dialog.get_by_role("button", name="Cancel").click()
    page.locator("#view-menu > summary").click()
    assert violations(page) == []
    page.get_by_role("button", name="Delete", exact=True).click()
    question = page.get_by_role("dialog").filter(has_text="Delete the view nights?")
    question.get_by_role("button", name="Delete").click()
    expect(page.locator("#views-menu > summary")).to_contain_text("All runs")
    assert not RunView.objects.exists()
