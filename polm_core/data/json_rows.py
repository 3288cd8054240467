"""Rows out of JSON lines and JSON files, in constant memory."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from polm_core.data.limits import Limits
from polm_core.data.problems import RowProblem, Unreadable
from polm_core.data.source import LongLine, too_large
from polm_core.data.values import Row, kind_name
from polm_core.errors import DataError

# NaN and infinities are not JSON, but Python writes them for missing numbers.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)

_KEY = re.compile(rb'"\s*:')
_BLANK = re.compile(r"[ \t\n\r]*")
_LIST_START = re.compile(r"\[[ \t\n\r]*")
_LIST_OF_OBJECTS = re.compile(r"\[[ \t\n\r]*(?=\{)")
# What decoders make of JSON that nests; looked up by the type itself, as every value of every row is.
_NESTING = frozenset({dict, list})
# An error this close to the end of what was read so far may only mean that the rest is still to come.
_MARGIN = 16

NumberedRow = tuple[int, Row | RowProblem]


def jsonl_rows(lines: Iterable[bytes], limits: Limits) -> Iterator[NumberedRow]:
    """One object a line, numbered by line; blank lines are passed over.

    Yields `Unreadable` for a line that is not JSON and `RowProblem` for one that is no usable row.
    """
    try:
        for number, line in enumerate(lines, 1):
            if line and not line.isspace():
                yield number, _line_row(line, number, limits)
    except LongLine as error:
        raise too_large(error.line, error.size, limits) from error


def _line_row(line: bytes, number: int, limits: Limits) -> Row | RowProblem:
    try:
        return checked_row(_decoded_line(line, number), line, limits)
    except RowProblem as problem:
        return problem


def _decoded_line(line: bytes, number: int) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _second_try(line, number, error)


def _second_try(line: bytes, number: int, error: orjson.JSONDecodeError) -> Any:
    """What Python's more lenient decoder makes of a line: NaN, and halves of surrogate pairs, are reported later."""
    try:
        return _DECODER.decode(line.decode())
    except (json.JSONDecodeError, RecursionError):
        what = error.msg.partition(": line ")[0]
        cut = "unexpected end" in what or "unterminated" in what.lower()
        raise Unreadable(
            number,
            "json.syntax",
            f"Row {number:,} is not valid JSON: {what}, at character {error.pos + 1:,} of the line.",
            "The line seems to be cut off: write one complete JSON object on each line."
            if cut
            else "Write one complete JSON object on each line, as json.dumps does.",
        ) from error


def checked_row(value: Any, raw: bytes, limits: Limits) -> Row:
    """`value`, decoded from `raw`, if it is an object within the limits; else raises `RowProblem`.

    Raises `DataError` for too many columns: such a file is refused as a whole.
    """
    if not isinstance(value, dict):
        raise RowProblem(
            "row.not-object",
            f"The row is {kind_name(value)}, not an object.",
            'Write each row as an object with named columns: {"text": "..."}.',
        )
    check_columns(len(value), limits)
    keys, depth = _keys_and_depth(value)
    if depth > limits.max_depth:
        raise RowProblem(
            "row.too-deep",
            f"The row nests {depth} levels deep; at most {limits.max_depth} are read.",
            "Flatten the row.",
        )
    # More colons behind quotes than keys: either some are inside strings, or a key stands twice.
    if len(_KEY.findall(raw)) > keys:
        _refuse_repeated_keys(raw)
    return value


def check_columns(count: int, limits: Limits) -> None:
    """Raise `DataError` when a row or table of `count` columns is too wide."""
    if count > limits.max_columns:
        raise DataError(
            f"The file has {count:,} columns; at most {limits.max_columns:,} are read.",
            code="data.too-many-columns",
            advice="Keep only the columns that hold the texts. If rows and columns are swapped, transpose the table.",
        )


def _keys_and_depth(value: Row) -> tuple[int, int]:
    keys = depth = 0
    level: list[Any] = [value]
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                keys += len(item)
                item = item.values()
            below += [inner for inner in item if type(inner) in _NESTING]
        level = below
    return keys, depth


def _refuse_repeated_keys(raw: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise RowProblem(
                    "json.repeated-key",
                    f"The key '{key[:80]}' stands twice in one object, so it is not clear which value counts.",
                    "Write each key once.",
                    column=key[:80],
                )
            seen.add(key)

    json.loads(raw, object_pairs_hook=unique)


class _Cursor:
    """A place in a stream of JSON text; only what is not yet decoded is kept in memory."""

    def __init__(self, chunks: Iterable[bytes], limits: Limits) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._limits = limits
        self._text = ""
        self._at = 0
        self.row = 1

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            self._at = self._after_blanks()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, expected: str) -> str:
        """Move past the next character, which must be one of `expected`."""
        found = self.peek()
        if not found or found not in expected:
            wanted = " or ".join(f"'{char}'" for char in expected)
            seen = f"'{found}' is there" if found else "the file ends"
            raise self._syntax(f"{wanted} is expected, but {seen}")
        self._at += 1
        return found

    def value(self) -> tuple[Any, bytes]:
        """The value at the cursor and its text, moving past it."""
        self.peek()
        value, end = self._decode(self._at)
        raw = self._text[self._at : end].encode()
        if len(raw) > self._limits.max_row_bytes:
            raise too_large(self.row, len(raw), self._limits)
        self._at = end
        return value, raw

    def key(self) -> str:
        """The key of an object's member, moving past it and its colon."""
        if self.peek() != '"':
            raise self._syntax("a key in double quotes is expected")
        key, _ = self.value()
        self.take(":")
        return str(key)

    def first_of_list(self) -> Any:
        """The first element if a list of objects stands at the cursor, else None; the cursor stays."""
        self.peek()
        while _LIST_START.fullmatch(self._text, self._at) and self._grow():
            pass
        match = _LIST_OF_OBJECTS.match(self._text, self._at)
        return self._decode(match.end())[0] if match else None

    def _decode(self, start: int) -> tuple[Any, int]:
        # Growing drops what is before the cursor, so only the distance from it stays valid.
        offset = start - self._at
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at + offset)
            except json.JSONDecodeError as error:
                may_go_on = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _MARGIN
                if not (may_go_on and self._grow()):
                    raise self._syntax(error.msg, error.pos - self._at) from error
            except RecursionError as error:
                raise Unreadable(
                    self.row, "row.too-deep", f"Row {self.row:,} nests too deep to be read.", "Flatten the row."
                ) from error
            else:
                # A number may go on in the next chunk, so something has to stand behind the value.
                if end < len(self._text) or not self._grow():
                    return value, end

    def _after_blanks(self) -> int:
        match = _BLANK.match(self._text, self._at)
        return match.end() if match else self._at

    def _grow(self) -> bool:
        pending = self._text[self._at :]
        if len(pending) > self._limits.max_row_bytes:
            raise too_large(self.row, len(pending), self._limits)
        for chunk in self._chunks:
            self._text, self._at = pending + self._decoder.decode(chunk), 0
            return True
        return False

    def _syntax(self, what: str, at: int = 0) -> Unreadable:
        place = f", at character {at + 1:,} of the row" if at else ""
        return Unreadable(
            self.row,
            "json.syntax",
            f"Row {self.row:,} is not valid JSON: {what}{place}.",
            "Write the file with a JSON library; a file that is cut off has to be copied again.",
        )


def json_rows(chunks: Iterable[bytes], limits: Limits) -> Iterator[NumberedRow]:
    """Rows of a JSON file: a list of objects, an object that holds such a list (`{"data": [...]}`), or one object.

    Raises `Unreadable` where the file stops being JSON: nothing behind that place can be trusted.
    """
    cursor = _Cursor(chunks, limits)
    rows = _list_rows(cursor, limits) if cursor.peek() == "[" else _object_rows(cursor, limits)
    yield from rows
    _refuse_rest(cursor)


def object_rows(chunks: Iterable[bytes], limits: Limits) -> Iterator[NumberedRow]:
    """Rows of a file of objects one after another, each over several lines, as `jq .` prints JSON lines.

    Raises `Unreadable` where the file stops being JSON.
    """
    cursor = _Cursor(chunks, limits)
    while cursor.peek() == "{":
        yield _next_row(cursor, limits)
        cursor.row += 1
    _refuse_rest(cursor)


def _refuse_rest(cursor: _Cursor) -> None:
    if cursor.peek():
        raise Unreadable(
            cursor.row,
            "json.trailing",
            f"Something follows the end of the JSON value (after row {cursor.row - 1:,}).",
            "A .json file holds one list of objects. Write one object a line and name the file .jsonl instead.",
        )


def _list_rows(cursor: _Cursor, limits: Limits) -> Iterator[NumberedRow]:
    cursor.take("[")
    if cursor.peek() == "]":
        cursor.take("]")
        return
    while True:
        yield _next_row(cursor, limits)
        if cursor.take(",]") == "]":
            cursor.row += 1
            return
        cursor.row += 1


def _next_row(cursor: _Cursor, limits: Limits) -> NumberedRow:
    value, raw = cursor.value()
    try:
        return cursor.row, checked_row(value, raw, limits)
    except RowProblem as problem:
        return cursor.row, problem


def _object_rows(cursor: _Cursor, limits: Limits) -> Iterator[NumberedRow]:
    members: Row = {}
    rows_key = ""
    cursor.take("{")
    while cursor.peek() != "}":
        key = cursor.key()
        first = cursor.first_of_list()
        if first is not None and not _is_message(first):
            if rows_key:
                raise DataError(
                    f"The file holds several lists of rows: '{rows_key}' and '{key}'.",
                    code="data.several-lists",
                    advice="Upload each list as a file of its own.",
                )
            rows_key = key
            yield from _list_rows(cursor, limits)
        else:
            members[key] = cursor.value()[0]
            check_columns(len(members), limits)
        if cursor.take(",}") == "}":
            break
    else:
        cursor.take("}")
    if not rows_key:
        _refuse_columns_as_lists(members)
        cursor.row += 1
        yield 1, checked_row(members, json.dumps(members).encode(), limits)


def _is_message(item: Row) -> bool:
    return ("role" in item and "content" in item) or ("from" in item and "value" in item)


def _refuse_columns_as_lists(members: Row) -> None:
    sizes = {len(value) if isinstance(value, list) else -1 for value in members.values()}
    if len(members) > 1 and len(sizes) == 1 and sizes.pop() > 1:
        raise DataError(
            f"The file is an object of columns ({', '.join(list(members)[:5])}), not a list of rows.",
            code="data.columns-not-rows",
            advice="Write it as rows: in pandas, to_json(path, orient='records', lines=True).",
        )
