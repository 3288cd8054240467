"""Every class of bad file: refused at once, or invalid with words that say what is wrong and where."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.support.api import ApiClient
from tests.webapp.datasets import files
from webapp import artifacts
from webapp.datasets.models import DatasetVersion
from webapp.datasets.services import version_folder
from workers.datasets import process


def outcome(api: ApiClient, filename: str, content: bytes) -> dict[str, Any]:
    """The dataset after upload and processing; the upload itself must be accepted."""
    answer = api.post("/datasets", files={"file": SimpleUploadedFile(filename, content)}, form={"name": "bad"})
    assert answer.status_code == 201, answer.content
    process(str(DatasetVersion.objects.get().pk))
    found: dict[str, Any] = api.get(f"/datasets/{answer.json()['id']}").json()
    return found


def test_an_empty_file_is_refused_at_once(api: ApiClient) -> None:
    answer = api.post("/datasets", files={"file": SimpleUploadedFile("a.jsonl", b"")}, form={"name": "bad"})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "The file is empty."


@pytest.mark.parametrize(
    ("filename", "content", "said"),
    [
        ("blank.jsonl", lambda: b"\n \n", "empty|no rows"),
        ("junk.jsonl", lambda: bytes(range(256)) * 100, "binary"),
        ("photo.json", lambda: b"\x89PNG\r\n\x1a\n" + bytes(2000), "image|binary|PNG"),
        ("wide.csv", files.many_columns, "100,000 columns; at most 1,000"),
        ("bomb.jsonl.gz", files.zip_bomb, "unpack|decompress|larger|ratio|times|MB"),
        ("pairs.jsonl", files.without_rejected, "rejected"),
        ("table.jsonl", lambda: b"prompt,completion\na,b\n", "not what its name says"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    api: ApiClient, filename: str, content: Callable[[], bytes], said: str
) -> None:
    found = outcome(api, filename, content())
    assert found["status"] == "invalid"
    assert pytest.approx(found["rows"]) == 0
    message = f"{found['error']['message']} {found['error']['advice']}"
    assert any(word in message for word in said.split("|")), message
    assert found["error"]["advice"]
    (problem, *others) = found["problems"]
    assert (problem["message"], problem["remedy"]) == (found["error"]["message"], found["error"]["advice"])
    assert others == []
    version = DatasetVersion.objects.get()
    assert not any("rows" in str(path) for path in artifacts.local_folder(version_folder(version.pk)).iterdir())


@pytest.mark.parametrize(
    ("filename", "content", "row", "said"),
    [
        ("half.jsonl", files.half_a_line_at_1000, 1000, "not valid JSON"),
        ("long.jsonl", files.with_a_large_row, 6, "8.0 MB"),
        ("ragged.csv", files.ragged_csv, 11, "4"),
        ("latin.jsonl", files.latin_1, None, "UTF-8"),
    ],
)
def test_a_fault_in_a_row_names_the_row(
    api: ApiClient, filename: str, content: Callable[[], bytes], row: int | None, said: str
) -> None:
    found = outcome(api, filename, content())
    assert found["status"] == "invalid"
    everything = [found["error"]["message"], *(problem["message"] for problem in found["problems"])]
    assert any(said in message for message in everything), everything
    if row is not None:
        assert row in [problem["row"] for problem in found["problems"]]
        assert all(problem["remedy"] and problem["rule"] for problem in found["problems"])


def test_few_bad_rows_are_left_out_and_named_by_column(api: ApiClient) -> None:
    rows = [{"prompt": f"Say {number}.", "completion": str(number)} for number in range(40)]
    rows[7]["completion"] = ""
    found = outcome(api, "few.jsonl", files.jsonl(rows))
    assert (found["status"], found["rows"], found["rows_total"]) == ("ready", 39, 40)
    (problem,) = found["problems"]
    assert (problem["row"], problem["column"], problem["rule"]) == (8, "completion", "completion.empty")
    assert found["problem_counts"] == {"completion.empty": 1}
