"""Bad files: each is refused with a message that says what is wrong, where, and what would be right."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polm_core.data.limits import MB, Limits
from polm_core.data.report import PrepareReport, Status
from tests.polm_core.data.conftest import Prepare, gzipped, jsonl

GOOD = [{"prompt": f"{n} + 1 =", "completion": f" {n + 1}"} for n in range(1200)]


def lines_with(broken: bytes, at: int) -> bytes:
    """Good JSON lines with another one in their place as line `at`."""
    lines = jsonl(GOOD).splitlines(keepends=True)
    lines[at - 1] = broken
    return b"".join(lines)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.jsonl", "{}")
    return buffer.getvalue()


def wide_parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({f"c{n}": [1] for n in range(1100)}), buffer)
    return buffer.getvalue()


def parquet_with_a_broken_name() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"textual": ["a"]}), buffer, store_schema=False)
    return buffer.getvalue().replace(b"textual", b"textua\xe1")


def refused(report: PrepareReport, out: Path) -> dict[str, str]:
    """The error of an invalid report, once it is known that nothing half-written is left."""
    assert report.status == Status.INVALID
    assert sorted(path.name for path in out.iterdir() if path.name.startswith("rows")) == []
    assert report.error is not None
    assert report.error["message"]
    assert report.error["advice"]
    return report.error


@pytest.mark.parametrize(
    ("content", "name", "code", "says"),
    [
        (b"", "a.jsonl", "data.empty", "The file is empty."),
        (b" \n\n ", "a.jsonl", "data.empty", "The file is empty."),
        (b" " * 2 * MB + b"[]", "a.json", "data.kind", "begins with over a megabyte of blanks"),
        (b"[]", "a.json", "data.empty", "The file holds no rows."),
        (b"prompt,completion\n", "a.csv", "data.empty", "The file holds no rows."),
        (gzipped(b""), "a.jsonl.gz", "data.empty", "The file is empty."),
        (bytes(range(256)) * 40, "a.jsonl", "data.binary", "binary data"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "a.csv", "data.binary", "binary data"),
        (zipped(), "a.json", "data.kind", "a zip archive or an Excel sheet"),
        (zipped(), "a.xlsx", "data.kind", "a zip archive or an Excel sheet"),
        (b"\x28\xb5\x2f\xfd rest", "a.jsonl", "data.kind", "compressed with zstd"),
        (b"ARROW1\0\0", "a.parquet", "data.kind", "an Arrow file"),
        (gzipped(gzipped(b"{}")), "a.jsonl.gz", "data.kind", "gzipped twice"),
        (jsonl(GOOD), "a.jsonl.gz", "data.kind", "it is not compressed"),
        (jsonl(GOOD), "a.csv", "data.kind", "it is JSON lines"),
        (jsonl(GOOD), "a.txt", "data.kind", "it is JSON lines"),
        (json.dumps(GOOD).encode(), "a.tsv", "data.kind", "it is JSON"),
        (jsonl(GOOD), "a.parquet", "data.kind", "it does not begin as Parquet does"),
        (b"PAR1....", "a.jsonl", "data.kind", "it is a Parquet file"),
        (b"PAR1 and no more", "a.parquet", "data.parquet", "The Parquet file cannot be read"),
        (parquet_with_a_broken_name(), "a.parquet", "data.parquet", "The Parquet file cannot be read"),
        (b"prompt,completion\n1,2\n", "a.jsonl", "data.kind", "which is not JSON"),
        (b"just some words", "notes", "data.kind", "not clear which kind"),
        (b"a,b\r1,2\r", "a.csv", "data.encoding", "bare carriage return"),
        (jsonl(GOOD).decode().encode("utf-32"), "a.jsonl", "data.encoding", "UTF-32"),
        (jsonl(GOOD).decode().encode("utf-16-le"), "a.jsonl", "data.encoding", "UTF-16 without a byte-order mark"),
        ('{"text": "caf\xe9"}'.encode("latin-1"), "a.jsonl", "data.encoding", "Byte 13 (0xE9) is not valid UTF-8"),
        (b"text\nabc\xff\n", "a.csv", "data.encoding", "Byte 8 (0xFF) is not valid UTF-8"),
        (b"\xef\xbb\xbfabc\xc3", "a.txt", "data.encoding", "Byte 6 (0xC3) is not valid UTF-8"),
        ("a".encode("utf-16") + b"\x00\xd8b\x00", "a.txt", "data.encoding", "Byte 4 (0x00) is not valid UTF-16-LE"),
        (b"prompt,prompt\n1,2\n", "a.csv", "data.repeated-column", "names a column twice: prompt"),
        (
            json.dumps({f"c{n}": n for n in range(100_000)}).encode(),
            "a.jsonl",
            "data.too-many-columns",
            "100,000 columns",
        ),
        (json.dumps([{f"c{n}": n for n in range(2000)}]).encode(), "a.json", "data.too-many-columns", "2,000 columns"),
        (
            ",".join(f"c{n}" for n in range(100_000)).encode() + b"\n",
            "a.csv",
            "data.too-many-columns",
            "100,000 columns",
        ),
        (wide_parquet(), "a.parquet", "data.too-many-columns", "1,100 columns"),
        (b'{"prompt": ["a", "b"], "completion": ["c", "d"]}', "a.json", "data.columns-not-rows", "prompt, completion"),
        (b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}', "a.json", "data.several-lists", "'train' and 'test'"),
    ],
)
def test_a_file_that_cannot_be_used_as_it_is(
    content: bytes, name: str, code: str, says: str, prepare_bytes: Prepare, out: Path
) -> None:
    error = refused(prepare_bytes(content, name), out)

    assert error["code"] == code
    assert says in error["message"]


@pytest.mark.parametrize(
    ("content", "name", "row", "rule", "says"),
    [
        (lines_with(b'{"prompt": "999 +\n', 1000), "a.jsonl", 1000, "json.syntax", "Row 1,000 is not valid JSON"),
        (lines_with(b"{'prompt': 1}\n", 7), "a.jsonl", 7, "json.syntax", "at character 2 of the line"),
        (json.dumps(GOOD).encode()[:30_000], "a.json", 643, "json.syntax", "Row 643 is not valid JSON"),
        (b'[{"text": "a"}, {"text": "b",}]', "a.json", 2, "json.syntax", "Row 2 is not valid JSON"),
        (b'[{"text": "a"} {"text": "b"}]', "a.json", 1, "json.syntax", "',' or ']' is expected, but '{' is there"),
        (b'[{"text": "a"}, {"text": "b"}', "a.json", 2, "json.syntax", "but the file ends"),
        (b'{"data": [{"text": "a"}], 5: 1}', "a.json", 2, "json.syntax", "a key in double quotes"),
        (b'[{"text": "a"}]\n[{"text": "b"}]', "a.json", 2, "json.trailing", "Something follows the end"),
        (b'{\n"text": "a"\n}\n{\n"text": "b"\n} ]', "a.jsonl", 3, "json.trailing", "Something follows the end"),
        (b'{\n"text": "a"\n}\n{\n"text": "b",\n}\n', "a.jsonl", 2, "json.syntax", "Row 2 is not valid JSON"),
        (b'{"text": "a\n{"text": "b"}\n', "a.jsonl", 1, "json.syntax", "Row 1 is not valid JSON"),
        (b'[{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "a.json", 1, "row.too-deep", "nests too deep"),
        (
            lines_with(b'{"prompt": "%s"}\n' % (b"x" * 10 * MB), 5),
            "a.jsonl",
            5,
            "row.too-large",
            "Row 5 is over 8.0 MB",
        ),
        (json.dumps([{"text": "a"}, {"text": "x" * 10 * MB}]).encode(), "a.json", 2, "row.too-large", "over 8.0 MB"),
        (
            json.dumps([{"text": "é" * 5 * MB}], ensure_ascii=False).encode(),
            "a.json",
            1,
            "row.too-large",
            "over 8.0 MB",
        ),
        (b"text\nshort\n" + b"x" * 10 * MB, "a.csv", 2, "row.too-large", "Row 2 is over 8.0 MB"),
        (b'a,b\n1,2\n3,"open\n' + b"4,5\n" * 3 * MB, "a.csv", 2, "row.too-large", "Row 2 is over 8.0 MB"),
        (b"a\n\n" + b"line\n" * 2 * MB, "a.txt", 2, "row.too-large", "Row 2 is over 8.0 MB"),
        (b'prompt,completion\n1,2\n3,"4', "a.csv", 2, "csv.syntax", "Row 2 (line 3 of the file) is not valid CSV"),
        (b'prompt,completion\n"1" x,2\n3,4\n', "a.csv", 1, "csv.syntax", "Row 1 (line 2 of the file) is not valid CSV"),
    ],
)
def test_a_place_that_cannot_be_read_is_named(
    content: bytes, name: str, row: int, rule: str, says: str, prepare_bytes: Prepare, out: Path
) -> None:
    report = prepare_bytes(content, name)

    error = refused(report, out)
    assert says in error["message"]
    assert (report.problems[-1].row, report.problems[-1].rule) == (row, rule)
    assert report.problems[-1].remedy


def test_a_row_of_ten_megabytes_in_parquet_is_named(prepare_bytes: Prepare, out: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["short", "x" * 10 * MB]}), buffer)

    error = refused(prepare_bytes(buffer.getvalue(), "a.parquet"), out)

    assert "Row 2 is over 8.0 MB" in error["message"]


def test_every_broken_line_is_listed(prepare_bytes: Prepare) -> None:
    report = prepare_bytes(b'{"text": "a"}\n{"text"\n{"text": "b"}\nnonsense\n')

    assert [problem.row for problem in report.problems] == [2, 4]
    assert report.problem_counts == {"json.syntax": 2}


@pytest.mark.parametrize("damage", [slice(0, -20), slice(0, 40)])
def test_a_damaged_gzip_file(damage: slice, prepare_bytes: Prepare, out: Path) -> None:
    error = refused(prepare_bytes(gzipped(jsonl(GOOD))[damage], "a.jsonl.gz"), out)

    assert error["code"] == "data.gzip"


def test_a_zip_bomb_is_stopped_early(prepare_bytes: Prepare, out: Path) -> None:
    line = jsonl([{"text": "0" * 1000}])
    bomb = gzip.compress(line * 20_000, 9)
    limits = Limits(max_ratio=200, ratio_after=2 * MB)

    error = refused(prepare_bytes(bomb, "a.jsonl.gz", limits=limits), out)

    assert len(bomb) * 200 < 20_000 * len(line)
    assert error["code"] == "data.bomb"
    assert "over 200 times its size" in error["message"]


def test_content_over_the_absolute_limit(prepare_bytes: Prepare, out: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["0" * 1000] * 5000}), buffer)
    limits = Limits(max_bytes=2 * MB)

    packed = refused(prepare_bytes(gzip.compress(jsonl(GOOD) * 100), "a.jsonl.gz", limits=limits), out)
    parquet = refused(prepare_bytes(buffer.getvalue(), "a.parquet", limits=limits), out)

    assert packed["message"] == parquet["message"] == "The content is over 2.0 MB."


def test_a_missing_file(tmp_path: Path, out: Path) -> None:
    from polm_core.data.prepare import prepare
    from polm_core.data.report import PrepareJob

    report = prepare(PrepareJob(source=tmp_path / "gone.jsonl", filename="gone.jsonl", out=out))

    assert refused(report, out)["code"] == "data.missing"


@pytest.mark.parametrize(
    ("line", "rule", "says"),
    [
        (b'{"prompt": "a", "prompt": "b", "completion": "c"}', "json.repeated-key", "The key 'prompt' stands twice"),
        (b'{"prompt": "a\\u0000b", "completion": "c"}', "text.nul", "NUL"),
        (b'{"prompt": "a\\ud83d", "completion": "c"}', "text.surrogate", "half a character"),
        (b'{"prompt": "a", "completion": " "}', "completion.empty", "'completion' is empty or missing"),
        (b'{"prompt": "a", "completion": null}', "completion.empty", "'completion' is empty or missing"),
        (b'{"prompt": "a"}', "completion.empty", "'completion' is empty or missing"),
        (b'{"prompt": "a", "completion": true}', "value.not-text", "true or false"),
        (b'{"prompt": "a", "completion": ["x", 1]}', "messages.not-an-object", "Message 1"),
        (b'{"prompt": "a", "x": ' + b"[" * 70 + b"]" * 70 + b"}", "row.too-deep", "nests 71 levels deep"),
        (b"42", "row.not-object", "a number, not an object"),
    ],
)
def test_a_row_that_cannot_be_used_is_dropped_and_named(
    line: bytes, rule: str, says: str, prepare_bytes: Prepare
) -> None:
    report = prepare_bytes(lines_with(line + b"\n", 500))

    assert report.status == Status.READY
    assert (report.rows_total, report.rows_used) == (1200, 1199)
    assert report.problem_counts == {rule: 1}
    assert report.problems[0].row == 500
    assert says in report.problems[0].message
    assert report.problems[0].remedy


def test_keys_and_escapes_inside_texts_are_not_mistaken_for_faults(prepare_bytes: Prepare) -> None:
    rows = [{"prompt": '"a": 1, "a": 2', "completion": "a backslash: \\u0000 \\\\ud83d"}]

    report = prepare_bytes(jsonl(rows))

    assert report.rows_used == 1


def test_ragged_csv_rows_are_dropped_and_named(prepare_bytes: Prepare) -> None:
    rows = [f"question {n},answer number {n}" for n in range(40)]
    rows[9] += ",extra"
    rows[19] = "alone"

    report = prepare_bytes("\n".join(["question,response", *rows]).encode(), "a.csv")

    assert report.status == Status.READY
    assert report.rows_used == 38
    assert [(problem.row, problem.message) for problem in report.problems] == [
        (10, "The row has 3 fields, the header has 2 (line 11 of the file)."),
        (20, "The row has 1 fields, the header has 2 (line 21 of the file)."),
    ]


def test_too_many_unusable_rows_make_the_file_invalid(prepare_bytes: Prepare, out: Path) -> None:
    rows = [{"prompt": f"{n}?", "completion": "x" if n % 5 else ""} for n in range(100)]

    error = refused(prepare_bytes(jsonl(rows)), out)
    lenient = prepare_bytes(jsonl(rows), limits=Limits(max_bad_share=0.25))

    assert error["code"] == "data.too-many-problems"
    assert "20 of 100 rows cannot be used; at most 10%" in error["message"]
    assert "first in row 1: 'completion' is empty or missing" in error["message"]
    assert (lenient.status, lenient.rows_used) == (Status.READY, 80)


def test_a_file_ragged_from_the_start(prepare_bytes: Prepare, out: Path) -> None:
    error = refused(prepare_bytes(b"prompt,completion\n" + b"a,b,c\n" * 300, "a.csv"), out)

    assert error["code"] == "data.no-usable-rows"
    assert "The row has 3 fields, the header has 2" in error["message"]
