"""Exporting a checkpoint from its page: it says how far, refreshes by itself, and what is made can be fetched."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_frame import violations
from tests.support.checkpoints import make_checkpoint
from tests.support.exports import finish
from tests.webapp.registry.test_exports import REPORT
from webapp.accounts.models import Team, User
from webapp.claimed import WorkStatus
from webapp.registry.models import Export, ParityCheck

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Visit = Callable[..., Page]


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_checkpoint_is_exported_fetched_and_checked(
    visit: Visit, team: Team, member: User, width: int, theme: str
) -> None:
    checkpoint = make_checkpoint(team)
    page = visit(f"/models/checkpoints/{checkpoint.pk}", width=width, theme=theme)
    table = page.get_by_role("region", name="Exports", exact=True)
    table.get_by_role("button", name="Export as Merged safetensors").click()
    page.wait_for_url("**#exports")
    expect(table).to_contain_text("for a worker")
    assert violations(page) == []
    finish(Export.objects.get(), b"weights")

    # The page learns of the end by itself.
    with page.expect_download(timeout=15_000) as fetched:
        table.get_by_role("link", name="Download Merged safetensors").click()
    with zipfile.ZipFile(io.BytesIO(Path(fetched.value.path()).read_bytes())) as opened:
        assert opened.read("first-20-merged/first-20.safetensors") == b"weights"

    page.get_by_label("Prompts of your own").fill("How late?")
    page.get_by_role("button", name="Check", exact=True).click()
    result = page.get_by_role("region", name="Are the exports what was trained?")
    expect(result).to_contain_text("waiting for a worker")
    assert ParityCheck.objects.get().prompts[-1] == "How late?"
    ParityCheck.objects.update(status=WorkStatus.DONE, report=REPORT)
    expect(result.locator("mark")).to_have_text(["twelve", "<b>"], timeout=15_000)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    table.get_by_role("button", name="Delete Merged safetensors").click()
    page.get_by_role("button", name="Delete", exact=True).last.click()
    expect(table.get_by_role("button", name="Export as Merged safetensors")).to_be_visible()
    assert not Export.objects.exists()
