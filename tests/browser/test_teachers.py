"""Methods that learn from a teacher: choosing it beside the model, and seeing with the run who it was."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support import factories
from tests.support.checkpoints import make_base_model, make_checkpoint
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.runs.models import Run

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]

TALKS = b"".join(b'{"prompt": "%d + 1 =", "completion": "%d"}\n' % (n, n + 1) for n in range(8))


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_teacher_is_chosen_on_the_form(visit: Visit, team: Team, member: User, width: int, theme: str) -> None:
    make_base_model(team, "small")
    teacher = make_checkpoint(team, "teaches @ 20")
    rows = factories.make_version(Actor(member), "sums", TALKS)
    page = visit(f"/runs/new?method=distill&dataset={rows.dataset_id}", width=width, theme=theme)
    page.get_by_label("Start from").select_option(label="small")
    expect(page.locator("#launch-reason")).to_contain_text("Choose a teacher model.")
    expect(page.locator("#teacher_model-help")).to_contain_text("read the same tokens")
    page.get_by_label("Teacher model").select_option(label="teaches @ 20")
    expect(page.get_by_role("button", name="Launch run")).to_be_enabled()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Launch run").click()
    page.wait_for_url("**/runs/*-*")
    expect(page.locator(".run-facts")).to_contain_text("Teacher")
    assert violations(page) == []
    made = Run.objects.get()
    assert made.teacher_model is not None
    assert made.teacher_model.checkpoint == teacher
