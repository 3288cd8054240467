"""The form of a method's settings, built from its JSON Schema alone: a new method needs no form of its own.

An input that is left empty means the method's default, which it shows as a placeholder. Values are judged by the
method's own pydantic class; what it says is shown beside the field at fault.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict
from pydantic import BaseModel

from polm_core.errors import ConfigError
from polm_core.method import Method, merged

PREFIX = "config"
MAIN = "main"
# What a field name's short words stand for.
_WORDS = {"lr": "learning rate", "r": "rank", "eval": "evaluation", "grad": "gradient", "do": ""}


@dataclass
class Setting:
    """One field of the form.

    `kind` is integer, number, text, prose (text of several lines), switch, choice (one of `options`), choices (several
    of them), list (values with commas between them) or json. `value` is the default where nothing else was said
    (`changed` is False). `needs` names the field without which this one has no meaning.
    """

    path: str
    label: str
    help: str
    kind: str
    default: Any
    value: Any
    group: str = ""
    unit: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    bounds: str = ""
    step: float | None = None
    needs: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{PREFIX}.{self.path}"

    @property
    def changed(self) -> bool:
        return bool(self.value != self.default)

    @property
    def default_text(self) -> str:
        return as_text(self.default)

    @property
    def text(self) -> str:
        """What stands in the input: nothing for the default."""
        return as_text(self.value) if self.changed else ""


@dataclass(frozen=True)
class Group:
    """Settings that stand together under a title."""

    title: str
    settings: list[Setting]

    @property
    def is_open(self) -> bool:
        """A group that holds a changed value or a problem does not hide it."""
        return any(setting.changed or setting.problems for setting in self.settings)


class MethodForm:
    """The settings of `method`: with what was posted, with the values of another run, or with the defaults."""

    def __init__(
        self, method: Method, *, posted: QueryDict | None = None, values: Mapping[str, Any] | None = None
    ) -> None:
        self.method = method
        self.settings = {setting.path: setting for setting in settings_of(method)}
        self.problems: list[str] = []
        self.config: dict[str, Any] | None = None
        for setting in self.settings.values():
            if posted is not None:
                setting.value = _posted(setting, posted)
            elif values is not None:
                setting.value = _look_up(values, setting.path, setting.default)
        self._validate()

    @property
    def is_valid(self) -> bool:
        return self.config is not None

    @property
    def main(self) -> list[Setting]:
        """The settings that matter most, in the method's order."""
        return [self.settings[path] for path in self.method.main_fields]

    @property
    def groups(self) -> list[Group]:
        """All other settings by group."""
        found: dict[str, list[Setting]] = {}
        for setting in self.settings.values():
            if setting.path not in self.method.main_fields:
                found.setdefault(setting.group, []).append(setting)
        return [Group(_group_title(name), settings) for name, settings in found.items()]

    @property
    def changes(self) -> dict[str, Any]:
        """What differs from the defaults, nested as in a config."""
        changes: dict[str, Any] = {}
        for setting in self.settings.values():
            if setting.changed:
                changes = merged(changes, _nested(setting.path, setting.value))
        return changes

    def add_problems(self, fields: Mapping[str, list[str]]) -> None:
        """Put problems beside their fields (`config.adapter.r`); those of no field stand above the form."""
        for name, problems in fields.items():
            setting = self._setting_at(name.removeprefix(f"{PREFIX}."))
            if setting is None:
                self.problems += [f"{name} {problem}" for problem in problems]
            else:
                setting.problems += problems

    def _validate(self) -> None:
        try:
            parsed: BaseModel = self.method.parse(self.changes)
        except ConfigError as error:
            self.add_problems(error.fields)
        else:
            self.config = parsed.model_dump(mode="json")

    def _setting_at(self, path: str) -> Setting | None:
        """The setting that `path` names or lies in (`loss.0` lies in `loss`)."""
        while path and path not in self.settings:
            path = path.rpartition(".")[0]
        return self.settings.get(path)


def settings_of(method: Method) -> list[Setting]:
    """Every setting of a method with its default, in the order of its schema."""
    return list(_flatten(method.config_schema(), "", "", method.main_fields))


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


def _flatten(schema: Mapping[str, Any], above: str, group: str, main: tuple[str, ...]) -> Iterator[Setting]:
    chooser = schema["properties"].get("type", {})
    for name, entry in schema["properties"].items():
        path = f"{above}.{name}" if above else name
        if "properties" in entry:
            yield from _flatten(entry, path, entry.get("group", group), main)
            continue
        own_group = entry.get("group", MAIN)
        yield Setting(
            path=path,
            label=_label(path, alone=path in main or name == "type"),
            help=entry.get("description", ""),
            group=group if own_group == MAIN and group else own_group,
            unit="" if name.endswith(entry.get("unit", "")) else entry["unit"],
            source=entry.get("source", ""),
            step=entry.get("step"),
            default=entry["default"],
            value=entry["default"],
            bounds=_bounds(entry),
            needs=_needs(name, above, entry, chooser),
            **_kind(entry),
        )


def _needs(name: str, above: str, entry: Mapping[str, Any], chooser: Mapping[str, Any]) -> str:
    """The field that has to be set before this one matters: what its schema names, or the type of its block."""
    if "needs" in entry:
        return f"{PREFIX}.{above}.{entry['needs']}"
    return f"{PREFIX}.{above}.type" if name != "type" and "none" in chooser.get("enum", ()) else ""


def _kind(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The input that fits a schema: its kind, with the options where there are some."""
    if "enum" in entry:
        return {"kind": "choice", "options": tuple(entry["enum"])}
    kind = entry.get("type")
    if entry.get("contentMediaType") == "application/json":
        return {"kind": "json"}
    if entry.get("contentMediaType") == "text/plain":
        return {"kind": "prose"}
    if kind == "array":
        items = entry.get("items", {})
        if "enum" in items:
            return {"kind": "choices", "options": tuple(items["enum"])}
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
            words.append(f"{word} {as_text(entry[key])}")
    return " ".join(words)


def _label(path: str, *, alone: bool) -> str:
    """The field's name in words; one that stands apart from its block says which block it belongs to."""
    *blocks, name = path.split(".")
    words = " ".join([*blocks, name] if alone else [name]).replace("_", " ").split()
    spelled = " ".join(_WORDS.get(word, word) for word in words).split()
    return " ".join(spelled).capitalize()


def _group_title(name: str) -> str:
    return "Basics" if name == MAIN else name.replace("_", " ").capitalize()


def _posted(setting: Setting, posted: QueryDict) -> Any:
    """The posted value, or the default when the input was left empty or not sent at all.

    Text that is not of the field's kind is passed on as it is, for the method to say what would be right. An option
    that the field does not have comes from the method that was chosen before, and is let go of.
    """
    texts = [text.strip() for text in posted.getlist(setting.name)]
    texts = [text for text in texts if text and (not setting.options or text in setting.options)]
    if not texts:
        return setting.default
    if setting.kind == "choices":
        return texts
    text = texts[-1]
    if setting.kind == "switch":
        return text == "on"
    if setting.kind == "list":
        return [_typed(item.strip()) for item in text.split(",") if item.strip()]
    if setting.kind in {"integer", "number", "json"}:
        return _typed(text)
    return text


def _typed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _look_up(values: Mapping[str, Any], path: str, default: Any) -> Any:
    found: Any = values
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return default
        found = found[name]
    return found


def _nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value  # type: ignore[no-any-return]
