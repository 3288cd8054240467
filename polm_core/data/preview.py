"""The head of a file, and what a mapping makes of it. Reads only the head, so that it is quick on a file of any size.

Parquet needs pyarrow; where that is not installed, `preview_head` shows what preparation left behind.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from polm_core.data.apply import apply_mapping
from polm_core.data.detect import Detection, detect
from polm_core.data.identify import identify
from polm_core.data.limits import MB, Limits
from polm_core.data.mapping import Mapping
from polm_core.data.observe import Column, as_columns, observe
from polm_core.data.problems import RowProblem
from polm_core.data.readers import read_head
from polm_core.data.report import Problem
from polm_core.data.source import ByteSource
from polm_core.data.values import Row, truncated
from polm_core.errors import DataError

HEAD_NAME = "head.jsonl"
_HEAD_ROWS = 50
_HEAD_BYTES = 2 * MB

NumberedRows = Sequence[tuple[int, Row]]


class PreviewRow(BaseModel):
    """A source row, shortened, with the canonical row it becomes or the problem it has."""

    row: int
    source: dict[str, Any]
    mapped: dict[str, Any] | None = None
    problem: Problem | None = None


class Preview(BaseModel):
    """The columns found, what was detected, the mapping that was applied (if any) and the first rows."""

    columns: list[Column]
    detected: Detection
    mapping: Mapping | None
    rows: list[PreviewRow]


def preview(
    path: Path,
    mapping: Mapping | None = None,
    n: int = 20,
    *,
    filename: str | None = None,
    limits: Limits | None = None,
) -> Preview:
    """The first `n` rows of a file under `mapping`, or under the likeliest one.

    `filename` is the name it was uploaded under, if it lies under another. Raises `DataError` for a file that cannot be
    read and for a mapping that names columns which are not there.
    """
    limits = limits or Limits()
    with ByteSource(path, limits) as source:
        facts = identify(source, filename or path.name, limits)
        head = read_head(source, facts, max(n, limits.sample_rows))
    if head.fault is not None and not head.rows:
        raise head.fault
    return preview_rows(head.rows, mapping, n)


def preview_head(folder: Path, mapping: Mapping | None = None, n: int = 20) -> Preview:
    """The same from a folder that preparation made, whether or not the file was good.

    Raises `DataError` when there is none, and for a mapping that names columns which are not there.
    """
    try:
        text = (folder / HEAD_NAME).read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            "No row could be read from the file, so there is nothing to map.",
            code="data.no-head",
            advice="Mend the file and upload it again.",
        ) from error
    rows = [orjson.loads(line) for line in text.split(b"\n") if line]
    return preview_rows([(row["row"], row["source"]) for row in rows], mapping, n)


def preview_rows(rows: NumberedRows, mapping: Mapping | None, n: int) -> Preview:
    """A preview of rows at hand."""
    sources = [row for _, row in rows]
    facts = observe(sources)
    detected = detect(sources, facts)
    if mapping is not None:
        mapping.check(facts)
    else:
        best = detected.best()
        mapping = best.mapping if best else None
    return Preview(
        columns=as_columns(facts, len(sources)),
        detected=detected,
        mapping=mapping,
        rows=[_preview_row(number, row, mapping) for number, row in rows[:n]],
    )


def _preview_row(number: int, row: Row, mapping: Mapping | None) -> PreviewRow:
    shown = PreviewRow(row=number, source=truncated(row))
    if mapping is not None:
        try:
            shown.mapped = truncated(apply_mapping(row, mapping))
        except RowProblem as found:
            shown.problem = Problem(
                row=number, column=found.column, rule=found.rule, message=found.message, remedy=found.advice
            )
    return shown


def encoded_head(rows: NumberedRows) -> bytes:
    """Rows for `head.jsonl`: the first of them, as long as they stay small."""
    lines: list[bytes] = []
    size = 0
    for number, row in rows[:_HEAD_ROWS]:
        try:
            line = orjson.dumps({"row": number, "source": row}, default=str, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:
            # Half a surrogate pair: preparation lists it as a problem.
            continue
        size += len(line) + 1
        if size > _HEAD_BYTES and lines:
            break
        lines.append(line)
    return b"".join(line + b"\n" for line in lines)
