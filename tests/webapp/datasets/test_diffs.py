"""Two versions of a dataset compared: by the worker, over the API, on the page."""

import html
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.api import ApiClient
from tests.webapp.datasets import files
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.datasets.diffs import RETRY_AFTER, diff_claim, diff_finish, diff_release, diffs_wait
from webapp.datasets.models import DatasetVersion, VersionDiff
from webapp.datasets.services import dataset_remap
from workers.datasets import process
from workers.diffs import compare

MakePrepared = Callable[..., DatasetVersion]
WHOLE = {
    "format": "prompt-answer",
    "columns": {"prompt": "question", "answer": "answer"},
    "options": {"answer_extractor": "none"},
}
OTHER = {"format": "text", "columns": {"text": "question"}}


@pytest.fixture
def remapped(actor: Actor, make_prepared: MakePrepared) -> Callable[..., DatasetVersion]:
    """A dataset of questions with another version for each mapping; answers with the first."""

    def make(*mappings: dict[str, Any], count: int = 12) -> DatasetVersion:
        first = make_prepared(files.questions(count))
        for mapping in mappings:
            made = dataset_remap(actor=actor, dataset=first.dataset, mapping=mapping)
            process(str(made.pk))
        return first

    return make


def text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.content
    return html.unescape(answer.content.decode())


def test_answers_that_changed_are_shown_word_by_word(
    pages: Client,
    api: ApiClient,
    remapped: Callable[..., DatasetVersion],
    django_assert_max_num_queries: Any,
) -> None:
    dataset = remapped(WHOLE).dataset_id
    path = f"/datasets/{dataset}/diff"
    waiting = text(pages.get(path))
    assert "every 2s" in waiting
    assert "Answer extractor" in waiting, "what differs in the settings is known at once"
    asked = api.get(path, {"from": 1, "to": 2}).json()
    assert (asked["status"], asked["rows"], asked["items"]) == ("waiting", None, [])

    compare()
    with django_assert_max_num_queries(14):
        page = text(pages.get(path, {"from": 1, "to": 2}))
    for words in ("12 </b>", "Changed", "1 to 10 of 12", "What is 0 + 1?", "<mark>One more.", "version 2"):
        assert words.replace(" <", "<") in page
    assert "every 2s" not in page
    with django_assert_max_num_queries(8):
        found = api.get(path, {"from": 1, "to": 2, "offset": 10}).json()
    assert found["rows"] == {"same": 0, "changed": 12, "only_before": 0, "only_after": 0}
    assert {"name": "Answer extractor", "before": "hash-marks", "after": "none"} in found["differences"]
    assert [item["before"]["number"] for item in found["items"]] == [11, 12]
    assert found["items"][0]["before"]["row"]["answer"] == "11"
    assert found["items"][0]["after"]["row"]["answer"] == "One more.\n#### 11"
    assert (found["total"], found["listed"], found["next_offset"]) == (12, 12, None)
    assert api.get(path, {"from": 2, "to": 1}).json()["status"] == "waiting", "the other way round is another question"


def test_rows_on_one_side_alone(pages: Client, api: ApiClient, remapped: Callable[..., DatasetVersion]) -> None:
    path = f"/datasets/{remapped(OTHER, count=3).dataset_id}/diff"
    api.get(path)
    compare()
    found = api.get(path, {"part": "only_after", "limit": 2}).json()
    assert found["rows"] == {"same": 0, "changed": 0, "only_before": 3, "only_after": 3}
    assert found["items"][0] == {"before": None, "after": {"number": 1, "row": {"text": "What is 0 + 1?"}}}
    assert found["next_offset"] == 2
    page = text(pages.get(path))
    assert 'part=only_before" aria-current="true"' in page, "the first kind that there is opens"
    assert "turn answer" in page
    assert "turn text" in text(pages.get(path, {"part": "only_after"}))
    assert "No rows of this kind" in text(pages.get(path, {"part": "changed"}))
    assert "behind the last row" in text(pages.get(path, {"offset": 50}))


def test_versions_with_the_same_rows_need_no_worker(
    pages: Client, api: ApiClient, actor: Actor, remapped: Callable[..., DatasetVersion]
) -> None:
    first = remapped()
    path = f"/datasets/{first.dataset_id}/diff"
    assert "beside itself. Another mapping" in text(pages.get(path))
    assert "/diff" not in text(pages.get(f"/datasets/{first.dataset_id}"))
    process(str(dataset_remap(actor=actor, dataset=first.dataset, mapping=first.report["mapping"]).pk))
    assert "Both versions hold the same rows, to the byte" in text(pages.get(path, {"from": 1, "to": 2}))
    found = api.get(path).json()
    assert (found["before"], found["after"], found["status"], found["rows"]["same"]) == (1, 2, "done", 12)
    assert not VersionDiff.objects.exists()
    assert f"/datasets/{first.dataset_id}/diff" in text(pages.get(f"/datasets/{first.dataset_id}"))


def test_versions_that_cannot_be_compared(
    pages: Client, api: ApiClient, actor: Actor, remapped: Callable[..., DatasetVersion]
) -> None:
    first = remapped()
    path = f"/datasets/{first.dataset_id}/diff"
    assert "has no version 9" in text(pages.get(path, {"from": 1, "to": 9}), 404)
    assert api.get(path, {"from": 9, "to": 1}).json()["error"]["message"] == "The dataset has no version 9."
    assert api.get(path, {"from": 0}).status_code == 422
    assert api.get(path, {"part": "all"}).status_code == 422
    dataset_remap(actor=actor, dataset=first.dataset, mapping=OTHER)
    assert "still being processed" in text(pages.get(path, {"from": 1, "to": 2}), 409)


def test_a_comparison_that_failed_says_why_and_is_tried_again(
    pages: Client, api: ApiClient, remapped: Callable[..., DatasetVersion]
) -> None:
    first = remapped(OTHER)
    path = f"/datasets/{first.dataset_id}/diff"
    api.get(path)
    artifacts.delete(first.rows_key)
    compare()
    assert "no longer in the artifact store" in text(pages.get(path))
    assert api.get(path).json()["status"] == "failed"
    VersionDiff.objects.update(asked_at=timezone.now() - 2 * RETRY_AFTER)
    found = api.get(path).json()
    assert (found["status"], found["error"]) == ("waiting", None)


def test_a_worker_that_was_lost_changes_nothing(api: ApiClient, remapped: Callable[..., DatasetVersion]) -> None:
    api.get(f"/datasets/{remapped(OTHER).dataset_id}/diff")
    first = diff_claim()
    assert first is not None
    assert diff_claim() is None
    VersionDiff.objects.update(lease_until=timezone.now() - RETRY_AFTER)
    assert diffs_wait()
    second = diff_claim()
    assert second is not None
    assert not diff_finish(diff=first, report={})
    diff_release(diff=second)
    assert VersionDiff.objects.get().status == "waiting"


def test_a_change_far_into_a_text_is_shown(
    pages: Client, api: ApiClient, actor: Actor, make_prepared: MakePrepared
) -> None:
    same = "word " * 2000
    rows = [{"question": "Why?", "first": f"{same}old end", "second": f"{same}new end"}]
    columns = [{"prompt": "question", "completion": name} for name in ("first", "second")]
    mappings = [{"format": "prompt-completion", "columns": one, "options": {"chat": False}} for one in columns]
    first = make_prepared(files.jsonl(rows * 3), mapping=mappings[0])
    process(str(dataset_remap(actor=actor, dataset=first.dataset, mapping=mappings[1]).pk))
    path = f"/datasets/{first.dataset_id}/diff"
    api.get(path)
    compare()
    page = text(pages.get(path))
    assert "<del>old</del> end" in page
    assert "<mark>new</mark> end" in page
    assert "9,8" in page.partition("characters that are the same")[0][-20:]
