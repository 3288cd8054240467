"""The forms of datasets that are made of the rows of others. Their rules are the services'; a form only parses."""

import itertools
from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import QueryDict

from polm_core.data.choose import MAX_PARTS
from polm_core.errors import PolmError
from polm_core.gym.tasks import MAX_SEED
from webapp.accounts.forms import StudioForm
from webapp.datasets.choosing import Part, mixture_takes, weight_of
from webapp.datasets.models import DatasetVersion
from webapp.errors import Invalid

BY = [
    ("random", "chance: exactly that share"),
    ("content", "content: equal rows together, and the same side when rows are added"),
    ("prompt", "prompt: all answers to a prompt together"),
]


def _seed() -> forms.IntegerField:
    return forms.IntegerField(
        initial=0, min_value=0, max_value=MAX_SEED, help_text="The same seed draws the same rows."
    )


class SplitForm(StudioForm):
    """How to split rows in two."""

    share = forms.FloatField(
        label="Held out", initial=0.1, help_text="The share of the rows that nothing is trained on, such as 0.1."
    )
    by = forms.ChoiceField(label="Decided by", choices=BY, initial="random")
    seed = _seed()


class FilterForm(StudioForm):
    """What rows are kept by."""

    contains = forms.CharField(
        required=False, max_length=500, help_text="A regular expression (RE2) that some text of the row matches."
    )
    lacks = forms.CharField(
        required=False, max_length=500, help_text="One that no text of the row matches, such as (?i)as an ai."
    )
    least_characters = forms.IntegerField(label="At least, characters", required=False)
    most_characters = forms.IntegerField(
        label="At most, characters", required=False, help_text="Of all texts of the row together."
    )
    distinct = forms.BooleanField(
        label="Leave out repeats", required=False, help_text="Rows that repeat an earlier one exactly."
    )
    name = forms.CharField(required=False, max_length=200, help_text="Without one it is called after this dataset.")


class MixForm(StudioForm):
    """What a mixture has beside its parts, which stand in rows of their own."""

    rows = forms.IntegerField(
        required=False, min_value=1, help_text="In all. Without a number as many as the weights allow."
    )
    seed = _seed()
    name = forms.CharField(required=False, max_length=200, help_text="Without one it is called after its parts.")

    def __init__(
        self, data: QueryDict | None = None, *, offered: Sequence[DatasetVersion] = (), chosen: Sequence[str] = ()
    ) -> None:
        super().__init__(data)
        posted = data if data is not None else QueryDict()
        refs = posted.getlist("part") if data is not None else list(chosen)
        weights = posted.getlist("weight")
        self.parts = [
            {"ref": ref, "weight": weights[place] if place < len(weights) else "1"}
            for place, ref in enumerate(refs)
            if ref
        ][:MAX_PARTS]
        self.offered = offered
        self.problems: list[str] = []
        self.takes: list[int] = []

    def add_problems(self, error: PolmError) -> None:
        """Show what is wrong with the parts beside them."""
        fields = dict(error.fields)
        self.problems = [*fields.pop("parts", []), *fields.pop("dataset", [])]
        if fields or not self.problems:
            super().add_problems(error)

    def count(self) -> None:
        """Tell how many rows each part would give, or what is wrong with them, before anything is made."""
        lines = self.lines[: len(self.parts)]
        if len(lines) < 2 or not self.is_valid() or not all(line["version"] for line in lines):
            return
        try:
            parts = [Part(line["version"], weight_of(line["weight"])) for line in lines]
            self.takes = mixture_takes(parts, self.cleaned_data["rows"])
        except Invalid as error:
            self.add_problems(error)

    @property
    def chosen(self) -> list[tuple[str, str]]:
        return [(part["ref"], part["weight"]) for part in self.parts]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The parts, each with the version it names, and a line for one more."""
        known = {str(version.dataset_id): version for version in self.offered}
        takes = itertools.chain(self.takes, itertools.repeat(None))
        lines: list[dict[str, Any]] = [
            {**part, "version": known.get(part["ref"]), "take": take}
            for part, take in zip(self.parts, takes, strict=False)
        ]
        return [*lines, {"ref": "", "weight": "1", "version": None, "take": None}][:MAX_PARTS]
