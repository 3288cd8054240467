"""JSON Schemas that people write: which can be used, and what fits them.

A schema is refused what could make one check take very long or reach out: references (that go round, multiply, or name
an address), and patterns as property names. Its other patterns are matched by RE2.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from polm_core.patterns import check_pattern, is_found

_REFUSED = {
    "$ref": "write out what it refers to",
    "$dynamicRef": "write out what it refers to",
    "patternProperties": "name the properties, or use propertyNames with a pattern",
}


def check_schema(text: str) -> None:
    """Raise `ValueError` unless the text is a schema that can be used."""
    try:
        _validator(text)
    except RecursionError:
        raise ValueError("must not be nested so deeply") from None


def fits(text: str, value: Any) -> bool:
    """Whether a value that was read from JSON fits the schema."""
    try:
        return bool(_validator(text).is_valid(value))
    except RecursionError:
        return False


@lru_cache(maxsize=16)
def _validator(text: str) -> Any:
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import extend

    try:
        schema = json.loads(text)
    except ValueError as error:
        raise ValueError(f"must be JSON: {error}") from error
    for keyword, value in _keywords(schema):
        if keyword in _REFUSED:
            raise ValueError(f"must not use {keyword}: {_REFUSED[keyword]}")
        if keyword == "pattern" and isinstance(value, str):
            check_pattern(value)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"must be a JSON Schema: {error.message}") from error
    return extend(Draft202012Validator, {"pattern": _pattern})(schema)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not is_found(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _keywords(node: Any) -> Iterator[tuple[str, Any]]:
    """Every name in the schema with its value, at any depth."""
    if isinstance(node, dict):
        yield from node.items()
    for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _keywords(below)
