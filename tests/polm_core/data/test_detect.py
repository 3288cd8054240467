"""Formats and mappings found in rows of well-known and of odd shapes."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polm_core.data.detect import detect
from polm_core.data.names import suggest
from polm_core.data.report import Status
from polm_core.data.rows import read_rows
from polm_core.formats import SPECS, Format
from tests.polm_core.data.conftest import Prepare, jsonl
from tests.polm_core.data.shapes import SHAPES, Shape, assistant, user

all_shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def _check(shape: Shape, report_rows: list[dict[str, object]]) -> None:
    assert report_rows[0] == shape.first
    spec = SPECS[shape.format]
    for row in report_rows:
        assert set(spec.columns) <= set(row) <= {*spec.columns, *spec.optional}


@all_shapes
def test_jsonl_of_every_shape_is_recognised_and_mapped(shape: Shape, prepare_bytes: Prepare, out: Path) -> None:
    report = prepare_bytes(jsonl(shape.rows))

    assert (report.status, report.format) == (Status.READY, shape.format), report.error
    assert report.confidence >= 0.5
    _check(shape, read_rows(out, 0, 100))


@all_shapes
def test_parquet_of_every_shape_gives_the_same_rows(shape: Shape, prepare_bytes: Prepare, out: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(shape.rows), buffer)

    report = prepare_bytes(buffer.getvalue(), "data.parquet")

    assert (report.status, report.format) == (Status.READY, shape.format), report.error
    _check(shape, read_rows(out, 0, 100))


@all_shapes
@pytest.mark.parametrize("encode", [json.dumps, repr], ids=["json", "python"])
def test_csv_cells_may_hold_encoded_lists(shape: Shape, encode: object, prepare_bytes: Prepare, out: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(shape.rows[0]))
    writer.writeheader()
    for row in shape.rows:
        writer.writerow({key: encode(value) if isinstance(value, list | dict) else value for key, value in row.items()})

    report = prepare_bytes(text.getvalue().encode(), "data.csv")

    assert (report.status, report.format) == (Status.READY, shape.format), report.error
    _check(shape, read_rows(out, 0, 100))


def test_the_role_is_found_by_content_where_the_name_says_nothing() -> None:
    rows = [{"blob": [user(f"{n}?"), assistant(f"{n}.")], "n": n} for n in range(5)]

    best = detect(rows).best()

    assert best is not None
    assert best.mapping.columns == {"messages": "blob"}
    assert best.why == "'blob' holds lists of messages"


def test_a_few_odd_rows_lower_the_confidence_and_are_named() -> None:
    rows = [{"prompt": f"{n} =", "completion": f" {n}"} for n in range(18)] + [{"prompt": "x", "completion": ""}] * 2

    best = detect(rows).best()

    assert best is not None
    assert best.confidence == pytest.approx(0.92 * 0.9)
    assert "2 of 20 rows do not fit ('completion' is empty or missing)" in best.why


def test_ratings_beyond_all_bounds_still_have_a_middle() -> None:
    rows = [{"prompt": "a?", "completion": "b.", "rating": rating} for rating in (1e308, 1.7e308, float("inf"))]

    found = detect(rows).of_format(Format.RATING)

    assert found is not None
    assert found.mapping.options.label_threshold == pytest.approx(1.35e308)


@pytest.mark.parametrize(
    ("columns", "label", "format"),
    [
        (("prompt", "completion"), "label", Format.RATING),
        (("prompt", "completion"), "rating", Format.RATING),
        (("instruction", "output"), "rating", Format.RATING),
        (("prompt", "completion"), "length", Format.PROMPT_COMPLETION),
        (("prompt", "completion"), "score", Format.PROMPT_COMPLETION),
    ],
)
def test_numbers_rate_an_answer_where_their_name_says_so(
    columns: tuple[str, str], label: str, format: Format, prepare_bytes: Prepare, out: Path
) -> None:
    rows = [{columns[0]: f"{n}?", columns[1]: f"{n}.", label: 1 + n % 5} for n in range(10)]

    report = prepare_bytes(jsonl(rows))

    assert report.format == format, report.why
    if format == Format.RATING:
        assert [row["label"] for row in read_rows(out, 0, 5)] == [False, False, True, True, True]


def test_a_rating_beside_conversations_leaves_them_conversations() -> None:
    rows = [{"messages": [user("Hi"), assistant("Hello.")], "rating": n} for n in range(5)]

    assert [one.format for one in detect(rows).candidates][:2] == [Format.CONVERSATION, Format.RATING]


def test_other_readings_are_offered_as_alternatives() -> None:
    rows = [{"instruction": "Double.", "input": f"{n}", "output": f"{2 * n} it is"} for n in range(5)]

    formats = [candidate.format for candidate in detect(rows).candidates]

    assert formats[:2] == [Format.CONVERSATION, Format.PROMPT_COMPLETION]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"prompt": "Why?", "chosen": "Because."}], "none with the rejected answers"),
        ([{"prompt": "Why?", "rejected": "Because."}], "none with the chosen answers"),
        ([{"message_id": "1", "parent_id": None, "role": "prompter", "text": "Hi"}], "a tree, not conversations"),
        (
            [{"tree": "t1", "prompt": {"role": "prompter", "text": "Hi", "replies": [{"text": "Hello."}]}}],
            "a tree of messages with their replies",
        ),
        ([{"prompt": "Why?", "response_1": "So.", "response_2": "No.", "strength": -2}], "hold two answers"),
        (
            [{"instruction": "Why?", "completions": [{"response": "So.", "overall_score": 2}] * 2}],
            "several answers with ranks or scores",
        ),
        ([{"segments": [{"text": "Q", "label": False}, {"text": "A", "label": True}]}], "do not suggest"),
        ([{"x": 1, "y": 2.5}], "do not suggest a known format"),
        ([{"left": "some words", "right": "other words"}], "do not suggest a known format"),
        (
            [{"messages": [{"role": "patient", "content": "Ow"}, {"role": "doctor", "content": "Where?"}]}],
            "the role 'patient', which is not known",
        ),
    ],
)
def test_files_that_cannot_be_recognised_say_what_is_missing(
    rows: list[dict[str, object]], says: str, prepare_bytes: Prepare
) -> None:
    report = prepare_bytes(jsonl(rows * 3))

    assert report.status == Status.INVALID
    assert report.error is not None
    assert says in report.error["message"]
    assert report.error["advice"]


def test_a_format_asked_for_wins_over_the_likeliest(prepare_bytes: Prepare, out: Path) -> None:
    rows = [{"instruction": f"Double {n}.", "output": f"{2 * n}"} for n in range(5)]

    report = prepare_bytes(jsonl(rows), format=Format.PROMPT_COMPLETION)

    assert report.format == Format.PROMPT_COMPLETION
    assert read_rows(out, 0, 1) == [{"prompt": [user("Double 0.")], "completion": [assistant("0")]}]


def test_a_format_that_the_columns_do_not_give_is_refused(prepare_bytes: Prepare) -> None:
    report = prepare_bytes(jsonl([{"text": "Only a text."}]), format=Format.PREFERENCE)

    assert report.status == Status.INVALID
    assert report.error is not None
    assert "do not suggest a mapping to 'preference'. Columns: text." in report.error["message"]


def test_columns_are_suggested_by_name_alone() -> None:
    found = suggest(["id", "Query", "preferred_reply", "rejected_reply", "system_prompt"], Format.PREFERENCE)

    assert found["prompt"] == "Query"
    assert found["chosen"] == "preferred_reply"
    assert found["rejected"] == "rejected_reply"
    assert found["system"] == "system_prompt"


def test_a_text_file_becomes_documents_when_somebody_says_so(prepare_bytes: Prepare, out: Path) -> None:
    report = prepare_bytes(b"# Ferry\nIt leaves at seven.\n\n# Mayor\nIt is Teodor.\n", "notes.md", format="documents")

    assert (report.status, report.format, report.rows_used) == (Status.READY, Format.DOCUMENTS, 2)
    assert read_rows(out, 0, 1) == [{"text": "# Ferry\nIt leaves at seven."}]


def test_an_empty_document_is_named_and_left_out(prepare_bytes: Prepare) -> None:
    rows = [{"title": f"Page {n}", "text": f"About {n}." if n else "  "} for n in range(20)]

    report = prepare_bytes(jsonl(rows))

    assert (report.status, report.format, report.rows_used) == (Status.READY, Format.DOCUMENTS, 19)
    assert [(one.row, one.rule) for one in report.problems] == [(1, "text.empty")]
