"""A project's settings, and what its runs' checkpoints tell of them."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support import factories
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import make_run
from webapp.accounts.models import Role, Team, User
from webapp.runs.models import Project, RemovedCheckpoint, Run, RunCheckpoint, Status

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


@pytest.fixture
def member(team: Team) -> User:
    """Who visits: an admin, here."""
    return factories.make_user("ada", team, Role.ADMIN)


@pytest.fixture
def run(team: Team) -> Run:
    found = make_run(team, "zinc run", status=Status.SUCCEEDED)
    RunCheckpoint.objects.create(run=found, checkpoint=make_checkpoint(team, "zinc @ 20", step=20), step=20)
    RemovedCheckpoint.objects.create(run=found, step=10)
    return found


def test_an_admin_goes_from_the_checkpoints_to_what_is_kept(visit: Visit, run: Run) -> None:
    page = visit(f"/runs/{run.pk}#checkpoints")
    page.get_by_role("tab", name="Checkpoints").click()
    panel = page.get_by_role("tabpanel", name="Checkpoints")
    panel.get_by_text("1 removed by retention").click()
    expect(panel).to_contain_text("Step 10: removed by retention")
    panel.get_by_role("link", name="Change").click()
    page.get_by_label("Newest checkpoints to keep of each run").fill("2")
    page.get_by_label("Also keep the best by").fill("eval/loss")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("region", name="Messages")).to_contain_text("Saved.")
    project = Project.objects.get()
    assert (project.keep_last, project.keep_best_metric) == (2, "eval/loss")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pages_are_accessible_and_fit(visit: Visit, run: Run, width: int, theme: str) -> None:
    for address in (f"/projects/{run.project_id}", f"/runs/{run.pk}"):
        page = visit(address, width=width, theme=theme)
        if address.startswith("/runs/"):
            page.get_by_role("tab", name="Checkpoints").click()
            expect(page.get_by_text("1 removed by retention")).to_be_visible()
        page.wait_for_load_state()
        assert violations(page) == [], address
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
