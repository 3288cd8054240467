"""The forms of indexes. Their rules are the services'; they only parse."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import QueryDict

from polm_core.retrieval.config import ChunkConfig, FindConfig
from webapp.accounts.forms import StudioForm
from webapp.datasets.models import DatasetVersion
from webapp.retrieval.services import MAX_QUESTION

_CUT, _FIND = ChunkConfig(), FindConfig()


class SettingsForm(StudioForm):
    """A form some of whose fields are settings; what a service says of them stands at the field."""

    SETTINGS: tuple[str, ...] = ()

    def clean(self) -> dict[str, Any]:
        """The service's arguments."""
        cleaned = super().clean() or {}
        settings = {name: cleaned.pop(name) for name in self.SETTINGS if name in cleaned}
        return {**cleaned, "settings": {name: value for name, value in settings.items() if value is not None}}

    def add_error(self, field: str | None, error: Any) -> None:
        super().add_error(field.removeprefix("settings.") if field else None, error)

    def add_problems(self, error: Any) -> None:
        error.fields = {name.removeprefix("settings."): problems for name, problems in error.fields.items()}
        super().add_problems(error)


class IndexForm(SettingsForm):
    """Which documents are indexed, and how they are cut."""

    SETTINGS = tuple(ChunkConfig.model_fields)

    dataset = forms.CharField(label="Documents", widget=forms.Select)
    name = forms.CharField(required=False, max_length=200, help_text="Without one it is called as the dataset is.")
    chunk_tokens = forms.IntegerField(
        label="Tokens of a chunk, at most",
        initial=_CUT.chunk_tokens,
        help_text="16 to 192. Chunks end where a sentence does: smaller ones are found more exactly, larger ones say "
        "more.",
    )
    overlap = forms.IntegerField(
        initial=_CUT.overlap,
        help_text="Tokens of whole sentences that the next chunk repeats, at most half of a chunk.",
    )

    def __init__(self, data: QueryDict | None = None, *, offered: Sequence[DatasetVersion], **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        choices = [(str(one.dataset_id), f"{one.dataset.name} · {one.rows:,} rows") for one in offered]
        self.fields["dataset"].widget.choices = choices


class QuestionForm(SettingsForm):
    """What is looked up."""

    SETTINGS = tuple(FindConfig.model_fields)

    question = forms.CharField(max_length=MAX_QUESTION, widget=forms.Textarea(attrs={"rows": 2}))
    top_k = forms.IntegerField(label="Passages at most", initial=_FIND.top_k)
    min_score = forms.FloatField(
        label="Least score",
        initial=_FIND.min_score,
        help_text="Cosine similarity, from -1 to 1.",
        widget=forms.NumberInput(attrs={"step": "0.05"}),
    )
