"""Rows out of every kind of file, as they are written in the wild."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polm_core.data.identify import FileFacts, FileKind, identify
from polm_core.data.limits import Limits
from polm_core.data.problems import RowProblem
from polm_core.data.readers import iter_rows
from polm_core.data.source import CHUNK, ByteSource
from tests.polm_core.data.conftest import gzipped, jsonl

ROWS = [{"text": f"Row {n}: café, 数, 🎈", "n": n} for n in range(300)]


def read(path: Path, content: bytes, name: str) -> tuple[FileFacts, list[tuple[int, object]]]:
    path.write_bytes(content)
    limits = Limits()
    with ByteSource(path, limits) as source:
        facts = identify(source, name, limits)
        return facts, list(iter_rows(source, facts))


def numbered(rows: list[dict[str, object]]) -> list[tuple[int, object]]:
    return list(enumerate(rows, 1))


def parquet(rows: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=100)
    return buffer.getvalue()


FILES = {
    "data.jsonl": jsonl(ROWS),
    "data.ndjson": jsonl(ROWS),
    "lines.json": jsonl(ROWS),
    "data.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "array.jsonl": json.dumps(ROWS).encode(),
    "wrapped.json": json.dumps({"version": 1, "meta": {"by": "us"}, "data": ROWS, "end": [1, 2]}).encode(),
    "data.parquet": parquet(ROWS),
    "no-ending": jsonl(ROWS),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzipped"])
def test_every_kind_gives_all_rows_with_their_numbers(name: str, compress: bool, tmp_path: Path) -> None:
    content = gzipped(FILES[name]) if compress else FILES[name]

    facts, rows = read(tmp_path / "file", content, f"{name}.gz" if compress else name)

    assert rows == numbered(ROWS)
    assert facts.compressed == compress


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_marked_encodings_are_read(name: str, encoding: str, tmp_path: Path) -> None:
    text = json.dumps(ROWS, ensure_ascii=False) if name == "data.json" else jsonl(ROWS).decode()

    _, rows = read(tmp_path / "file", text.encode(encoding), name)

    assert rows == numbered(ROWS)


def test_blank_lines_are_passed_over_but_counted(tmp_path: Path) -> None:
    _, rows = read(tmp_path / "file", b'\n{"a": 1}\r\n\r\n   \n{"a": 2}', "data.jsonl")

    assert rows == [(2, {"a": 1}), (5, {"a": 2})]


def test_nan_is_taken_for_null(tmp_path: Path) -> None:
    _, lines = read(tmp_path / "file", b'{"a": NaN, "b": -Infinity}\n{"a": 1, "b": 2}\n', "data.jsonl")
    _, items = read(tmp_path / "file", b'[{"a": NaN, "b": -Infinity}]', "data.json")

    assert lines[0] == items[0] == (1, {"a": None, "b": None})


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_with_any_usual_delimiter(delimiter: str, encoding: str, tmp_path: Path) -> None:
    lines = ["question,answer", '"What, if ""quoted""?","Two\nlines"', "café?,yes", ",", "last one,x"]
    text = "\r\n".join(line if '"' in line else line.replace(",", delimiter) for line in lines)
    text = text.replace('","', f'"{delimiter}"')

    facts, rows = read(tmp_path / "file", text.encode(encoding), "data.csv")

    assert facts.delimiter == delimiter
    assert rows == numbered(
        [
            {"question": 'What, if "quoted"?', "answer": "Two\nlines"},
            {"question": "café?", "answer": "yes"},
            {"question": "", "answer": ""},
            {"question": "last one", "answer": "x"},
        ]
    )


def test_csv_of_one_column_and_with_an_unnamed_index(tmp_path: Path) -> None:
    _, single = read(tmp_path / "file", b"text\nhello\nworld\n", "data.csv")
    _, indexed = read(tmp_path / "file", b",text\n0,hello\n", "data.csv")

    assert single == [(1, {"text": "hello"}), (2, {"text": "world"})]
    assert indexed == [(1, {"unnamed_1": "0", "text": "hello"})]


def test_a_long_csv_text_is_read(tmp_path: Path) -> None:
    long = "x" * 300_000

    _, rows = read(tmp_path / "file", f"a,b\n1,{long}\n".encode(), "data.csv")

    assert rows == [(1, {"a": "1", "b": long})]


def test_text_is_cut_into_paragraphs_where_there_are_blank_lines_and_else_into_lines(tmp_path: Path) -> None:
    _, paragraphs = read(tmp_path / "file", b"One\nmore\n\n \nTwo\n\n", "a.txt")
    _, lines = read(tmp_path / "file", b"One\r\nmore\r\nTwo", "a.txt")

    assert paragraphs == [(1, {"text": "One\nmore"}), (2, {"text": "Two"})]
    assert lines == [(1, {"text": "One"}), (2, {"text": "more"}), (3, {"text": "Two"})]


def test_rows_survive_the_borders_of_chunks(tmp_path: Path) -> None:
    rows = [{"text": "é" * (CHUNK // 5), "n": n} for n in range(12)] + [{"n": 123456789}]
    array = json.dumps(rows, ensure_ascii=False).encode()

    _, lines = read(tmp_path / "file", jsonl(rows), "a.jsonl")
    _, items = read(tmp_path / "file", array, "a.json")

    assert lines == items == numbered(rows)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_json_value_may_be_split_anywhere(cut: int, tmp_path: Path) -> None:
    # Blanks move the rows over the border between two chunks, one character at a time.
    rows = [{"a": 'x\\"\u00e9', "b": [12, True, None, -3.5e2]}, {"a": "y", "b": {}}]
    content = b" " * (CHUNK - cut) + json.dumps(rows).encode()

    _, found = read(tmp_path / "file", content, "a.json")

    assert found == numbered(rows)


def test_a_single_object_is_one_row(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}

    _, rows = read(tmp_path / "file", json.dumps(row, indent=1).encode(), "a.json")

    assert rows == [(1, row)]


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data", "data.jsonl.gz"])
def test_objects_over_several_lines_follow_one_another(name: str, tmp_path: Path) -> None:
    rows = [{"steps": [{"a": n}], "text": "}\n{"} for n in range(3)]
    content = "\n".join(json.dumps(row, indent=2) for row in rows).encode()

    facts, found = read(tmp_path / "data", gzipped(content) if name.endswith("gz") else content, name)

    assert (facts.kind, facts.objects) == (FileKind.JSON, True)
    assert found == numbered(rows)


def test_one_object_over_several_lines_is_one_row_of_json_lines(tmp_path: Path) -> None:
    row = {"data": [{"a": 1}, {"a": 2}], "text": "b"}
    content = json.dumps(row, indent=1).encode()

    assert read(tmp_path / "data", content, "data.jsonl")[1] == [(1, row)]
    # Without that name it is an object around a list of rows.
    assert read(tmp_path / "data", content, "data.json")[1] == numbered(row["data"])


def test_parquet_values_of_all_types_come_as_plain_ones(tmp_path: Path) -> None:
    rows = [{"a": ["x", None], "b": {"c": 1, "d": None}, "e": b"\x00"}]

    _, found = read(tmp_path / "file", parquet(rows), "a.parquet")

    assert found == [(1, rows[0])]


def test_rows_that_are_no_objects_are_problems_of_their_own(tmp_path: Path) -> None:
    _, rows = read(tmp_path / "file", b'{"a": 1}\n"text"\n[1, 2]\n{"a": 2}\n', "a.jsonl")

    assert [row for _, row in rows if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    assert [(number, row.rule) for number, row in rows if isinstance(row, RowProblem)] == [
        (2, "row.not-object"),
        (3, "row.not-object"),
    ]


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"a,b\n1,2\n3,4\n", FileKind.CSV), (b'[{"a": 1}]', FileKind.JSON), (b'{"a": 1}\n{"a": 2}\n', FileKind.JSONL)],
)
def test_content_decides_where_the_name_does_not(content: bytes, kind: FileKind, tmp_path: Path) -> None:
    facts, _ = read(tmp_path / "file", content, "upload")

    assert facts.kind == kind


def test_text_that_begins_with_a_bracket_is_still_text(tmp_path: Path) -> None:
    facts, rows = read(tmp_path / "file", b"[Chapter 1] It began.\n{braces} too.\n", "a.txt")

    assert facts.kind == FileKind.TEXT
    assert len(rows) == 2
