"""What a post-training method is: a frozen record that the catalogue lists and every surface reads.

From one record come the launch form, the API's JSON Schema, the command line, the docs page and the run itself.
"""

import copy
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from polm_core.errors import ConfigError
from polm_core.formats import Format


class Paradigm(StrEnum):
    """The five paradigms of "A Survey on Post-training of Large Language Models" (arXiv 2503.06072)."""

    FINE_TUNING = "fine-tuning"
    ALIGNMENT = "alignment"
    REASONING = "reasoning"
    EFFICIENCY = "efficiency"
    INTEGRATION = "integration"


class ParadigmSpec(NamedTuple):
    title: str
    summary: str


PARADIGMS: dict[Paradigm, ParadigmSpec] = {
    Paradigm.FINE_TUNING: ParadigmSpec("Fine-tuning", "Teach a task from examples of the right answer."),
    Paradigm.ALIGNMENT: ParadigmSpec("Alignment", "Teach which of several answers people prefer."),
    Paradigm.REASONING: ParadigmSpec("Reasoning", "Teach to think in steps, rewarded by checkable results."),
    Paradigm.EFFICIENCY: ParadigmSpec("Efficiency", "Train or run with less memory, compute or data."),
    Paradigm.INTEGRATION: ParadigmSpec(
        "Integration and adaptation", "Add a domain, a modality, knowledge or another model's skills."
    ),
}


# What stands in a paradigm's place for what only measures.
EVALUATION = ParadigmSpec("Evaluation", "Measure a model, with an interval around each figure. Nothing is trained.")

BAND_ENDS = ("low", "high")


class Teacher(StrEnum):
    """What a method asks of the model that it takes beside its own, as `teacher_model`: most learn from it."""

    WRITES = "writes"
    """It writes answers, and any model that does will do."""

    SAME_TOKENIZER = "same-tokenizer"
    """It says how likely every next token is, so it has to read the tokens that the student reads."""

    ANY_TOKENIZER = "any-tokenizer"
    """It says how likely every next token is, in tokens of its own: any model that writes will do."""

    OPPONENT = "opponent"
    """It writes the answers that those of a measured model are held against. Nothing is learned from it."""


class Paper(NamedTuple):
    """Where a method comes from; `arxiv` is an identifier such as `2305.18290`."""

    title: str
    arxiv: str

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclass(frozen=True)
class ChartSpec:
    """One chart of a method's default set.

    `keys` are metric keys drawn as lines of one chart, `how_to_read` is what a newcomer should look for. A run whose
    lines rise above `bound` is told so. `x` names what the steps of the values count where those are no steps. Lines
    with a `band` have metrics beside them that bound it: `<key>/low` and `<key>/high`.
    """

    title: str
    keys: tuple[str, ...]
    unit: str
    how_to_read: str
    bound: float | None = None
    x: str = ""
    band: bool = False

    @property
    def band_keys(self) -> tuple[str, ...]:
        """The metrics that bound the lines."""
        return tuple(f"{key}/{end}" for key in self.keys for end in BAND_ENDS) if self.band else ()

    @property
    def reading(self) -> str:
        """How to read it, bound included."""
        return self.how_to_read if self.bound is None else f"{self.how_to_read} Keep it below {self.bound:g}."


@dataclass(frozen=True)
class Method:
    """One row of the catalogue, or of the evaluations, which have no paradigm.

    `summary` says in a line what the method does, `when` when to choose it. `objective` says what it optimises, in
    words, and `formula` in the notation of `polm_core.docs`, its constants called as the settings are; `watch` names
    what goes wrong and what helps. `config` is the pydantic class of its settings, `defaults` what this row sets
    differently from that class (a preset), `main_fields` the dotted names of the settings that matter most.
    `sources` says where those of a preset's defaults come from that are not its paper's, by their dotted names.
    `run(config, context)` takes that class and a `RunContext`, trains, and returns the final metrics. `devices` tells
    about hardware needs, empty when there is nothing to tell. Of a method that `makes_checkpoints` these are the
    result, of others the metrics. `teacher` says what the model beside its own has to be, where it takes one. One
    without `formats` takes no dataset, one that `takes_documents` answers from a second one; one that `merges` takes
    further models. `preflight(config, spec, report)` checks a run of a method that trains on no rows, in place of the
    check that looks at them.
    """

    slug: str
    title: str
    paradigm: Paradigm | None
    branch: str
    summary: str
    when: str
    paper: Paper
    formats: tuple[Format, ...]
    config: type[BaseModel]
    run: Callable[[Any, Any], dict[str, float]]
    charts: tuple[ChartSpec, ...]
    main_fields: tuple[str, ...]
    objective: str = ""
    formula: str = ""
    watch: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    devices: str = ""
    makes_checkpoints: bool = True
    teacher: Teacher | None = None
    takes_documents: bool = False
    merges: bool = False
    preflight: Callable[[Any, Any, Any], None] | None = None

    def parse(self, values: Mapping[str, Any]) -> BaseModel:
        """The validated settings: `values` over this row's defaults.

        Raises `ConfigError` whose `fields` name every setting at fault, `config.<path>`, and what would be right.
        """
        try:
            return self.config.model_validate(merged(self.defaults, values))
        except ValidationError as error:
            raise _config_error(error, self) from error

    def default_config(self) -> dict[str, Any]:
        """Every setting with its default in this row, as plain JSON values."""
        return self.parse({}).model_dump(mode="json")

    @property
    def trains(self) -> bool:
        """Whether its runs consist of training steps; others measure a model, or make another of it at once."""
        return bool(getattr(self.config, "trains", False))

    @property
    def holds_out(self) -> bool:
        """Whether it measures on rows that it keeps back or is given besides its dataset: an evaluation measures on
        that, an edit on its own neighbours."""
        return not self.is_evaluation and any(format_ is not Format.EDIT for format_ in self.formats)

    @property
    def family(self) -> ParadigmSpec:
        """The paradigm that it belongs to, in words."""
        return PARADIGMS[self.paradigm] if self.paradigm else EVALUATION

    @property
    def is_evaluation(self) -> bool:
        """Whether it measures a model, and trains none."""
        return self.paradigm is None

    @property
    def writes(self) -> bool:
        """Whether its checkpoints write text; others score it."""
        return getattr(self.config, "task", "language") == "language"

    def config_schema(self) -> dict[str, Any]:
        """The settings as JSON Schema without `$ref`, with this row's own defaults at every level."""
        schema = self.config.model_json_schema()
        inlined: dict[str, Any] = _inline(schema, schema.get("$defs", {}))
        inlined.pop("$defs", None)
        paper = f"{self.paper.title}, arXiv {self.paper.arxiv}"
        _set_defaults(inlined, self.default_config(), lambda name: self.sources.get(name, paper))
        return inlined


def preset(
    base: Method,
    *,
    slug: str,
    title: str,
    summary: str,
    when: str,
    paper: Paper,
    defaults: Mapping[str, Any],
    sources: Mapping[str, str] | None = None,
    paradigm: Paradigm | None = None,
    branch: str | None = None,
    objective: str = "",
    formula: str = "",
    watch: tuple[str, ...] = (),
    charts: tuple[ChartSpec, ...] = (),
    main_fields: tuple[str, ...] | None = None,
    devices: str = "",
) -> Method:
    """A catalogue row that is `base` with other defaults; what is not given is as in `base`."""
    return replace(
        base,
        slug=slug,
        title=title,
        summary=summary,
        when=when,
        paper=paper,
        defaults=merged(base.defaults, defaults),
        sources={**base.sources, **(sources or {})},
        paradigm=paradigm or base.paradigm,
        branch=branch or base.branch,
        objective=objective or base.objective,
        formula=formula or base.formula,
        watch=watch or base.watch,
        charts=charts or base.charts,
        main_fields=main_fields or base.main_fields,
        devices=devices or base.devices,
    )


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, nested mappings merged key by key; neither argument is changed."""
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def no_documents() -> ConfigError:
    """The refusal of a method that takes documents and is given none."""
    return ConfigError(
        "The method answers from documents, and there are none.",
        advice="Choose a dataset of documents beside the one with the questions.",
        fields={"documents": ["must name a dataset of documents"]},
    )


def near(name: str, known: Sequence[str]) -> str:
    """A sentence such as ` Did you mean lora?`, or nothing when no known name is close."""
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def _inline(node: Any, definitions: Mapping[str, Any]) -> Any:
    """`node` with every `$ref` replaced by a copy of what it names."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    rest = {key: _inline(value, definitions) for key, value in node.items() if key != "$ref"}
    if "$ref" not in node:
        return rest
    target = _inline(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    return {**target, **rest}


def _set_defaults(
    schema: dict[str, Any], values: Mapping[str, Any], source: Callable[[str], str], above: str = ""
) -> None:
    """Write `values` into the schema as defaults; `source` tells that of each default it changes, by dotted name."""
    for name, value in values.items():
        entry = schema["properties"][name]
        if "properties" in entry:
            _set_defaults(entry, value, source, f"{above}{name}.")
        elif entry.get("default") != value:
            entry["source"] = source(f"{above}{name}")
        entry["default"] = value


def _config_error(error: ValidationError, method: Method) -> ConfigError:
    fields: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in ("config", *problem["loc"]))
        fields.setdefault(path, []).append(_advice(problem, method))
    named = "; ".join(f"{path.removeprefix('config.')} {problems[0]}" for path, problems in fields.items())
    return ConfigError(f"The settings do not fit {method.slug}: {named}", fields=fields)


_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "list": "a list"}


def _advice(problem: Any, method: Method) -> str:
    """What would be right, for one of pydantic's problems."""
    kind, context, given = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"must be {words} {context[key]:.12g}, not {given!r}"
    if kind == "extra_forbidden":
        *parents, name = (str(part) for part in problem["loc"])
        known = list(_properties_at(method.config_schema(), parents))
        return f"is not a setting of {method.slug}.{near(name, known)}"
    if kind in ("literal_error", "enum"):
        return f"must be one of {context['expected']}, not {given!r}"
    if kind == "finite_number":
        return f"must be a finite number, not {given!r}"
    if kind == "value_error":
        return str(context["error"])
    wanted = _KINDS.get(kind.split("_")[0])
    if wanted is not None and kind.endswith(("_type", "_parsing", "_from_float")):
        return f"must be {wanted}, not {given!r}"
    return f"{problem['msg'].removeprefix('Input ')}, not {given!r}"


def _properties_at(schema: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    for name in path:
        schema = schema.get("properties", {}).get(name, {})
    found: Mapping[str, Any] = schema.get("properties", {})
    return found
