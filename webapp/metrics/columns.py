"""Columns between numpy and Postgres: whole arrays in its binary format, without a Python object for each number."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from django.db import connection
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

# By numpy's kind and size: what Postgres calls the array and its elements.
_OIDS = {"i2": (1005, 21), "i4": (1007, 23), "i8": (1016, 20), "f8": (1022, 701), "M8": (1185, 1184)}
_HEADER = struct.Struct(">iiIii")
_EMPTY = struct.Struct(">iiI")
# Postgres counts time from 2000 on.
_EPOCH = int(np.datetime64("2000-01-01", "us").astype("i8"))

Array = npt.NDArray[Any]


class _ArrayDumper(Dumper):
    """A numpy array of one dimension as an argument of a statement."""

    format = Format.BINARY
    element = 0

    def get_key(self, obj: Array, format: PyFormat) -> Any:
        return (self.cls, _kind(obj.dtype))

    def upgrade(self, obj: Array, format: PyFormat) -> "_ArrayDumper":
        dumper = _ArrayDumper(self.cls)
        dumper.oid, dumper.element = _OIDS[_kind(obj.dtype)]
        return dumper

    def dump(self, obj: Array) -> bytes:
        if not len(obj):
            return _EMPTY.pack(0, 0, self.element)
        body = np.empty(len(obj), _element(obj.dtype))
        body["size"] = obj.dtype.itemsize
        body["value"] = obj.astype("i8") - _EPOCH if obj.dtype.kind == "M" else obj
        return _HEADER.pack(1, 0, self.element, len(obj), 1) + body.tobytes()


def execute(statement: str, arguments: Sequence[Any], *, fetch: bool = True) -> list[tuple[Any, ...]]:
    """Run a statement in the binary format, which Django's own cursor does not speak; arguments may be numpy arrays."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.adapters.register_dumper(np.ndarray, _ArrayDumper)
        cursor.execute(statement, arguments, binary=True)
        return cursor.fetchall() if fetch else []


def gathered(column: str, order: str) -> str:
    """SQL for the elements of an array column in a group of rows, in the form that `elements` takes."""
    return f"string_agg(substr(array_send({column}), {_HEADER.size + 1}), '' ORDER BY {order})"


def elements(sent: Sequence[bytes], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The elements of what `gathered` made, one after another, and how many each has; there is no NULL in it."""
    element = _element(dtype)
    counts = np.fromiter(map(len, sent), "i8", len(sent)) // element.itemsize
    values = np.frombuffer(b"".join(sent), element)["value"]
    return (values + _EPOCH if dtype.kind == "M" else values).astype(dtype), counts


def _kind(dtype: np.dtype[Any]) -> str:
    return f"{dtype.kind}{dtype.itemsize}"


def _element(dtype: np.dtype[Any]) -> np.dtype[Any]:
    value = ">i8" if dtype.kind == "M" else dtype.newbyteorder(">")
    return np.dtype([("size", ">i4"), ("value", value)])
