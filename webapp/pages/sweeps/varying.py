"""What varies, as people type it: a setting, and its values as a list or as a range."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polm_core.method import Method
from polm_core.settings import SettingSpec, as_text, setting_specs

PREFIX = "vary"
# Settings whose values are one thing each, so that commas can stand between them.
_KINDS = {"integer", "number", "choice", "switch", "text"}
_RANGE = re.compile(r"^(?P<low>\S+?)\s*(?:\.\.\.?|…|\u2013|\bto\b)\s*(?P<high>\S+)$")
_SWITCHED = {"on": True, "off": False, "true": True, "false": False}


@dataclass
class Row:
    """A line of the table: what stands in its inputs, and what is wrong with it."""

    place: int
    path: str = ""
    values: str = ""
    step: str = ""
    log: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{PREFIX}.{self.place}"

    @property
    def is_blank(self) -> bool:
        return not (self.path or self.values)


def settings_to_vary(method: Method) -> list[SettingSpec]:
    """What can be chosen for the table."""
    return [spec for spec in setting_specs(method) if spec.kind in _KINDS]


def rows_posted(values: Mapping[str, Any]) -> list[Row]:
    """The table as it was posted, each row in its place, with a blank one at its end."""
    places = {int(name.split(".")[1]) for name in values if re.fullmatch(rf"{PREFIX}\.\d{{1,2}}\.path", name)}
    rows = [
        Row(
            place,
            path=str(values.get(f"{PREFIX}.{place}.path", "")).strip(),
            values=str(values.get(f"{PREFIX}.{place}.values", "")).strip(),
            step=str(values.get(f"{PREFIX}.{place}.step", "")).strip(),
            log=values.get(f"{PREFIX}.{place}.scale") == "log",
        )
        for place in range(max(places, default=-1) + 1)
    ]
    while rows and rows[-1].is_blank:
        rows.pop()
    return [*rows, Row(len(rows))]


def rows_suggested(method: Method | None, config: Mapping[str, Any]) -> list[Row]:
    """What is swept first as a rule: the learning rate, around the one that is set."""
    rate = config.get("learning_rate") if method else None
    if not isinstance(rate, float) or not 0 < rate <= 0.1:
        return [Row(0)]
    around = f"{as_text(float(f'{rate / 10:.6g}'))} .. {as_text(float(f'{rate * 10:.6g}'))}"
    return [Row(0, "learning_rate", around, log=True), Row(1)]


def space_of(rows: list[Row], method: Method) -> dict[str, Any]:
    """What the rows say, as the services take it. Problems of single rows are noted with them."""
    specs = {spec.path: spec for spec in settings_to_vary(method)}
    space: dict[str, Any] = {}
    for row in rows:
        if row.is_blank:
            continue
        if not row.path:
            row.problems.append("choose a setting")
        elif not row.values:
            row.problems.append("give values with commas between them, or from .. to")
        elif row.path in space:
            row.problems.append(f"{row.path} stands above already")
        else:
            space[row.path] = _dimension(row, specs.get(row.path))
    return space


def _dimension(row: Row, spec: SettingSpec | None) -> Any:
    kind = spec.kind if spec else "number"
    found = _RANGE.match(row.values) if kind in {"integer", "number"} else None
    if found is None:
        return [_typed(text.strip(), kind) for text in row.values.split(",") if text.strip()]
    ends = {"min": _typed(found["low"], kind), "max": _typed(found["high"], kind)}
    step = {"step": _typed(row.step, kind)} if row.step else {}
    return {**ends, **step, "log": row.log}


def _typed(text: str, kind: str) -> Any:
    """A value of the setting's kind; text that is none is passed on, for the method to say what would be right."""
    if kind == "switch":
        return _SWITCHED.get(text.lower(), text)
    if kind == "choice":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | str) else text
