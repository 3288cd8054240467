"""The settings of a method one by one, read from its JSON Schema: what its form and its docs page are made of."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from polm_core.method import Method

MAIN = "main"
# What a field name's short words stand for.
_WORDS = {"lr": "learning rate", "r": "rank", "eval": "evaluation", "grad": "gradient", "do": ""}


@dataclass
class SettingSpec:
    """One setting.

    `kind` is integer, number, text, prose (text of several lines), switch, choice (one of `options`), choices (several
    of them), list (values with commas between them), lines (one on each line) or json. `needs` is the path of the
    setting without which this one has no meaning, `beside` what of a run it is asked for with.
    """

    path: str
    label: str
    help: str
    kind: str
    default: Any
    group: str = ""
    unit: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    bounds: str = ""
    step: float | None = None
    needs: str = ""
    beside: str = ""

    @property
    def default_text(self) -> str:
        return as_text(self.default)

    @property
    def allowed(self) -> str:
        """What it may be, in words; empty for any text."""
        return ", ".join(self.options) or ("on, off" if self.kind == "switch" else self.bounds)


def setting_specs(method: Method) -> list[SettingSpec]:
    """Every setting of a method, in the order of its schema."""
    return list(_flatten(method.config_schema(), "", "", method.main_fields))


def group_title(name: str) -> str:
    return "Basics" if name == MAIN else name.replace("_", " ").capitalize()


def as_text(value: Any) -> str:
    """A setting's value as it is typed into an input."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.12g}".replace("e-0", "e-")
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(as_text(item) for item in value)
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value)


def nested(path: str, value: Any) -> dict[str, Any]:
    """A config that sets nothing but the setting with that dotted name."""
    config = value
    for name in reversed(path.split(".")):
        config = {name: config}
    return dict(config)


def _flatten(schema: Mapping[str, Any], above: str, group: str, main: tuple[str, ...]) -> Iterator[SettingSpec]:
    chooser = schema["properties"].get("type", {})
    for name, entry in schema["properties"].items():
        path = f"{above}.{name}" if above else name
        if "properties" in entry:
            yield from _flatten(entry, path, entry.get("group", group), main)
            continue
        own_group = entry.get("group", MAIN)
        yield SettingSpec(
            path=path,
            label=_label(path, alone=path in main or name == "type"),
            help=entry.get("description", ""),
            group=group if own_group == MAIN and group else own_group,
            unit="" if name.endswith(entry.get("unit", "")) else entry["unit"],
            source=entry.get("source", ""),
            step=entry.get("step"),
            default=entry["default"],
            bounds=_bounds(entry),
            needs=_needs(name, above, entry, chooser),
            beside=entry.get("beside", ""),
            **_kind(entry),
        )


def _needs(name: str, above: str, entry: Mapping[str, Any], chooser: Mapping[str, Any]) -> str:
    """The field that has to be set before this one matters: what its schema names, or the type of its block."""
    if "needs" in entry:
        return f"{above}.{entry['needs']}"
    return f"{above}.type" if name != "type" and "none" in chooser.get("enum", ()) else ""


def _kind(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The input that fits a schema: its kind, with the options where there are some."""
    if "enum" in entry:
        return {"kind": "choice", "options": tuple(entry["enum"])}
    kind = entry.get("type")
    if entry.get("contentMediaType") == "application/json":
        return {"kind": "json"}
    if entry.get("contentMediaType") == "text/plain" and kind != "array":
        return {"kind": "prose"}
    if kind == "array":
        items = entry.get("items", {})
        if "enum" in items:
            return {"kind": "choices", "options": tuple(items["enum"])}
        if entry.get("contentMediaType") == "text/plain":
            return {"kind": "lines"}
        return {"kind": "json" if items.get("type") in {"object", "array"} else "list"}
    if kind == "boolean":
        return {"kind": "switch"}
    return {"kind": kind if kind in {"integer", "number"} else "json" if kind == "object" else "text"}


def _bounds(entry: Mapping[str, Any]) -> str:
    if "anyOf" in entry:
        return " or ".join(filter(None, map(_bounds, entry["anyOf"])))
    if "const" in entry:
        return as_text(entry["const"])
    if entry.get("type") == "array":
        return "a list"
    words = []
    for key, word in (
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "to"),
        ("exclusiveMaximum", "below"),
    ):
        if key in entry:
            words.append(f"{word} {entry[key]:,}" if isinstance(entry[key], int) else f"{word} {as_text(entry[key])}")
    return " ".join(words)


def _label(path: str, *, alone: bool) -> str:
    """The field's name in words; one that stands apart from its block says which block it belongs to."""
    *blocks, name = path.split(".")
    words = " ".join([*blocks, name] if alone else [name]).replace("_", " ").split()
    spelled = " ".join(_WORDS.get(word, word) for word in words).split()
    return " ".join(spelled).capitalize()
