"""Previews of files and of what preparation left behind."""

import json
from pathlib import Path

import pytest

from polm_core.data.mapping import Mapping
from polm_core.data.preview import preview, preview_head
from polm_core.errors import DataError
from polm_core.formats import Format
from tests.polm_core.data.conftest import Prepare, jsonl
from tests.polm_core.data.shapes import assistant, user

ROWS = [{"instruction": f"Say {n}", "output": f"{n}" if n != 1 else ""} for n in range(30)]


def test_the_head_of_a_file_under_the_likeliest_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(ROWS))

    shown = preview(path, n=3)

    assert [column.path for column in shown.columns] == ["instruction", "output"]
    assert shown.mapping is not None
    assert shown.mapping.format == Format.CONVERSATION
    assert [row.row for row in shown.rows] == [1, 2, 3]
    assert shown.rows[0].source == ROWS[0]
    assert shown.rows[0].mapped == {"messages": [user("Say 0"), assistant("0")]}
    assert shown.rows[1].mapped is None
    assert shown.rows[1].problem is not None
    assert shown.rows[1].problem.rule == "completion.empty"


def test_a_mapping_by_hand_changes_what_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(jsonl(ROWS))

    shown = preview(path, Mapping(format=Format.TEXT, columns={"text": "instruction"}), 1, filename="a.jsonl")

    assert shown.rows[0].mapped == {"text": "Say 0"}


def test_a_file_of_unknown_format_is_shown_without_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("left,right\nsome words,other words\n")

    shown = preview(path)

    assert shown.mapping is None
    assert shown.rows[0].source == {"left": "some words", "right": "other words"}
    assert shown.rows[0].mapped is None


def test_only_the_head_of_a_large_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(json.dumps(ROWS).encode()[:-1] + b",\n" + b" " * 10_000_000)
        # A hole of 2 GB: reading on would take long, and fail.
        file.truncate(2 * 2**30)

    shown = preview(path, n=30)

    assert len(shown.rows) == 30


def test_long_values_are_shortened(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl([{"text": "x" * 10_000, "list": list(range(100)), "odd": "a\0b"}]))

    row = preview(path).rows[0]

    assert len(row.source["text"]) == 401
    assert len(row.source["list"]) == 20
    assert row.source["odd"] == "a\N{SYMBOL FOR NULL}b"
    json.dumps(row.model_dump())


def test_a_bad_file_and_a_bad_mapping_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": \n')

    with pytest.raises(DataError, match="Row 1 is not valid JSON"):
        preview(path)
    path.write_bytes(jsonl([{"text": "a"}]))
    with pytest.raises(DataError, match="no column 'txt'; there is text"):
        preview(path, Mapping(format=Format.TEXT, columns={"text": "txt"}))


def test_mappings_can_be_tried_on_what_preparation_left_behind(prepare_bytes: Prepare, out: Path) -> None:
    report = prepare_bytes(jsonl([{"left": f"{n}?", "right": f"{n}."} for n in range(100)]))

    shown = preview_head(
        out, Mapping(format=Format.CONVERSATION, columns={"prompt": "left", "completion": "right"}), 200
    )

    assert report.error is not None
    assert len(shown.rows) == 50
    assert shown.rows[49].mapped == {"messages": [user("49?"), assistant("49.")]}


def test_there_may_be_nothing_to_try_mappings_on(prepare_bytes: Prepare, out: Path) -> None:
    prepare_bytes(b"", "a.csv")

    with pytest.raises(DataError, match="nothing to map"):
        preview_head(out)
