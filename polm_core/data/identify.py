"""Which kind of file an upload is, by its content and its name together."""

import csv
import json
from enum import StrEnum
from pathlib import Path

import orjson
from pydantic import BaseModel

from polm_core.data.limits import MB, Limits
from polm_core.data.source import GZIP_MAGIC, ByteSource, byte_order_mark
from polm_core.errors import DataError


class FileKind(StrEnum):
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TEXT = "text"
    PARQUET = "parquet"


TITLES = {
    FileKind.JSONL: "JSON lines",
    FileKind.JSON: "JSON",
    FileKind.CSV: "CSV",
    FileKind.TEXT: "plain text",
    FileKind.PARQUET: "Parquet",
}

_EXTENSIONS = {
    ".jsonl": FileKind.JSONL,
    ".ndjson": FileKind.JSONL,
    ".json": FileKind.JSON,
    ".csv": FileKind.CSV,
    ".tsv": FileKind.CSV,
    ".txt": FileKind.TEXT,
    ".md": FileKind.TEXT,
    ".parquet": FileKind.PARQUET,
    ".pq": FileKind.PARQUET,
}

_ACCEPTED = (
    "Upload JSONL, JSON, CSV or TSV, Parquet or plain text, each also gzipped, or a zip of images with a JSONL file."
)

_REFUSED_MAGIC = (
    (
        b"PK\x03\x04",
        "a zip archive or an Excel sheet",
        "Unzip it and upload the file inside; save a sheet as CSV. A zip of rows and images ends in .zip.",
    ),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Decompress it, or use gzip."),
    (b"BZh", "compressed with bzip2", "Decompress it, or use gzip."),
    (b"\xfd7zXZ\x00", "compressed with xz", "Decompress it, or use gzip."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it and upload the file inside."),
    (b"ARROW1", "an Arrow file", "Write it as Parquet instead: dataset.to_parquet(...)."),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV."),
    (b"%PDF", "a PDF", "Extract its text first."),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "Save it as CSV or plain text."),
)

_HEAD = MB
_DECODER = json.JSONDecoder()
_JSON_FIRST = '{["-0123456789tfn'


class FileFacts(BaseModel):
    """What was found out about an uploaded file.

    `encoding` and `mark` (length of the byte-order mark) are for text; `objects` tells that a JSON file holds its rows
    one after another, without a list around them.
    """

    kind: FileKind
    compressed: bool = False
    encoding: str = "utf-8"
    mark: int = 0
    delimiter: str = ""
    paragraphs: bool = False
    objects: bool = False
    bytes: int = 0


def identify(source: ByteSource, filename: str, limits: Limits) -> FileFacts:
    """The kind of `source`, whose name was `filename` when it was uploaded.

    The content decides inside the JSON family (`.json`, `.jsonl`), and where the name has no known ending. Raises
    `DataError` when the content is empty, binary or not what the name says.
    """
    said = _said(filename)
    head = source.head(_HEAD)
    if not head:
        raise _empty()
    if filename.lower().endswith(".gz") and not source.compressed:
        raise _disagrees(filename, "it is not compressed", "Rename it without .gz.")
    facts = FileFacts(kind=FileKind.PARQUET, compressed=source.compressed, bytes=source.size)
    if head.startswith(b"PAR1"):
        if said not in (None, FileKind.PARQUET):
            raise _disagrees(filename, "it is a Parquet file", "Rename it to end in .parquet.")
        return facts
    _refuse_other_binary(head, source.compressed)
    if said == FileKind.PARQUET:
        raise _disagrees(filename, "it does not begin as Parquet does", "Upload the Parquet file itself.")
    encoding, mark = byte_order_mark(head)
    if encoding == "utf-32":
        raise DataError("The file is UTF-32.", code="data.encoding", advice="Save it as UTF-8.")
    text = _head_text(head[mark:], encoding)
    kind = _text_kind(text, said, filename, whole=len(head) < _HEAD)
    objects = kind in (FileKind.JSON, FileKind.JSONL) and _is_printed(text.lstrip(), alone=said == FileKind.JSONL)
    if objects:
        kind = FileKind.JSON
    return facts.model_copy(
        update={
            "kind": kind,
            "encoding": encoding,
            "mark": mark,
            "delimiter": sniff_delimiter(text)[0] if kind == FileKind.CSV else "",
            "objects": objects,
            "paragraphs": kind == FileKind.TEXT and _has_blank_line(text),
        }
    )


def _said(filename: str) -> FileKind | None:
    name = filename.lower().removesuffix(".gz")
    return _EXTENSIONS.get(Path(name).suffix)


def _empty() -> DataError:
    return DataError("The file is empty.", code="data.empty", advice="Upload a file with at least one row.")


def _disagrees(filename: str, found: str, advice: str) -> DataError:
    return DataError(f"'{filename}' is not what its name says: {found}.", code="data.kind", advice=advice)


def _refuse_other_binary(head: bytes, compressed: bool) -> None:
    if head.startswith(GZIP_MAGIC) and compressed:
        raise DataError("The file is gzipped twice.", code="data.kind", advice="Compress it once.")
    for magic, what, advice in _REFUSED_MAGIC:
        if head.startswith(magic):
            raise DataError(f"The file is {what}.", code="data.kind", advice=f"{advice} {_ACCEPTED}")


def _head_text(head: bytes, encoding: str) -> str:
    """The head as text; a character cut at its end is left off, and wrong bytes are left for the reader to report."""
    if encoding == "utf-8":
        _refuse_nuls(head[:65536])
    text = head.decode(encoding, "replace")
    sample = text[:65536]
    odd = sum(1 for char in sample if char < " " and char not in "\t\n\r\f\b\x1b")
    if odd > max(2, len(sample) // 100):
        raise _binary()
    return text


def _refuse_nuls(head: bytes) -> None:
    share = head.count(0) / len(head)
    if 0.3 < share < 0.6:
        raise DataError(
            "The file looks like UTF-16 without a byte-order mark.",
            code="data.encoding",
            advice="Save it as UTF-8: iconv -f UTF-16LE -t UTF-8 old > new",
        )
    if share > 0.01:
        raise _binary()


def _binary() -> DataError:
    return DataError("The file is binary data, not text.", code="data.binary", advice=_ACCEPTED)


def _text_kind(text: str, said: FileKind | None, filename: str, *, whole: bool) -> FileKind:
    start = text.lstrip()
    if not start:
        raise (
            _empty()
            if whole
            else DataError("The file begins with over a megabyte of blanks.", code="data.kind", advice="Remove them.")
        )
    if "\r" in text and "\n" not in text:
        raise DataError(
            "The lines end in a bare carriage return, as on old Macs.",
            code="data.encoding",
            advice="Save the file with LF or CRLF line ends.",
        )
    json_kind = _json_kind(start, said, whole)
    if said in (FileKind.JSON, FileKind.JSONL):
        if start[:1] not in _JSON_FIRST:
            raise _disagrees(
                filename, f"it begins with '{start[:30]}', which is not JSON", "Give it the ending of what it is."
            )
        return json_kind or FileKind.JSONL
    if json_kind is not None:
        if said is not None:
            raise _disagrees(filename, f"it is {TITLES[json_kind]}", f"Rename it to end in .{json_kind}.")
        return json_kind
    if said is not None:
        return said
    if sniff_delimiter(text)[1] >= 0.9:
        return FileKind.CSV
    raise DataError(
        f"It is not clear which kind of file '{filename}' is.",
        code="data.kind",
        advice="Rename it to end in .jsonl, .json, .csv, .tsv, .parquet or .txt.",
    )


def _json_kind(start: str, said: FileKind | None, whole: bool) -> FileKind | None:
    """JSON, JSON lines, or None when it is neither; `start` is the head without leading blanks."""
    if start.startswith("["):
        return FileKind.JSON if start[1:].lstrip()[:1] in ("{", "]", "[") or said == FileKind.JSON else None
    if not start.startswith("{") or start[1:].lstrip()[:1] not in ('"', "}"):
        return None
    if said == FileKind.JSONL:
        return FileKind.JSONL
    first, _, rest = start.partition("\n")
    if (rest.strip() or not whole) and _is_object(first):
        return FileKind.JSONL
    return FileKind.JSON


def _is_object(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return False


def _is_printed(start: str, *, alone: bool) -> bool:
    """Whether JSON begins with an object over several lines that another follows, or, with `alone`, nothing."""
    if not start.startswith("{") or _is_object(start.partition("\n")[0]):
        return False
    try:
        end = _DECODER.raw_decode(start)[1]
    except (json.JSONDecodeError, RecursionError):
        return False
    rest = start[end:].lstrip()
    # An object on one line with something behind it is a broken line, which reading by lines reports best.
    return "\n" in start[:end] and (rest.startswith("{") or (alone and not rest))


def _has_blank_line(text: str) -> bool:
    return any(not line.strip() for line in text.strip().splitlines())


def sniff_delimiter(text: str) -> tuple[str, float]:
    """The delimiter of a CSV table and the share of the first rows that have as many fields as the header.

    The share is 0 for a table of one column, where every delimiter is as good as another.
    """
    head = text[:200_000].splitlines(keepends=True)[:51]
    best, best_share, best_fields = ",", 0.0, 1
    for delimiter in (",", "\t", ";", "|"):
        try:
            sizes = [len(fields) for fields in csv.reader(head, delimiter=delimiter) if fields]
        except csv.Error:
            continue
        if len(sizes) < 2 or sizes[0] < 2:
            continue
        # The last record may be cut by the end of the head.
        body = sizes[1:-1] or sizes[1:]
        share = sum(1 for size in body if size == sizes[0]) / len(body)
        if (share, sizes[0]) > (best_share, best_fields if best_share else 0):
            best, best_share, best_fields = delimiter, share, sizes[0]
    return best, best_share
