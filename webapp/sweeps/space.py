"""What a sweep varies: settings of its method, each with a list of values or a range of numbers."""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    RootModel,
    StrictFloat,
    StrictInt,
    Tag,
    ValidationError,
    model_validator,
)

from polm_core.errors import ConfigError
from polm_core.method import Method, merged, near
from polm_core.settings import SettingSpec, as_text, nested, setting_specs
from webapp.errors import Invalid
from webapp.runs.config_files import flat_settings

MAX_SETTINGS = 20
MAX_VALUES = 100
MAX_GRID = 200
FIELD = "space"
# What is wrong, by pydantic's name for it.
_FAULTS = {
    "missing": "must be given",
    "extra_forbidden": "is no part of a range, which has min, max, log and step",
    "model_type": "must be a list of values, or a range with min and max",
    "too_short": f"must have 1 to {MAX_VALUES} values",
    "too_long": f"must have 1 to {MAX_VALUES} values",
    "greater_than": "must be above 0",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
# Rounding may not keep a step from reaching the end of its range.
_SLACK = 1e-9


def _finite(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"must be a finite number, not {value!r}")
    return value


Number = Annotated[StrictInt | StrictFloat, BeforeValidator(_finite)]


class Range(BaseModel):
    """The numbers from `min` to `max`, both included: on a logarithmic scale with `log`, at a distance of `step`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: Number
    max: Number
    log: bool = False
    step: Number | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "Range":
        if self.min >= self.max:
            raise ValueError(f"must end above its beginning, {as_text(self.min)}, not at {as_text(self.max)}")
        if self.log and self.min <= 0:
            raise ValueError(f"must begin above 0 on a logarithmic scale, not at {as_text(self.min)}")
        if self.log and self.step is not None:
            raise ValueError("takes a step or a logarithmic scale, not both")
        if self.step is not None and self.step > self.max - self.min:
            raise ValueError(f"must have a step of at most {as_text(self.max - self.min)}, its length")
        return self

    @property
    def count(self) -> int | None:
        """How many values it has, where there is a step."""
        return None if self.step is None else math.floor((self.max - self.min) / self.step + _SLACK) + 1

    @property
    def values(self) -> list[int | float]:
        """All of them, where there is a step."""
        return [tidy(self.min + place * (self.step or 0)) for place in range(self.count or 0)]

    def __str__(self) -> str:
        ends = f"{as_text(self.min)} to {as_text(self.max)}"
        return f"{ends}, logarithmic" if self.log else f"{ends} by {as_text(self.step)}" if self.step else ends


def _once(values: list[Any]) -> list[Any]:
    known = [json.dumps(value, sort_keys=True) for value in values]
    if twice := [as_text(value) for value, key in zip(values, known, strict=True) if known.count(key) > 1]:
        raise ValueError(f"must not name {twice[0]} twice")
    return values


Listed = Annotated[list[JsonValue], Field(min_length=1, max_length=MAX_VALUES), AfterValidator(_once)]
Dimension = Annotated[
    Annotated[Listed, Tag("list")] | Annotated[Range, Tag("range")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "range"),
]


class Space(RootModel[dict[str, Dimension]]):
    """Settings by their dotted names, each with its values or its range."""

    root: dict[str, Dimension] = Field(min_length=1, max_length=MAX_SETTINGS)

    @property
    def paths(self) -> list[str]:
        """In one order: the database keeps none."""
        return sorted(self.root)

    @property
    def combinations(self) -> int | None:
        """How many there are; None where a range has no step."""
        counts = [len(one) if isinstance(one, list) else one.count for one in self.root.values()]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    def grid(self) -> list[dict[str, Any]]:
        """Every combination, the last setting varying fastest. Ranges need a step."""
        values = [_values(self.root[path]) for path in self.paths]
        return [dict(zip(self.paths, chosen, strict=True)) for chosen in product(*values)]

    def words(self) -> dict[str, str]:
        """Each dimension as a person would say it."""
        return {path: _words(self.root[path]) for path in self.paths}


def space_read(values: object) -> Space:
    """The space that JSON describes. Raises Invalid, whose fields are `space.<setting>`."""
    try:
        return Space.model_validate(values)
    except ValidationError as error:
        fields: dict[str, list[str]] = {}
        for problem in error.errors(include_url=False):
            path, _, *rest = [*map(str, problem["loc"]), "", ""]
            said = _FAULTS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
            if path:
                fields.setdefault(f"{FIELD}.{path}", []).append(f"{rest[0]} {said}".strip() if rest else said)
            else:
                fields[FIELD] = [f"must name 1 to {MAX_SETTINGS} settings, each with its values"]
        raise Invalid("What the sweep varies is not accepted.", fields=fields) from None


def space_checked(space: Space, method: Method, config: Mapping[str, Any], *, whole: bool) -> Space:
    """The space with its values as the method takes them, laid over `config`; `whole` checks every combination.

    Without it every value of a list and both ends of a range are checked, each by itself. Raises Invalid, whose fields
    are `space.<setting>`.
    """
    specs = {spec.path: spec for spec in setting_specs(method)}
    problems: dict[str, list[str]] = {}
    for path, dimension in space.root.items():
        if said := _misfit(path, dimension, method, specs, space, config):
            problems[f"{FIELD}.{path}"] = [said]
    if not problems:
        tried = space.grid() if whole else list(_one_by_one(space))
        problems = _refusals(space, method, config, tried)
    if problems:
        named = "; ".join(f"{field.removeprefix(f'{FIELD}.')} {said[0]}" for field, said in problems.items())
        raise Invalid(f"What the sweep varies does not fit {method.slug}: {named}", fields=problems)
    return space_read({path: _as_taken(path, one, specs[path], method, config) for path, one in space.root.items()})


def with_params(config: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the values of a trial, by their dotted names, laid over it."""
    result = dict(config)
    for path, value in params.items():
        result = merged(result, nested(path, value))
    return result


def tidy(value: float) -> int | float:
    """A number without the noise of its last bits."""
    return value if isinstance(value, int) else float(f"{value:.12g}")


def _misfit(
    path: str,
    dimension: list[Any] | Range,
    method: Method,
    specs: Mapping[str, SettingSpec],
    space: Space,
    config: Mapping[str, Any],
) -> str:
    """What is wrong with a dimension as such; its values are judged by the method's class."""
    spec = specs.get(path)
    if spec is None:
        return f"is not a setting of {method.slug}.{near(path, list(specs))}"
    if isinstance(dimension, Range):
        if spec.kind not in {"integer", "number"}:
            return "is not a number: give a list of values"
        if spec.kind == "integer" and not all(
            isinstance(one, int) for one in (dimension.min, dimension.max, dimension.step or 1)
        ):
            return "takes whole numbers: min, max and step must be such"
    if spec.needs and spec.needs not in space.root:
        chosen = flat_settings(config).get(spec.needs)
        if not chosen or chosen == "none":
            return f"has no effect while {spec.needs} is {as_text(chosen) or 'not set'}"
    return ""


def _one_by_one(space: Space) -> Iterator[dict[str, Any]]:
    for path, dimension in space.root.items():
        ends = dimension if isinstance(dimension, list) else [dimension.min, dimension.max]
        yield from ({path: value} for value in ends)


def _refusals(
    space: Space, method: Method, config: Mapping[str, Any], tried: list[dict[str, Any]]
) -> dict[str, list[str]]:
    """What the method says of the first combination that each setting spoils.

    What another setting is at fault for that varies too may be right in other combinations.
    """
    problems: dict[str, list[str]] = {}
    for params in tried:
        try:
            method.parse(with_params(config, params))
        except ConfigError as error:
            for name, said in error.fields.items():
                path = name.removeprefix("config.")
                own = next((one for one in params if path == one or path.startswith(f"{one}.")), None)
                if own is not None:
                    problems.setdefault(f"{FIELD}.{own}", said[:1])
                elif path not in space.root:
                    given = ", ".join(f"{one} {as_text(value)}" for one, value in params.items())
                    problems.setdefault(f"{FIELD}.{next(iter(params))}", [f"with {given}: {path} {said[0]}"])
    return problems


def _as_taken(
    path: str, dimension: list[Any] | Range, spec: SettingSpec, method: Method, config: Mapping[str, Any]
) -> list[Any] | Range:
    """Values as they will stand in the run's settings, so that both are the same; a range of the setting's numbers."""
    if isinstance(dimension, Range):
        if spec.kind == "integer":
            return dimension
        step = None if dimension.step is None else float(dimension.step)
        return Range(min=float(dimension.min), max=float(dimension.max), log=dimension.log, step=step)
    taken = []
    for value in dimension:
        try:
            parsed = method.parse(with_params(config, {path: value})).model_dump(mode="json")
        except ConfigError:  # right in some combinations only
            taken.append(value)
        else:
            taken.append(flat_settings(parsed).get(path, value))
    return taken


def _values(dimension: list[Any] | Range) -> list[Any]:
    return dimension if isinstance(dimension, list) else dimension.values


def _words(dimension: list[Any] | Range) -> str:
    if isinstance(dimension, Range):
        return str(dimension)
    return ", ".join(as_text(value) or "empty" for value in dimension)
