"""The playground's form. Its rules are the service's; it only parses."""

from typing import Any

from django import forms
from django.http import QueryDict

from polm_core.retrieval.config import FindConfig
from webapp.accounts.forms import StudioForm
from webapp.playground.selectors import Choices
from webapp.playground.services import MAX_PROMPT, GenerationSettings

_DEFAULTS, _FIND = GenerationSettings(), FindConfig()


class PromptForm(StudioForm):
    """One prompt for two models side by side; the second may be left out."""

    left = forms.CharField(widget=forms.Select)
    right = forms.CharField(required=False, widget=forms.Select)
    system = forms.CharField(
        required=False,
        strip=False,
        max_length=MAX_PROMPT,
        help_text="What the model is told before the prompt; empty for none.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    index = forms.CharField(
        label="Answer from documents",
        required=False,
        help_text="The answer is written from the passages nearest to the prompt, and cites them.",
        widget=forms.Select,
    )
    top_k = forms.IntegerField(label="Passages at most", required=False, initial=_FIND.top_k)
    min_score = forms.FloatField(
        label="Least score",
        required=False,
        initial=_FIND.min_score,
        help_text="Cosine similarity of a passage to the prompt, -1 to 1. When none has it, the documents do not say.",
        widget=forms.NumberInput(attrs={"step": "0.05"}),
    )
    prompt = forms.CharField(strip=False, max_length=MAX_PROMPT, widget=forms.Textarea(attrs={"rows": 5}))
    max_new_tokens = forms.IntegerField(label="Tokens at most", initial=_DEFAULTS.max_new_tokens)
    temperature = forms.FloatField(
        initial=_DEFAULTS.temperature,
        help_text="0 always takes the likeliest token.",
        widget=forms.NumberInput(attrs={"step": "0.1"}),
    )
    top_p = forms.FloatField(
        label="Top p",
        initial=_DEFAULTS.top_p,
        help_text="Draws only among the likeliest tokens that make up this share.",
        widget=forms.NumberInput(attrs={"step": "0.05"}),
    )
    seed = forms.IntegerField(initial=_DEFAULTS.seed, help_text="The same seed draws the same answer.")

    def __init__(self, data: QueryDict | None = None, *, choices: Choices, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        offered = _grouped(choices)
        self.fields["left"].widget.choices = offered
        self.fields["index"].widget.choices = [("", "None"), *((str(one.pk), one.name) for one in choices.indexes)]
        self.fields["right"].widget.choices = [("", "None"), *offered]

    def clean(self) -> dict[str, Any]:
        """The arguments of `generate_create`."""
        cleaned = super().clean() or {}
        find = {name: value for name in FindConfig.model_fields if (value := cleaned.pop(name, None)) is not None}
        settings = {name: cleaned.pop(name) for name in GenerationSettings.model_fields if name in cleaned}
        models = [cleaned.pop(side) for side in ("left", "right") if cleaned.get(side)]
        cleaned.pop("right", None)
        return {**cleaned, "models": models, "settings": settings, "find": find}

    def add_error(self, field: str | None, error: Any) -> None:
        super().add_error(field.removeprefix("settings.").removeprefix("find.") if field else None, error)


def _grouped(choices: Choices) -> list[tuple[str, list[tuple[str, str]]]]:
    groups = {
        "Base models": [(str(model.pk), model.name) for model in choices.models],
        "Checkpoints": [(str(checkpoint.pk), checkpoint.name) for checkpoint in choices.checkpoints],
    }
    return [(title, options) for title, options in groups.items() if options]
