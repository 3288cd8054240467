"""Reading values out of rows whose columns may be nested, encoded or of odd types."""

import ast
import hashlib
from typing import Any

import orjson

from polm_core.data.problems import RowProblem

Row = dict[str, Any]

DIGEST_BYTES = 12

MISSING: Any = object()
"""What `read_path` answers for a path that the row does not have; a null in the file is `None`."""


def read_path(row: Row, path: str) -> Any:
    """The value at `path`, or `MISSING`.

    A path is a column name, or names joined by dots into nested objects (`data.prompt`) and list positions
    (`instances.0.output`). A column whose own name has dots in it wins over a nested one. Objects that are written as
    JSON inside a string are entered as well.
    """
    if path in row:
        return row[path]
    head, dot, rest = path.partition(".")
    while dot:
        if head in row:
            return _enter(row[head], rest)
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return MISSING


def _enter(value: Any, path: str) -> Any:
    value = decoded(value)
    if isinstance(value, dict):
        return read_path(value, path)
    if isinstance(value, list):
        head, dot, rest = path.partition(".")
        if head.isdecimal() and int(head) < len(value):
            item = value[int(head)]
            return _enter(item, rest) if dot else item
    return MISSING


def decoded(value: Any) -> Any:
    """`value`, or what it encodes when it is a string with a JSON (or Python) list or object in it.

    CSV has no lists, so tools write them as JSON, and pandas as Python literals.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not (text[:1] == "[" and text[-1:] == "]") and not (text[:1] == "{" and text[-1:] == "}"):
        return value
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return _python_literal(text, value)


def _python_literal(text: str, otherwise: Any) -> Any:
    if not any(mark in text for mark in ("'", "None", "True", "False")):
        return otherwise
    try:
        literal = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return otherwise
    return literal if isinstance(literal, list | dict) else otherwise


def scalar_text(value: Any, column: str) -> str:
    """A string, or a number as a string; `""` for null.

    Raises `RowProblem` for anything that is not text.
    """
    if isinstance(value, str):
        return value
    if value is None or value is MISSING:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise RowProblem(
        "value.not-text",
        f"'{column}' holds {kind_name(value)} where text is needed.",
        "Map a column of strings here, or write this value as a string.",
        column=column,
    )


def kind_name(value: Any) -> str:
    """What a value is, in words for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return f"a value of type {type(value).__name__}"


def is_storable(text: str) -> bool:
    """Whether a database can hold the text: it has no NUL, and no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def cleaned(text: str) -> str:
    """The text without what no database holds: NUL, and halves of a character (lone surrogates), which become `?`."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def truncated(value: Any, length: int = 400) -> Any:
    """`value` fit for showing: strings cut at `length` characters, lists at 20 items, odd types as strings."""
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")
        return text if len(text) <= length else f"{text[:length]}…"
    if isinstance(value, dict):
        return {truncated(str(key), 80): truncated(item, length) for key, item in list(value.items())[:50]}
    if isinstance(value, list | tuple):
        return [truncated(item, length) for item in value[:20]]
    if value is None or isinstance(value, bool | int | float):
        return value
    return truncated(str(value), length)


def digest(value: Any) -> bytes:
    """The same `DIGEST_BYTES` for values with equal content, whatever the order of their keys."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


def texts_of(row: Row) -> list[str]:
    """All texts of a canonical row: those of its columns, and of the messages and items in them."""
    texts = []
    for value in row.values():
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            texts += map(text_of, value)
    return texts


def text_of(item: Any) -> str:
    """The text of an item of a column: a message, a neighbour of an edit, or a text."""
    if isinstance(item, dict):
        # A neighbour of an edit, or a message.
        item = item["prompt"] + item["target"] if "target" in item and "prompt" in item else item.get("content")
    return item if isinstance(item, str) else ""
