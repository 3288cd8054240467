"""The bytes of an uploaded file: gunzipped, guarded against bombs, and known to be UTF-8."""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from polm_core.data.limits import Limits, human_bytes
from polm_core.data.problems import Unreadable
from polm_core.errors import DataError

CHUNK = 2**20
GZIP_MAGIC = b"\x1f\x8b"

_BOMS = (
    # UTF-32's mark begins with UTF-16's, so it is looked at first.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class ByteSource:
    """A file on disk, gzipped or not (told by its first bytes), as chunks of its content.

    `position` counts bytes of the file on disk, so that progress works for gzip too; `unpacked` counts bytes of the
    content. A reader that finds its own way through the file (Parquet) sets `position` itself. Use it as a context
    manager.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise DataError(
                f"'{path.name}' cannot be opened: {error.strerror}.",
                code="data.missing",
                advice="Give the path of a file that can be read.",
            ) from error
        self.path = path
        self.limits = limits
        self.size = path.stat().st_size
        self.compressed = self._file.read(2) == GZIP_MAGIC
        self.position = 0
        self.unpacked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def chunks(self) -> Iterator[bytes]:
        """The content from its beginning. Raises `DataError` for damaged gzip and for content beyond the limits."""
        self._file.seek(0)
        stream = gzip.GzipFile(fileobj=self._file) if self.compressed else self._file
        self.unpacked = 0
        while chunk := self._read(stream):
            self.position = self._file.tell()
            self.unpacked += len(chunk)
            self._guard(self.unpacked)
            yield chunk

    def head(self, size: int) -> bytes:
        """The first `size` bytes of the content, fewer if it is shorter."""
        found = bytearray()
        for chunk in self.chunks():
            found += chunk
            if len(found) >= size:
                break
        return bytes(found[:size])

    def _read(self, stream: BinaryIO | gzip.GzipFile) -> bytes:
        try:
            return stream.read(CHUNK)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(
                f"The gzip file is damaged or cut off near byte {self.position:,}: {error}.",
                code="data.gzip",
                advice="Compress the file again, or upload it uncompressed.",
            ) from error

    def _guard(self, total: int) -> None:
        if total > self.limits.max_bytes:
            raise DataError(
                f"The content is over {human_bytes(self.limits.max_bytes)}.",
                code="data.too-large",
                advice="Split the file into smaller datasets.",
            )
        if self.compressed and total > self.limits.ratio_after and total > self.limits.max_ratio * self.position:
            raise DataError(
                f"The gzip file unpacks to over {self.limits.max_ratio:g} times its size, which no real dataset does.",
                code="data.bomb",
                advice="Upload the file uncompressed if it is really like this.",
            )


def byte_order_mark(head: bytes) -> tuple[str, int]:
    """The encoding that the mark at the beginning names (UTF-8 without one), and the mark's length in bytes."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding, len(mark)
    return "utf-8", 0


def utf8_chunks(source: ByteSource, encoding: str, mark: int) -> Iterator[bytes]:
    """The content as UTF-8 without its byte-order mark. Raises `DataError` naming the first byte that does not fit."""
    decoder = codecs.getincrementaldecoder(encoding)()
    consumed = mark
    skip = mark
    for chunk in source.chunks():
        part, skip = chunk[skip:], 0
        text = _decoded(decoder, part, consumed, encoding)
        consumed += len(part)
        yield part if encoding == "utf-8" else text.encode()
    _decoded(decoder, b"", consumed, encoding, final=True)


def _decoded(
    decoder: codecs.IncrementalDecoder, part: bytes, offset: int, encoding: str, *, final: bool = False
) -> str:
    pending = len(decoder.getstate()[0])
    try:
        return decoder.decode(part, final)
    except UnicodeDecodeError as error:
        raise _encoding_error(encoding, offset - pending + error.start, error) from error


def _encoding_error(encoding: str, offset: int, error: UnicodeDecodeError) -> DataError:
    byte = error.object[error.start]
    return DataError(
        f"Byte {offset:,} (0x{byte:02X}) is not valid {encoding.upper()}.",
        code="data.encoding",
        advice="Save the file as UTF-8. If it came from Windows or a spreadsheet, this may convert it: "
        "iconv -f WINDOWS-1252 -t UTF-8 old > new",
    )


class LongLine(Exception):
    """A line over the row limit; the reader knows which row it belongs to. `line` counts from 1, `size` is in bytes."""

    def __init__(self, line: int, size: int) -> None:
        super().__init__(f"line {line} has at least {size} bytes")
        self.line = line
        self.size = size


def lines(chunks: Iterable[bytes], limits: Limits) -> Iterator[bytes]:
    """Lines without their ends (LF or CRLF). Raises `LongLine` for one over the row limit."""
    number, size = 0, 0
    pending: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        pending.append(first)
        size += len(first)
        for start in others:
            number += 1
            yield _whole_line(pending, number, size, limits)
            pending, size = [start], len(start)
        if size > limits.max_row_bytes:
            raise LongLine(number + 1, size)
    if size:
        yield _whole_line(pending, number + 1, size, limits)


def _whole_line(parts: list[bytes], number: int, size: int, limits: Limits) -> bytes:
    if size > limits.max_row_bytes:
        raise LongLine(number, size)
    return b"".join(parts).removesuffix(b"\r")


def too_large(row: int, size: int, limits: Limits) -> Unreadable:
    """The error for a row of at least `size` bytes."""
    return Unreadable(
        row,
        "row.too-large",
        f"Row {row:,} is over {human_bytes(limits.max_row_bytes)} (at least {human_bytes(size)}).",
        "Split long texts over several rows, and make sure that rows are separated as the file type asks.",
    )
