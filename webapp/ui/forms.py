"""The form of a method's settings, built from its JSON Schema alone: a new method needs no form of its own.

An input that is left empty means the method's default, which it shows as a placeholder. Values are judged by the
method's own pydantic class; what it says is shown beside the field at fault.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict
from pydantic import BaseModel

from polm_core.errors import ConfigError
from polm_core.method import Method, merged
from polm_core.settings import SettingSpec, as_text, group_title, nested, setting_specs

PREFIX = "config"


@dataclass
class Setting(SettingSpec):
    """One field of the form. `value` is the default where nothing else was said (`changed` is False).

    `prefix` sets it apart from the settings of other methods on the page.
    """

    value: Any = None
    prefix: str = PREFIX
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.prefix}.{self.path}"

    @property
    def chooser(self) -> str:
        """The name of the field that has to be set before this one matters."""
        return f"{self.prefix}.{self.needs}" if self.needs else ""

    @property
    def changed(self) -> bool:
        return bool(self.value != self.default)

    @property
    def text(self) -> str:
        """What stands in the input: nothing for the default."""
        return self._typed(self.value) if self.changed else ""

    @property
    def placeholder(self) -> str:
        """The default, as it would be typed."""
        return self._typed(self.default)

    def _typed(self, value: Any) -> str:
        return "\n".join(map(str, value)) if self.kind == "lines" and isinstance(value, list) else as_text(value)


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
        self,
        method: Method,
        *,
        posted: QueryDict | None = None,
        values: Mapping[str, Any] | None = None,
        prefix: str = PREFIX,
    ) -> None:
        self.method = method
        self.prefix = prefix
        self.settings = {setting.path: setting for setting in settings_of(method)}
        self.problems: list[str] = []
        self.config: dict[str, Any] | None = None
        for setting in self.settings.values():
            setting.prefix = prefix
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
        return [Group(group_title(name), settings) for name, settings in found.items()]

    @property
    def changes(self) -> dict[str, Any]:
        """What differs from the defaults, nested as in a config."""
        changes: dict[str, Any] = {}
        for setting in self.settings.values():
            if setting.changed:
                changes = merged(changes, nested(setting.path, setting.value))
        return changes

    def add_problems(self, fields: Mapping[str, list[str]]) -> None:
        """Put problems beside their fields (`config.adapter.r`); those of no field stand above the form."""
        for name, problems in fields.items():
            setting = self._setting_at(name.removeprefix(f"{self.prefix}."))
            if setting is None:
                self.problems += [f"{name} {problem}" for problem in problems]
            else:
                setting.problems += problems

    def _validate(self) -> None:
        try:
            parsed: BaseModel = self.method.parse(self.changes)
        except ConfigError as error:
            self.add_problems({name.replace(PREFIX, self.prefix, 1): said for name, said in error.fields.items()})
        else:
            self.config = parsed.model_dump(mode="json")

    def _setting_at(self, path: str) -> Setting | None:
        """The setting that `path` names or lies in (`loss.0` lies in `loss`)."""
        while path and path not in self.settings:
            path = path.rpartition(".")[0]
        return self.settings.get(path)


def settings_of(method: Method) -> list[Setting]:
    """Every setting of a method with its default, in the order of its schema."""
    return [Setting(**vars(spec), value=spec.default) for spec in setting_specs(method)]


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
    if setting.kind == "lines":
        return [line.strip() for line in text.splitlines() if line.strip()]
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
