"""Canonical rows on disk: `rows.jsonl`, and `rows.idx` with the offset of each row for paging in constant time."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from polm_core.data.values import Row
from polm_core.errors import DataError

ROWS_NAME = "rows.jsonl"
INDEX_NAME = "rows.idx"

_ENTRY = 8
_BUFFER = 2**20


class RowsWriter:
    """Writes rows and their index into a folder; `sha256`, `count` and `bytes` are right once it is closed."""

    def __init__(self, folder: Path) -> None:
        self._rows = (folder / ROWS_NAME).open("wb", buffering=_BUFFER)
        self._index = (folder / INDEX_NAME).open("wb", buffering=_BUFFER)
        self._hash = hashlib.sha256()
        self.count = 0
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._rows.close()
        finally:
            self._index.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, line: bytes) -> None:
        """Append one encoded row, which ends in a newline."""
        self._index.write(self.bytes.to_bytes(_ENTRY, "little"))
        self._rows.write(line)
        self._hash.update(line)
        self.count += 1
        self.bytes += len(line)


def count_rows(folder: Path) -> int:
    """How many rows a prepared folder holds. Raises `DataError` when it holds none at all."""
    try:
        return (folder / INDEX_NAME).stat().st_size // _ENTRY
    except FileNotFoundError as error:
        raise _not_prepared() from error


def read_rows(folder: Path, offset: int, limit: int) -> list[Row]:
    """At most `limit` rows from position `offset` (the first row is 0); fewer at the end, none beyond it.

    Raises `DataError` for negative numbers and for a folder without rows.
    """
    if offset < 0 or limit < 0:
        raise DataError("offset and limit must be 0 or more.", code="data.page")
    first = min(offset, count_rows(folder))
    last = min(first + limit, count_rows(folder))
    if first == last:
        return []
    start, end = _offset(folder, first), _offset(folder, last)
    with (folder / ROWS_NAME).open("rb") as file:
        file.seek(start)
        text = file.read(end - start)
    return [orjson.loads(line) for line in text.split(b"\n") if line]


def _offset(folder: Path, position: int) -> int:
    """Where row `position` begins; the end of the file for the one behind the last."""
    with (folder / INDEX_NAME).open("rb") as file:
        file.seek(position * _ENTRY)
        entry = file.read(_ENTRY)
    return int.from_bytes(entry, "little") if entry else (folder / ROWS_NAME).stat().st_size


def _not_prepared() -> DataError:
    return DataError("The dataset has no rows yet.", code="data.not-prepared", advice="Wait until it is ready.")
