"""What two sets of rows have in common."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from polm_core.data import diff
from polm_core.data.diff import DiffAnswer, DiffJob, RowsDiff, asked, diff_rows
from polm_core.data.prepare import encode_row
from polm_core.data.rows import ROWS_NAME, RowsWriter
from polm_core.data.values import Row


def stored(folder: Path, rows: list[Row]) -> Path:
    folder.mkdir(parents=True)
    with RowsWriter(folder) as writer:
        for row in rows:
            writer.write(encode_row(row))
    return folder


def compared(folder: Path, before: list[Row], after: list[Row]) -> RowsDiff:
    scratch = folder / "scratch"
    scratch.mkdir()
    return diff_rows(stored(folder / "a", before), stored(folder / "b", after), scratch)


def pair(prompt: str, answer: str) -> Row:
    return {"prompt": prompt, "completion": answer}


def test_rows_are_told_apart_by_content(tmp_path: Path) -> None:
    before = [pair("a", "1"), pair("b", "2"), pair("gone", "3"), pair("twice", "4"), pair("twice", "4")]
    after = [pair("new", "9"), {"completion": "1", "prompt": "a"}, pair("twice", "4"), pair("b", "two")]
    found = compared(tmp_path, before, after)
    assert (found.same, found.changed, found.only_before, found.only_after) == (2, 1, 2, 1)
    assert found.changed_at == [(1, 3)]
    assert found.only_before_at == [2, 4], "the second of two equal rows is one too many"
    assert found.only_after_at == [0]


def test_answers_to_one_prompt_are_paired_in_their_order(tmp_path: Path) -> None:
    before = [pair("a", "1"), pair("a", "2"), pair("a", "3")]
    found = compared(tmp_path, before, [pair("a", "x"), pair("a", "2"), pair("a", "y"), pair("a", "z")])
    assert (found.same, found.changed_at, found.only_after_at) == (1, [(0, 0), (2, 2)], [3])


def test_every_row_is_counted_once_and_the_first_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "LISTED", 5)
    chance = random.Random(0)
    before, after = ([pair(f"p{chance.randrange(300)}", str(chance.randrange(2))) for _ in range(400)] for _ in "ab")
    found = compared(tmp_path, before, after)
    assert found.same + found.changed + found.only_before == len(before)
    assert found.same + found.changed + found.only_after == len(after)
    assert min(found.same, found.changed, found.only_before) > 5
    for listed in (found.changed_at, found.only_before_at, found.only_after_at):
        assert len(listed) == 5
        assert listed == sorted(listed)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Why?", "answer": "So."}, ["Why?"]),
        ({"prompt": [{"role": "user", "content": "Why?"}], "chosen": "a"}, ["Why?"]),
        (
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
            ["Why?"],
        ),
        ({"prompt": "What is it?", "images": ["a.png"], "completion": "A cat"}, ["What is it?", "a.png"]),
        ({"title": "Saltmere", "text": "A town."}, ["Saltmere"]),
        ({"text": "Plain."}, None),
        ({"messages": [{"role": "assistant", "content": "Hi."}]}, None),
    ],
)
def test_what_a_row_asks(row: Row, expected: list[str] | None) -> None:
    assert asked(row) == expected


def test_the_process_tells_what_it_found_or_why_not(tmp_path: Path) -> None:
    before, after = stored(tmp_path / "a", [pair("a", "1")]), stored(tmp_path / "b", [pair("a", "2")])
    job = tmp_path / "job.json"

    def run() -> DiffAnswer:
        job.write_text(DiffJob(before=before, after=after).model_dump_json())
        subprocess.run([sys.executable, "-m", "polm_core.data.diff", str(job)], check=True)
        return DiffAnswer.model_validate(json.loads((tmp_path / "answer.json").read_bytes()))

    answer = run()
    assert answer.diff is not None
    assert answer.diff.changed == 1
    (after / ROWS_NAME).unlink()
    answer = run()
    assert answer.error is not None
    assert "no longer in the artifact store" in answer.error["message"]
