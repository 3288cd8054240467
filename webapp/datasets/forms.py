"""The forms of the dataset pages. Their rules are the services'; a form only parses."""

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms

from polm_core.data.mapping import ROLES, SHAPES, MappingOptions, roles_of
from polm_core.data.mapping import Mapping as ColumnMapping
from polm_core.errors import PolmError
from polm_core.formats import SPECS, Format
from polm_core.gym.tasks import MAX_ROWS, MAX_SEED, tasks
from webapp.accounts.forms import SavedTextForm, StudioForm
from webapp.datasets.models import Dataset, Origin
from webapp.datasets.services import MAX_DESCRIPTION

FORMAT_CHOICES = [(format.value, SPECS[format].title) for format in SHAPES]
SPEAKERS = ("system", "user", "assistant", "tool", "tool-call")
THUMBS = {"good": True, "bad": False}

# Which options mean something for which formats, and with which roles in play.
_WITH_ANSWERS = (Format.PROMPT_COMPLETION, Format.PREFERENCE, Format.RATING)
_OPTION_FORMATS: dict[str, tuple[Format, ...]] = {
    "answer_extractor": (Format.PROMPT_ANSWER,),
    "label_threshold": (Format.RATING, Format.STEPWISE),
    "labels": (Format.RATING, Format.STEPWISE),
    "chat": (*_WITH_ANSWERS, Format.PROMPT, Format.PROMPT_ANSWER),
    "strip_prompt": (*_WITH_ANSWERS, Format.CONVERSATION),
    "roles": (Format.CONVERSATION, *_WITH_ANSWERS, Format.PROMPT),
}


class DatasetForm(StudioForm):
    """What people say about a dataset."""

    name = forms.CharField(max_length=200)
    description = forms.CharField(
        required=False,
        max_length=MAX_DESCRIPTION,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="What is in it, where it is from, its licence.",
    )
    origin = forms.ChoiceField(
        choices=Origin.choices, help_text="Whether people, a model or a program wrote the answers."
    )
    origin_model = forms.CharField(
        label="Model", required=False, max_length=200, help_text="For distilled data: the model that wrote it."
    )

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetForm":
        return cls(initial={name: getattr(dataset, name) for name in cls.base_fields})


class CardForm(SavedTextForm):
    """The card of a dataset."""

    body = forms.CharField(
        label="Text",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 26, "spellcheck": "true", "class": "mono"}),
    )


class TaskForm(StudioForm):
    """Rows to be made up by a task of reasoning-gym. The levels to choose from are those of the task in `data`."""

    task = forms.ChoiceField()
    level = forms.TypedChoiceField(
        label="Difficulty",
        required=False,
        coerce=int,
        empty_value=None,
        help_text="From the task's curriculum: higher is harder.",
    )
    size = forms.IntegerField(
        label="Rows",
        min_value=1,
        max_value=MAX_ROWS,
        help_text=f"1 to {MAX_ROWS:,}. Sums take seconds; very many hard puzzles take hours.",
    )
    seed = forms.IntegerField(
        min_value=0, max_value=MAX_SEED, help_text="The same seed gives the same rows; another one others."
    )
    name = forms.CharField(
        required=False, max_length=200, help_text="Without one it is called after the task, its level and the rows."
    )

    def __init__(self, data: Mapping[str, Any] | None = None, *, initial: Mapping[str, Any] | None = None) -> None:
        filled = {"task": "chain_sum", "level": "1", "size": 1000, "seed": 0} | dict(initial or {})
        super().__init__(data, initial=filled)
        self.chosen = tasks().get(str((data or filled).get("task", ""))) or tasks()["chain_sum"]
        self._choices("task").choices = _by_category()
        self._choices("level").choices = [
            ("", "As usual for the task"),
            *((str(one.level), f"{one.level}: {one.says}") for one in self.chosen.levels),
        ]

    def _choices(self, name: str) -> forms.ChoiceField:
        field = self.fields[name]
        if not isinstance(field, forms.ChoiceField):
            raise TypeError(f"{name} is not a choice")
        return field


def _by_category() -> list[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for task in tasks().values():
        groups.setdefault(task.category.capitalize(), []).append((task.name, task.title))
    return sorted(groups.items())


class MappingForm(StudioForm):
    """Which column plays which role, for one format: a select per role, then the options that matter for the format.

    `columns` are the paths that the file offers; `mapping` is what the fields start from. A format can be made up in
    more than one way: the fields of the way in use come first, the rest are `other_columns`.
    """

    def __init__(
        self,
        format: Format,
        columns: Iterable[str],
        data: Mapping[str, Any] | None = None,
        *,
        mapping: ColumnMapping | None = None,
    ) -> None:
        super().__init__(data, initial=_initial(mapping))
        self.format = format
        self._suggested = mapping
        paths = list(dict.fromkeys([*columns, *(mapping.columns.values() if mapping else ())]))
        filled = {role for role in ROLES if (data or self.initial).get(f"column-{role}")}
        shape = next((shape for shape in SHAPES[format] if filled >= set(shape.required)), SHAPES[format][0])
        self.needed = [f"column-{role}" for role in shape.required]
        self._first = [*self.needed, *(f"column-{role}" for role in shape.optional)]
        for role in roles_of(format):
            self.fields[f"column-{role}"] = forms.ChoiceField(
                label=role.replace("_", " ").capitalize(),
                required=False,
                choices=[("", "–"), *((path, path) for path in paths)],  # noqa: RUF001 - an en dash
                help_text=f"{ROLES[role][0].upper()}{ROLES[role][1:]}.",
            )
        for option, formats in _OPTION_FORMATS.items():
            if format in formats:
                self.fields[f"option-{option}"] = _option_field(option)

    def suggested(self) -> dict[str, Any] | None:
        """The mapping that the fields start from; None when there was nothing to start from."""
        return self._suggested.model_dump(mode="json") if self._suggested else None

    def columns(self) -> list[forms.BoundField]:
        return [self[name] for name in self._first]

    def other_columns(self) -> list[forms.BoundField]:
        return [field for field in self if field.name.startswith("column-") and field.name not in self._first]

    def options(self) -> list[forms.BoundField]:
        return [field for field in self if field.name.startswith("option-")]

    def mapping(self) -> dict[str, Any]:
        """The mapping as it was filled in, for `clean_mapping` to judge; call after `is_valid()`."""
        values = self.cleaned_data
        columns = {name.removeprefix("column-"): value for name, value in values.items() if name.startswith("column-")}
        options = {name.removeprefix("option-"): value for name, value in values.items() if name.startswith("option-")}
        return {
            "format": self.format.value,
            "columns": {role: path for role, path in columns.items() if path},
            "options": {name: value for name, value in options.items() if value not in (None, {})},
        }

    def add_problems(self, error: PolmError) -> None:
        """Problems of `mapping.columns.<role>` and `mapping.options.<option>` belong to those fields."""
        fields: dict[str, list[str]] = {}
        for name, problems in error.fields.items():
            kind, _, rest = name.removeprefix("mapping.").partition(".")
            fields[f"{kind.removesuffix('s')}-{rest.partition('.')[0]}"] = problems
        super().add_problems(PolmError(error.message, code=error.code, advice=error.advice, fields=fields))


class PairsField(forms.CharField):
    """A dictionary, written one `name = value` a line; each value is one of `values`."""

    widget = forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false"})

    def __init__(self, values: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(required=False, max_length=5000, **kwargs)
        self.values = values

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = {known: name for name, known in self.values.items()}
        return "\n".join(f"{key} = {names.get(item, item)}" for key, item in value.items())

    def to_python(self, value: Any) -> Any:
        pairs = {}
        for line in (super().to_python(value) or "").splitlines():
            key, _, said = (part.strip() for part in line.rpartition("="))
            if not line.strip():
                continue
            if not key or said not in self.values:
                known = ", ".join(self.values)
                raise forms.ValidationError(f"“{line.strip()[:60]}” is not of the form name = one of {known}.")
            pairs[key] = self.values[said]
        return pairs


def _initial(mapping: ColumnMapping | None) -> dict[str, Any]:
    options = (mapping.options if mapping else MappingOptions()).model_dump()
    columns = mapping.columns if mapping else {}
    return {
        **{f"column-{role}": path for role, path in columns.items()},
        **{f"option-{name}": value for name, value in options.items()},
    }


def _option_field(option: str) -> forms.Field:
    if option == "answer_extractor":
        choices = [("none", "The whole column"), ("hash-marks", "What follows ####"), ("boxed", "The last \\boxed{}")]
        return forms.ChoiceField(label="The final answer is", choices=choices)
    if option == "label_threshold":
        return forms.FloatField(
            label="Good from", required=False, help_text="For numeric labels: from this number on an answer is good."
        )
    if option == "labels":
        return PairsField(THUMBS, label="Label values", help_text="One a line, for example: acceptable = good")
    if option == "roles":
        speakers = {speaker: speaker for speaker in SPEAKERS}
        return PairsField(
            speakers,
            label="Role tags",
            help_text=f"For unusual tags, one a line, for example: customer = user. Known: {', '.join(SPEAKERS)}.",
        )
    label, help_text = {
        "chat": ("Texts are messages", "The model's chat template is put around them. Off for raw text."),
        "strip_prompt": ("Answers repeat the prompt", "The prompt is cut off their beginning."),
    }[option]
    return forms.BooleanField(label=label, required=False, help_text=help_text)
