"""Cards of datasets."""

import html
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support.api import ApiClient
from tests.webapp.datasets import files
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, User
from webapp.datasets.cards import MAX_CARD, suggested_card
from webapp.datasets.choosing import dataset_filter, dataset_mix, dataset_split
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.services import dataset_convert, dataset_generate
from webapp.ui.markdown import render_markdown

Make = Callable[..., Dataset]
MakePrepared = Callable[..., DatasetVersion]


def text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.content
    return html.unescape(answer.content.decode())


def test_a_card_is_written_and_read(
    pages: Client, make_prepared: MakePrepared, django_assert_max_num_queries: Any
) -> None:
    dataset = make_prepared(files.preferences()).dataset_id
    assert "No card yet" in text(pages.get(f"/datasets/{dataset}"))
    assert 'name="base" value="0"' in text(pages.get(f"/datasets/{dataset}/card"))
    saved = pages.post(
        f"/datasets/{dataset}/card", {"base": "0", "body": "# Sums\r\n\r\n<b>Mine</b> [x](javascript:x)"}
    )
    assert saved.url == f"/datasets/{dataset}#card"
    with django_assert_max_num_queries(20):
        page = pages.get(f"/datasets/{dataset}").content.decode()
    assert "<h2>Sums</h2>" in page
    assert "&lt;b&gt;Mine" in page
    assert 'href="data:' not in page
    assert AuditEvent.objects.filter(verb="dataset.card").count() == 1
    preview = pages.post("/datasets/card-preview", {"body": "**bold** <script>"}).content.decode()
    assert preview == "<p><strong>bold</strong> &lt;script&gt;</p>\n"


def test_nothing_is_lost_when_two_write(pages: Client, api: ApiClient, make_dataset: Make) -> None:
    path = f"/datasets/{make_dataset(files.conversations()).pk}/card"
    assert api.patch(path, {"version": 0, "body": "Theirs."}).json()["version"] == 1
    refused = text(pages.post(path, {"base": "0", "body": "Mine."}), 409)
    for words in ("has saved version 1 meanwhile", "Theirs.", "Mine.", 'name="base" value="1"', "data-unsaved"):
        assert words in refused
    assert pages.post(path, {"base": "1", "body": "Both."}).status_code == 302
    late = api.patch(path, {"version": 1, "body": "Late."})
    assert late.status_code == 409
    assert "version 2" in late.json()["error"]["message"]
    found = api.patch(path, {"version": 1, "body": "Both."}).json()
    assert (found["version"], found["body"]) == (2, "Both."), "a text that is there already is no conflict"


@pytest.mark.parametrize(("body", "problem"), [("x" * (MAX_CARD + 1), "at most 50,000"), ("\0", "NUL")])
def test_a_text_that_is_not_accepted(
    pages: Client, api: ApiClient, make_dataset: Make, body: str, problem: str
) -> None:
    path = f"/datasets/{make_dataset(files.conversations()).pk}/card"
    refused = api.patch(path, {"version": 0, "body": body})
    assert refused.status_code == 422
    assert problem in refused.json()["error"]["fields"]["body"][0]
    assert pages.post(path, {"base": "0", "body": body}).status_code == 422
    assert pages.post("/datasets/card-preview", {"body": body}).status_code == 422
    assert api.get(path).json()["version"] == 0


def test_only_members_write(
    signed_in: Any, api_of: Callable[[User], ApiClient], viewer: User, outsider: User, make_dataset: Make
) -> None:
    path = f"/datasets/{make_dataset(files.conversations()).pk}/card"
    for user, page, read, write in ((viewer, 403, 200, 403), (outsider, 404, 404, 404)):
        assert signed_in(user).get(path).status_code == page
        assert api_of(user).get(path).status_code == read
        assert api_of(user).patch(path, {"version": 0, "body": "x"}).status_code == write


def test_filling_keeps_what_is_written(pages: Client, api: ApiClient, make_prepared: MakePrepared) -> None:
    version = make_prepared(
        files.preferences(), name="a*b|c", origin="distilled", origin_model="teacher", description="About sums."
    )
    path = f"/datasets/{version.dataset_id}/card"
    page = text(pages.post(path, {"base": "0", "body": "Mine first.", "fill": "yes"}))
    card = api.get(path).json()
    assert (card["version"], card["updated_at"], card["updated_by"]) == (0, None, None), "nothing is saved yet"
    assert f"Mine first.\n\n{card['suggested']}" in page.replace("\r\n", "\n")
    for words in (
        "# a\\*b\\|c",
        "20 rows of the format preference",
        "| chosen |",
        "Distilled from a model: teacher.",
        "Uploaded as rows.jsonl",
        "chosen from chosen",
        "## Licence",
        "About sums.",
    ):
        assert words in card["suggested"]
    assert "<h2>a*b|c</h2>" in render_markdown(card["suggested"])


def test_what_is_known_of_derived_rows(actor: Actor, make_prepared: MakePrepared) -> None:
    pairs, more = make_prepared(files.preferences(), name="pairs"), make_prepared(files.preferences(9), name="more")
    link = f"[pairs, version 1](/datasets/{pairs.dataset_id}?version=1)"
    train, _ = dataset_split(actor=actor, version=pairs, share=0.2, by="prompt", seed=3)
    parts = [(str(one.dataset_id), 1.0) for one in (pairs, more)]
    made = {
        f"Converted from {link}, whose format is preference.": dataset_convert(
            actor=actor, version=pairs, to="prompt-completion"
        ),
        f"The rows of {link} that fit: no repeats.": dataset_filter(actor=actor, version=pairs, distinct=True),
        f"The train side of {link}, split by prompt with seed 3.": train,
        "- 9 of the 20 rows of pairs": dataset_mix(actor=actor, parts=parts),
        "Made up by gcd, of reasoning-gym": dataset_generate(actor=actor, team=actor.current_team, task="gcd", size=3),
    }
    for words, version in made.items():
        known = suggested_card(version)
        assert words in known
        assert "not ready yet" in known
