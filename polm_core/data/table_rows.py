"""Rows out of CSV, plain text and Parquet, in constant memory."""

import csv
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

from polm_core.data.json_rows import NumberedRow, check_columns
from polm_core.data.limits import Limits, human_bytes
from polm_core.data.problems import RowProblem, Unreadable
from polm_core.data.source import ByteSource, LongLine, too_large
from polm_core.data.values import Row
from polm_core.errors import DataError

PARQUET_BATCH = 128


class _Feed:
    """Lines for `csv.reader`, counting what the record at hand has taken so far."""

    def __init__(self, lines: Iterable[bytes], limits: Limits) -> None:
        self._lines = iter(lines)
        self._limits = limits
        self._taken = 0
        self.row = 0

    def next_record(self, row: int) -> None:
        self.row, self._taken = row, 0

    def __iter__(self) -> Iterator[str]:
        try:
            for line in self._lines:
                self._taken += len(line) + 1
                if self._taken > self._limits.max_row_bytes:
                    raise self._too_large(self._taken)
                yield line.decode() + "\n"
        except LongLine as error:
            raise self._too_large(error.size) from error

    def _too_large(self, size: int) -> Unreadable:
        error = too_large(self.row, size, self._limits)
        error.advice = (
            'A quote that is opened and never closed swallows all that follows: write a quote in a text as "".'
        )
        return error


def csv_rows(lines: Iterable[bytes], delimiter: str, limits: Limits) -> Iterator[NumberedRow]:
    """Records below the header, numbered from 1; every value is a string.

    Yields `Unreadable` for broken quoting and `RowProblem` for a record with more or fewer fields than the header.
    """
    # The module's own limit is for all readers of the process, and lower than a long text.
    csv.field_size_limit(limits.max_row_bytes)
    feed = _Feed(lines, limits)
    records = csv.reader(iter(feed), delimiter=delimiter, strict=True)
    header = _header(records, limits)
    number = 1
    while True:
        feed.next_record(number)
        try:
            fields = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield (
                number,
                Unreadable(
                    number,
                    "csv.syntax",
                    f"Row {number:,} (line {records.line_num:,} of the file) is not valid CSV: {error}.",
                    'Put texts with commas, quotes or line breaks in double quotes, and write a quote inside as "".',
                ),
            )
            number += 1
            continue
        if fields:
            yield number, _record(header, fields, records.line_num)
            number += 1


def _header(records: Iterator[list[str]], limits: Limits) -> list[str]:
    try:
        fields = next(records)
    except StopIteration:
        return []
    except csv.Error as error:
        raise Unreadable(None, "csv.syntax", f"The header is not valid CSV: {error}.", "Close every quote.") from error
    check_columns(len(fields), limits)
    names = [name.strip() or f"unnamed_{place}" for place, name in enumerate(fields, 1)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(
            f"The header names a column twice: {', '.join(repeated)}.",
            code="data.repeated-column",
            advice="Give every column a name of its own.",
        )
    return names


def _record(header: list[str], fields: list[str], line: int) -> Row | RowProblem:
    if len(fields) == len(header):
        return dict(zip(header, fields, strict=True))
    return RowProblem(
        "csv.ragged",
        f"The row has {len(fields)} fields, the header has {len(header)} (line {line:,} of the file).",
        "Put texts that hold the delimiter or a line break in double quotes.",
    )


def text_rows(lines: Iterable[bytes], limits: Limits, *, paragraphs: bool) -> Iterator[NumberedRow]:
    """Paragraphs (parted by blank lines) or lines of a plain text, as `{"text": ...}`."""
    number = 1
    block: list[str] = []
    size = 0
    try:
        for line in lines:
            text = line.decode()
            if text.strip():
                block.append(text)
                size += len(line) + 1
                if size > limits.max_row_bytes:
                    raise too_large(number, size, limits)
                if paragraphs:
                    continue
            if block:
                yield number, {"text": "\n".join(block)}
                number += 1
                block, size = [], 0
    except LongLine as error:
        raise too_large(number, error.size, limits) from error
    if block:
        yield number, {"text": "\n".join(block)}


def parquet_rows(source: ByteSource, columns: list[str] | None = None) -> Iterator[NumberedRow]:
    """Rows of a Parquet file; with `columns`, only those top-level ones. Raises `DataError` for a damaged file."""
    import pyarrow as pa

    with tempfile.TemporaryFile() as spool:
        file = _seekable(source, spool)
        try:
            yield from _parquet_batches(file, source, columns)
        except MemoryError:
            raise
        # Damage shows in whatever the decoder trips over first, a name that is no text included.
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(
                f"The Parquet file cannot be read: {str(error).splitlines()[0][:200]}",
                code="data.parquet",
                advice="Write it again, for example with pandas' to_parquet; copy it again if it is cut off.",
            ) from error


def _seekable(source: ByteSource, spool: IO[bytes]) -> Any:
    """Parquet is read from its end, which gzip cannot do: such a file is unpacked first."""
    if not source.compressed:
        return str(source.path)
    for chunk in source.chunks():
        spool.write(chunk)
    spool.seek(0)
    return spool


def _parquet_batches(file: Any, source: ByteSource, columns: list[str] | None) -> Iterator[NumberedRow]:
    import pyarrow.parquet as pq

    limits = source.limits
    with pq.ParquetFile(file) as table:
        check_columns(table.metadata.num_columns, limits)
        number, unpacked = 1, 0
        for batch in table.iter_batches(PARQUET_BATCH, columns=columns, use_threads=False):
            unpacked += batch.nbytes
            if unpacked > limits.max_bytes:
                raise DataError(
                    f"The content is over {human_bytes(limits.max_bytes)}.",
                    code="data.too-large",
                    advice="Split the file into smaller datasets.",
                )
            _check_sizes(batch, number, limits)
            for row in batch.to_pylist():
                yield number, row
                number += 1
            source.position = source.size * (number - 1) // max(1, table.metadata.num_rows)


def _check_sizes(batch: Any, first: int, limits: Limits) -> None:
    """Look at the rows of a record batch, of which the first is row `first`, before they become Python objects."""
    if batch.nbytes <= limits.max_row_bytes:
        return
    for place in range(batch.num_rows):
        size = batch.slice(place, 1).nbytes
        if size > limits.max_row_bytes:
            raise too_large(first + place, size, limits)
