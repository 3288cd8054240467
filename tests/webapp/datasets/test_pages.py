"""The dataset pages."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support.runs import make_run
from tests.webapp.datasets import files
from webapp.accounts.models import Team, User
from webapp.datasets.models import Dataset, DatasetVersion

Make = Callable[..., Dataset]
MakePrepared = Callable[..., DatasetVersion]
HTMX = {"HX-Request": "true"}


def text(response: Any) -> str:
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def test_an_empty_list_says_what_to_do(pages: Client) -> None:
    page = text(pages.get("/datasets/"))
    assert "No datasets yet" in page
    assert "data-drop" in page


def test_the_list_shows_each_dataset(
    pages: Client, make_prepared: MakePrepared, make_dataset: Make, team: Team
) -> None:
    version = make_prepared(files.preferences(), name="pairs", origin="synthetic")
    make_run(team, dataset_version=version)
    make_dataset(files.conversations(), name="waiting")
    page = text(pages.get("/datasets/"))
    for words in ("pairs", "preference", "Synthetic", "waiting", "Processing", f"/datasets/{version.dataset_id}"):
        assert words in page
    found = text(pages.get("/datasets/?q=PAIR", headers=HTMX))
    assert "pairs" in found
    assert "waiting" not in found
    assert "<html" not in found
    assert "No dataset has this in its name" in text(pages.get("/datasets/?q=zzz"))


def test_long_lists_have_pages(pages: Client, make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.datasets.views.PAGE", 2)
    for number in range(3):
        make_dataset(files.conversations(1), name=f"set-{number}")
    first = text(pages.get("/datasets/"))
    assert "set-2" in first
    assert "set-0" not in first
    cursor = first.partition("cursor=")[2].partition('"')[0]
    assert "set-0" in text(pages.get(f"/datasets/?cursor={cursor}"))


def test_viewers_see_no_buttons(signed_in: Any, viewer: User, make_prepared: MakePrepared) -> None:
    version = make_prepared(files.conversations())
    client = signed_in(viewer)
    assert "data-drop" not in text(client.get("/datasets/"))
    page = text(client.get(f"/datasets/{version.dataset_id}"))
    for words in ("Use this mapping", "Train on it", 'id="edit"', "/delete"):
        assert words not in page
    for path in ("mapping", "edit", "delete"):
        assert client.post(f"/datasets/{version.dataset_id}/{path}", {}).status_code == 403


def test_other_teams_find_nothing(signed_in: Any, outsider: User, make_prepared: MakePrepared) -> None:
    version = make_prepared(files.conversations())
    client = signed_in(outsider)
    for path in ("", "/rows", "/mapping"):
        assert client.get(f"/datasets/{version.dataset_id}{path}").status_code == 404
    for path in ("/mapping", "/edit", "/delete"):
        assert client.post(f"/datasets/{version.dataset_id}{path}", {}).status_code == 404
    assert "sums" not in text(client.get("/datasets/"))


def test_a_dataset_at_work(pages: Client, make_dataset: Make) -> None:
    dataset = make_dataset(files.conversations())
    page = text(pages.get(f"/datasets/{dataset.pk}"))
    assert "Waiting for a worker" in page
    assert "live:progress" in page
    dataset.versions.update(
        attempts=1, progress={"phase": "preparing", "rows": 1234, "bytes_done": 5, "bytes_total": 10}
    )
    fragment = text(pages.get(f"/datasets/{dataset.pk}", headers=HTMX))
    assert "1,234 rows so far" in fragment
    assert 'aria-valuenow="50"' in fragment
    assert "<html" not in fragment
    assert pages.get(f"/datasets/{dataset.pk}/rows").status_code == 409


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (files.conversations(), ["What is 0 + 1?", "turn user", "turn assistant"]),
        (files.preferences(), ["Chosen", "Rejected", "Nobody knows."]),
        (files.questions(), ["Solution", "Answer", "One more."]),
        (
            files.jsonl([{"prompt": f"p{n}", "completion": f"c{n}", "label": n % 2 == 0} for n in range(9)]),
            ["thumbs", "good", "bad", "5 · 56 %"],
        ),
        (files.jsonl([{"text": f"The <b>bold</b> number {n}."} for n in range(9)]), ["&lt;b&gt;bold&lt;/b&gt;"]),
        (
            files.jsonl(
                [{"prompt": f"p{n}", "completions": ["one", "two"], "labels": [True, False]} for n in range(9)]
            ),
            ["step 1, right", "step 2, wrong"],
        ),
        (
            files.jsonl(
                [
                    {
                        "messages": [
                            {"role": "user", "content": "Hi"},
                            {"role": "assistant", "content": "No", "weight": 0},
                            {"role": "user", "content": "Please"},
                            {"role": "assistant", "content": "Hello", "weight": 1},
                        ]
                    }
                ]
                * 3
            ),
            ["assistant, not learned"],
        ),
    ],
)
def test_rows_of_every_format(pages: Client, make_prepared: MakePrepared, content: bytes, words: list[str]) -> None:
    version = make_prepared(content)
    assert version.status == "ready", version.report["error"]
    page = text(pages.get(f"/datasets/{version.dataset_id}"))
    for word in words:
        assert word in page
    assert "<b>bold" not in page


def test_rows_by_the_page(pages: Client, make_prepared: MakePrepared) -> None:
    path = f"/datasets/{make_prepared(files.conversations(25)).dataset_id}/rows"
    fragment = text(pages.get(path, {"offset": 10}, headers=HTMX))
    assert "Rows 11 to 20 of 25" in fragment
    assert "What is 10 + 1?" in fragment
    assert "offset=20" in fragment
    assert "<html" not in fragment
    assert "<html" in text(pages.get(path, {"offset": 10}))
    for offset, shown in (("20", "21 to 25"), ("999", "25 to 25"), ("x", "1 to 10"), ("-5", "1 to 10")):
        assert f"Rows {shown} of 25" in text(pages.get(path, {"offset": offset}, headers=HTMX))


def test_long_texts_are_cut(pages: Client, make_prepared: MakePrepared) -> None:
    version = make_prepared(files.jsonl([{"text": "y" * 50_000} for _ in range(3)]))
    page = text(pages.get(f"/datasets/{version.dataset_id}"))
    assert "48,000 more characters" in page
    assert len(page) < 100_000


def test_an_invalid_file_says_what_to_do(pages: Client, make_prepared: MakePrepared) -> None:
    version = make_prepared(files.half_a_line_at_1000())
    page = text(pages.get(f"/datasets/{version.dataset_id}"))
    for words in ("Row 1,000 is not valid JSON", "1,000", "json.syntax", "Mapping"):
        assert words in page
    nothing = make_prepared(bytes(range(256)) * 9, name="junk")
    page = text(pages.get(f"/datasets/{nothing.dataset_id}"))
    assert "binary" in page
    assert 'id="mapping"' not in page


def test_the_mapping_editor_starts_from_what_was_found(pages: Client, make_prepared: MakePrepared) -> None:
    path = f"/datasets/{make_prepared(files.preferences()).dataset_id}/mapping"
    editor = text(pages.get(path, headers=HTMX))
    assert '<option value="chosen" selected>chosen</option>' in editor
    assert "8 of the first 8 rows fit" in editor
    other = text(pages.get(path, {"format": "text"}, headers=HTMX))
    assert 'name="column-text"' in other
    assert "Choose the columns for text." in other
    assert 'name="column-chosen"' not in other
    unknown = text(pages.get(path, {"format": "nonsense"}, headers=HTMX))
    assert 'name="column-chosen"' in unknown


def test_the_preview_follows_the_mapping(pages: Client, make_prepared: MakePrepared) -> None:
    path = f"/datasets/{make_prepared(files.preferences()).dataset_id}/mapping"
    asked = {"format": "conversation", "column-prompt": "prompt", "column-completion": "rejected"}
    preview = text(pages.get(path, asked, headers=HTMX)).partition('id="mapping-preview"')[2]
    assert "8 of the first 8 rows fit" in preview
    assert "turn assistant" in preview
    half = text(pages.get(path, {"format": "conversation", "column-prompt": "prompt"}, headers=HTMX))
    assert "conversation takes messages" in half
    odd = {**asked, "option-roles": "customer is user"}
    assert "is not of the form name = one of" in text(pages.get(path, odd, headers=HTMX))


def test_using_a_mapping(pages: Client, make_prepared: MakePrepared) -> None:
    version = make_prepared(files.preferences())
    path = f"/datasets/{version.dataset_id}/mapping"
    wrong = pages.post(path, {"format": "conversation", "column-prompt": "prompt"})
    assert wrong.status_code == 422
    assert "conversation takes messages" in wrong.content.decode()
    unknown = pages.post(path, {"format": "text", "column-text": "elsewhere"})
    assert unknown.status_code == 422
    assert 'id="mapping-column-text_error"' in unknown.content.decode()
    done = pages.post(
        path,
        {
            "format": "conversation",
            "column-prompt": "prompt",
            "column-completion": "chosen",
            "option-roles": "bot = assistant",
        },
    )
    assert done.status_code == 302
    made = version.dataset.versions.get(number=2)
    assert made.requested_mapping == {
        "format": "conversation",
        "columns": {"prompt": "prompt", "completion": "chosen"},
        "options": {"roles": {"bot": "assistant"}},
    }
    assert "Version 1" in text(pages.get(f"/datasets/{version.dataset_id}?version=1"))
    assert pages.get(f"/datasets/{version.dataset_id}?version=9").status_code == 404


def test_editing(pages: Client, make_dataset: Make) -> None:
    dataset = make_dataset(files.conversations())
    make_dataset(files.conversations(), name="other")
    path = f"/datasets/{dataset.pk}/edit"
    values = {"name": "renamed", "description": "About sums.", "origin": "distilled", "origin_model": "teacher"}
    assert pages.post(path, values).status_code == 302
    dataset.refresh_from_db()
    assert (dataset.name, dataset.origin_model) == ("renamed", "teacher")
    refused = pages.post(path, {**values, "name": "Other"})
    assert refused.status_code == 422
    page = refused.content.decode()
    assert "is taken" in page
    assert "<h1>renamed</h1>" in page


def test_deleting(pages: Client, make_prepared: MakePrepared, team: Team) -> None:
    used = make_prepared(files.conversations(), name="used")
    run = make_run(team, "the run", dataset_version=used)
    page = text(pages.get(f"/datasets/{used.dataset_id}"))
    assert "the run" in page
    assert "20 rows in 1 version and the uploaded file are lost" in page
    refused = pages.post(f"/datasets/{used.dataset_id}/delete")
    assert refused.status_code == 409
    assert str(run.pk) in refused.content.decode()
    free = make_prepared(files.conversations(), name="free")
    assert pages.post(f"/datasets/{free.dataset_id}/delete").status_code == 302
    assert not Dataset.objects.filter(name="free").exists()


def test_names_are_shown_and_not_run(pages: Client, make_prepared: MakePrepared) -> None:
    name = "<script>alert(1)</script>\"'"
    version = make_prepared(files.conversations(), "a<img src=x>.jsonl", name=name, description=name)
    for path in ("/datasets/", f"/datasets/{version.dataset_id}"):
        page = text(pages.get(path))
        assert "<script>alert" not in page
        assert "<img" not in page
