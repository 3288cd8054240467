"""Preparation as a whole: what it leaves behind, in this process and in one of its own."""

import gzip
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from polm_core.data.limits import MB
from polm_core.data.mapping import Mapping
from polm_core.data.report import PrepareJob, PrepareReport, Status, draft_of, read_progress, read_report
from polm_core.data.rows import count_rows, read_rows
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.run_dir import sha256_of
from tests.polm_core.data.conftest import Prepare, jsonl
from tests.polm_core.data.shapes import assistant, user

PAIRS = [{"prompt": f"{n}?", "chosen": f"{n}.", "rejected": "No." if n % 4 else f"{n}."} for n in range(40)]


def start(tmp_path: Path, source: Path, out: Path, **job: Any) -> subprocess.Popen[str]:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"source": str(source), "filename": source.name, "out": str(out), **job}))
    return subprocess.Popen(
        [sys.executable, "-m", "polm_core.data.prepare", str(path)], stderr=subprocess.PIPE, text=True
    )


def run(tmp_path: Path, source: Path, out: Path, **job: Any) -> PrepareReport:
    child = start(tmp_path, source, out, **job)
    _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")
    report = read_report(out)
    assert report is not None
    return report


def test_the_report_describes_the_rows(prepare_bytes: Prepare, out: Path) -> None:
    report = prepare_bytes(jsonl([*PAIRS, PAIRS[1], {"prompt": "x", "chosen": "", "rejected": "y"}]))

    written = (out / "rows.jsonl").read_bytes()
    assert report == read_report(out)
    assert (report.rows_total, report.rows_used) == (42, 41)
    assert (report.sha256, report.bytes) == (hashlib.sha256(written).hexdigest(), len(written))
    assert report.stats.model_dump() == {
        "chars_p50": 9,
        "chars_p95": 9,
        "chars_max": 9,
        "turns_mean": 3.0,
        "turns_max": 3,
        "duplicates": 1,
        "labels": {},
        "empty": 1,
        "equal_pairs": 10,
        "images": 0,
        "image_bytes": 0,
        "image_sizes": {},
    }
    assert [(column.path, column.types, column.filled) for column in report.columns] == [
        ("prompt", {"string": 42}, 1.0),
        ("chosen", {"string": 42}, 0.9762),
        ("rejected", {"string": 42}, 1.0),
    ]
    assert report.columns[0].examples == ["0?", "1?", "2?"]
    assert report.mapping is not None
    assert report.mapping.columns == {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    assert sorted(path.name for path in out.iterdir()) == [
        "head.jsonl",
        "progress.json",
        "report.json",
        "rows.idx",
        "rows.jsonl",
    ]


def test_label_balance_is_counted(prepare_bytes: Prepare) -> None:
    rows = [{"prompt": f"{n}?", "completion": f"{n}.", "label": n % 4 == 0} for n in range(20)]

    assert prepare_bytes(jsonl(rows)).stats.labels == {"true": 5, "false": 15}


def test_ties_do_not_speak_against_a_file(prepare_bytes: Prepare) -> None:
    rows = [{"prompt": "a", "response_a": "b", "response_b": "c", "winner": "tie" if n % 2 else "a"} for n in range(20)]

    report = prepare_bytes(jsonl(rows))

    assert (report.status, report.rows_used) == (Status.READY, 10)
    assert report.problem_counts == {"preference.tie": 10}


def test_problems_are_listed_up_to_a_bound_and_counted_beyond(prepare_bytes: Prepare) -> None:
    report = prepare_bytes(
        jsonl([{"prompt": "a", "completion": "b"}] * 9000 + [{"prompt": "a", "completion": ""}] * 300)
    )

    assert report.status == Status.READY
    assert len(report.problems) == 200
    assert report.problem_counts == {"completion.empty": 300}


def test_rows_are_read_back_from_any_place(prepare_bytes: Prepare, out: Path) -> None:
    prepare_bytes(jsonl([{"text": f"Line {n}\u2028 with {'é' * n}"} for n in range(50)]))

    assert count_rows(out) == 50
    assert [row["text"][:7] for row in read_rows(out, 10, 3)] == ["Line 10", "Line 11", "Line 12"]
    assert [row["text"][:7] for row in read_rows(out, 48, 10)] == ["Line 48", "Line 49"]
    assert read_rows(out, 50, 10) == read_rows(out, 10**12, 10) == read_rows(out, 0, 0) == []
    with pytest.raises(DataError, match="0 or more"):
        read_rows(out, -1, 5)
    with pytest.raises(DataError, match="no rows yet"):
        read_rows(out.parent, 0, 5)


def test_a_mapping_by_hand_is_used_and_checked(prepare_bytes: Prepare, out: Path) -> None:
    rows = jsonl([{"left": f"{n}?", "right": f"{n}."} for n in range(5)])
    mapping = Mapping(format=Format.CONVERSATION, columns={"prompt": "left", "completion": "right"})
    wrong = Mapping(format=Format.CONVERSATION, columns={"prompt": "lift", "completion": "right"})

    invalid = prepare_bytes(rows, mapping=wrong)
    ready = prepare_bytes(rows, mapping=mapping)

    assert invalid.error is not None
    assert invalid.error["fields"] == {"mapping.columns.prompt": ["no column 'lift'; there is left"]}
    assert (ready.status, ready.confidence, ready.why) == (Status.READY, 1.0, "chosen by hand")
    assert read_rows(out, 0, 1) == [{"messages": [user("0?"), assistant("0.")]}]


def test_preparing_again_replaces_what_was_there(prepare_bytes: Prepare, out: Path) -> None:
    prepare_bytes(jsonl([{"text": "first"}]))
    report = prepare_bytes(b"", "a.txt")

    assert report.status == Status.INVALID
    assert not (out / "rows.jsonl").exists()
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "upload"]


def test_it_runs_in_a_process_of_its_own(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "pairs.json"
    source.write_text(json.dumps(PAIRS))

    report = run(tmp_path, source, out, format="preference")
    progress = read_progress(out)

    assert (report.status, report.rows_used) == (Status.READY, 40)
    assert progress is not None
    assert progress.model_dump(mode="json") == {
        "phase": "finishing",
        "bytes_done": source.stat().st_size,
        "bytes_total": source.stat().st_size,
        "rows": 40,
    }


def test_parquet_is_read_within_the_memory_of_the_process(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(PAIRS), source)
    source_gz = tmp_path / "pairs.parquet.gz"
    source_gz.write_bytes(gzip.compress(source.read_bytes()))

    assert run(tmp_path, source, out).rows_used == 40
    assert run(tmp_path, source_gz, out).rows_used == 40


def test_a_killed_preparation_leaves_nothing_that_looks_finished(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "long.jsonl"
    source.write_bytes(jsonl([{"text": "word " * 50}]) * 100_000)
    child = start(tmp_path, source, out)
    deadline = time.monotonic() + 30
    while True:
        progress = read_progress(out)
        if progress is not None and progress.rows > 0:
            break
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)

    child.kill()
    child.communicate()

    assert 0 < progress.bytes_done < progress.bytes_total
    assert not out.exists()
    assert draft_of(out).exists()
    assert run(tmp_path, source, out, limits={"max_row_bytes": 1000}).rows_used == 100_000
    assert not draft_of(out).exists()


def test_rows_beyond_the_bound_of_a_written_file_end_with_a_report(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "large.jsonl"
    source.write_bytes(jsonl([{"text": f"{n:0200}"} for n in range(10_000)]))

    report = run(tmp_path, source, out, limits={"output_bytes": MB})

    assert report.error is not None
    assert (report.error["code"], report.error["message"]) == (
        "data.too-large",
        "The prepared rows would be over 1.0 MB.",
    )
    assert not (out / "rows.jsonl").exists()


def test_a_parquet_bomb_ends_with_a_report(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "bomb.parquet"
    table = pa.table({"text": ["short", "x" * 150 * MB]})
    pq.write_table(table, source, compression="zstd", use_dictionary=False, write_statistics=False)

    report = run(tmp_path, source, out, limits={"memory_bytes": 400 * MB})

    assert source.stat().st_size < MB
    assert report.error is not None
    assert (report.error["code"], report.error["message"]) == (
        "data.too-large",
        "Reading the file takes more than 400.0 MB of memory.",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("filename: a.jsonl", "Field required"),
        ("{", "while parsing"),
        (
            "source: a\nfilename: a\nout: b\nmapping: {format: text, columns: {label: a}}",
            "text takes text; given: label",
        ),
    ],
)
def test_a_job_that_makes_no_sense_ends_with_a_message(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)

    child = subprocess.run(
        [sys.executable, "-m", "polm_core.data.prepare", str(path)], capture_output=True, text=True, check=False
    )

    assert child.returncode == 2
    assert says in child.stderr
    assert "Traceback" not in child.stderr


def test_what_the_web_process_imports_pulls_in_no_heavy_library() -> None:
    code = (
        "import sys, polm_core.data.preview, polm_core.data.report, polm_core.data.rows, polm_core.data.convert;"
        "heavy = {'torch', 'transformers', 'numpy', 'pyarrow', 'pandas', 'django'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_of_one_format_become_rows_of_another(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(jsonl(PAIRS))

    report = run(tmp_path, source, out, convert_from="preference", format="rating")

    assert (report.status, report.format, report.rows_used) == (Status.READY, Format.RATING, 2 * len(PAIRS))
    assert report.why == f"converted from {len(PAIRS)} rows of preference"
    assert report.stats.labels == {"true": len(PAIRS), "false": len(PAIRS)}
    assert report.sha256 == sha256_of(out / "rows.jsonl")
    assert read_rows(out, 3, 1) == [{"prompt": "1?", "completion": "No.", "label": False}]


def test_a_text_that_looks_like_messages_is_kept_as_text(prepare_bytes: Prepare, out: Path) -> None:
    row = {"prompt": "Say it.", "completion": '[{"role": "user", "content": "it"}]'}

    report = prepare_bytes(jsonl([row]), convert_from="prompt-completion", format="prompt-completion")

    assert report.status == Status.READY
    assert read_rows(out, 0, 2) == [row]


def test_a_conversion_that_gives_no_row_says_what_it_takes(prepare_bytes: Prepare, out: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", "label": False}] * 3

    report = prepare_bytes(jsonl(rows), convert_from="rating", format="prompt-completion")

    assert report.status == Status.INVALID
    assert report.error is not None
    assert report.error["code"] == "data.nothing-converted"
    assert report.error["message"] == (
        "None of 3 rows gives one of the format prompt and completion, which takes: The good answers."
    )
    assert not (out / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"convert_from": "text", "format": "preference"}, "rows of 'text' cannot become 'preference'"),
        ({"convert_from": "rating"}, "needs a format to convert to"),
    ],
)
def test_a_conversion_that_is_not_known_is_refused(job: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=says):
        PrepareJob(source=tmp_path, filename="rows.jsonl", out=tmp_path / "out", **job)
