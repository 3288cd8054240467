"""One way to read every kind of file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from polm_core.data.identify import FileFacts, FileKind
from polm_core.data.json_rows import NumberedRow, json_rows, jsonl_rows, object_rows
from polm_core.data.limits import MB
from polm_core.data.problems import Unreadable
from polm_core.data.source import ByteSource, lines, utf8_chunks
from polm_core.data.table_rows import csv_rows, parquet_rows, text_rows
from polm_core.data.values import Row

_HEAD_BYTES = 16 * MB


def iter_rows(source: ByteSource, facts: FileFacts, columns: list[str] | None = None) -> Iterator[NumberedRow]:
    """All rows from the beginning, with their numbers; a row that cannot be used comes as the problem it has.

    `columns` names the top-level columns that matter, for the kinds where leaving others out saves time. Raises
    `Unreadable` or another `DataError` where reading cannot go on.
    """
    limits = source.limits
    if facts.kind == FileKind.PARQUET:
        return parquet_rows(source, columns)
    chunks = utf8_chunks(source, facts.encoding, facts.mark)
    if facts.kind == FileKind.JSON:
        return object_rows(chunks, limits) if facts.objects else json_rows(chunks, limits)
    numbered_lines = lines(chunks, limits)
    if facts.kind == FileKind.JSONL:
        return jsonl_rows(numbered_lines, limits)
    if facts.kind == FileKind.CSV:
        return csv_rows(numbered_lines, facts.delimiter, limits)
    return text_rows(numbered_lines, limits, paragraphs=facts.paragraphs)


@dataclass
class Head:
    """The usable rows at the beginning of a file, with their numbers, and the first fault that was met among them."""

    rows: list[tuple[int, Row]] = field(default_factory=list)
    fault: Unreadable | None = None


def read_head(source: ByteSource, facts: FileFacts, count: int) -> Head:
    """The first `count` rows, fewer if they are large or the file breaks off."""
    head = Head()
    try:
        for number, row in islice(iter_rows(source, facts), count):
            if isinstance(row, dict):
                head.rows.append((number, row))
            elif isinstance(row, Unreadable):
                head.fault = head.fault or row
            if source.unpacked > _HEAD_BYTES:
                break
    except Unreadable as error:
        head.fault = head.fault or error
    return head
