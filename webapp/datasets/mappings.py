"""A person's word on how a file is to be read: format and column mapping, checked before a worker sees it."""

import json
from collections.abc import Mapping as MappingType
from typing import Any

import orjson
from pydantic import ValidationError

from polm_core.data.mapping import SHAPES, Mapping
from polm_core.data.values import is_storable
from polm_core.formats import Format
from webapp.errors import Invalid, refused


def clean_format(format: str) -> str:
    """The format, or `""` for whatever is detected. Raises Invalid for one that no file can be read as."""
    if format and format not in SHAPES:
        raise Invalid(
            f"Files are not read as '{format[:40]}'.", fields={"format": [f"must be one of {', '.join(SHAPES)}"]}
        )
    return format


def clean_mapping(mapping: MappingType[str, Any] | None, *, format: str = "") -> dict[str, Any] | None:
    """The mapping as it is stored, or None for the suggested one. Raises Invalid with the entries at fault.

    `format` is the one that was asked for beside it: the two must not contradict each other. Beside a format, the
    columns alone will do: `{"prompt": "question", "completion": "answer"}`.
    """
    if not mapping:
        return None
    if format and not {"format", "columns"} & set(mapping):
        mapping = {"columns": mapping}
    if format:
        mapping = {"format": format, **mapping}
    try:
        cleaned = Mapping.model_validate(mapping)
    except ValidationError as error:
        raise refused(error, "The mapping is not accepted.", "mapping") from None
    if format and cleaned.format != format:
        raise Invalid(
            "Format and mapping contradict each other.",
            fields={"format": [f"is '{format}', but the mapping is to '{Format(cleaned.format)}'"]},
        )
    stored = cleaned.model_dump(mode="json", exclude_defaults=True)
    if not is_storable(json.dumps(stored, ensure_ascii=False).replace("\\u0000", "\0")):
        raise Invalid("The mapping is not accepted.", fields={"mapping": ["holds a NUL or half a character"]})
    return stored


def check_columns(mapping: MappingType[str, Any] | None, report: MappingType[str, Any]) -> None:
    """Raise DataError for columns that the file does not have, as far as its report knows them."""
    known = {column["path"] for column in report.get("columns", ())}
    if mapping and known:
        Mapping.model_validate(mapping).check(known)


def parse_mapping(text: str) -> dict[str, Any] | None:
    """A mapping that came as JSON in a form or a query; None for none. Raises Invalid for anything but an object."""
    if not text.strip():
        return None
    try:
        mapping = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Invalid("The mapping is not JSON.", fields={"mapping": [str(error)]}) from None
    if not isinstance(mapping, dict):
        raise Invalid("The mapping is not a JSON object.", fields={"mapping": ["must be an object"]})
    return mapping
