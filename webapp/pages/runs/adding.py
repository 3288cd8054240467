"""Making a dataset of a run's answers: those that were chosen, or the best by rule."""

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from polm_core.formats import SPECS
from webapp.accounts.access import requires
from webapp.accounts.forms import StudioForm
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.selectors import dataset_get, datasets_of_formats
from webapp.pages.runs.inputs import storable
from webapp.runs import selectors
from webapp.runs.answers import FORMATS, MAX_CHOSEN, dataset_of_answers
from webapp.runs.models import Run

CHOSEN, BEST = "chosen", "best"


class AnswersForm(StudioForm):
    """Which answers become which rows, and where they go."""

    take = forms.ChoiceField(label="Take", choices=[(CHOSEN, "the chosen answers"), (BEST, "the best by a rule")])
    format = forms.ChoiceField(
        label="As",
        choices=[(format.value, SPECS[format].title) for format in FORMATS],
        help_text="As preferences, the best answer to each prompt is put against the worst one.",
    )
    least_reward = forms.FloatField(
        label="Reward of at least",
        required=False,
        help_text="By rule: the best answer to each prompt, if its reward is this high.",
    )
    least_margin = forms.FloatField(
        label="Margin of at least",
        required=False,
        min_value=0,
        help_text="For preferences: how far apart the two rewards have to be.",
    )
    dataset = forms.ChoiceField(
        label="Into", required=False, help_text="Added rows make a new version; runs keep the version they used."
    )
    name = forms.CharField(label="Name", required=False, max_length=200, help_text="Of the new dataset.")

    def __init__(self, run: Run, targets: list[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["dataset"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - for the type checker
        field.choices = [("", "a new dataset"), *targets]


@requires(Role.MEMBER)
@require_http_methods(["GET", "HEAD", "POST"])
def dataset(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """The form; posting has a worker make the rows."""
    run = selectors.run_get(request.actor, pk, Role.MEMBER)
    values = storable(request.POST if request.method == "POST" else request.GET)
    samples = _samples(values)
    form = AnswersForm(run, _targets(run), values if request.method == "POST" else None, initial=_initial(run, samples))
    if request.method == "POST":
        version = form.attempt(lambda **cleaned: _make(request, run, samples, cleaned))
        if version is not None:
            messages.success(request, f"The answers are being made into rows of {version.dataset.name}.")
            return redirect("dataset", version.dataset_id)
    context = {
        "run": run,
        "form": form,
        "samples": samples,
        "prompts": run.samples.filter(pk__in=samples).values("prompt").distinct().count(),
        "has_rewards": run.samples.filter(is_rollout=True, reward__isnull=False).exists(),
    }
    return render(request, "runs/to_dataset.html", context, status=422 if form.errors else 200)


def _samples(values: QueryDict) -> list[int]:
    """The answers that are chosen; one more than is allowed, so that too many are refused and not cut off."""
    found = [int(value) for value in values.getlist("sample") if value.isdecimal() and len(value) < 19]
    return sorted(set(found))[: MAX_CHOSEN + 1]


def _targets(run: Run) -> list[tuple[str, str]]:
    return [
        (str(one.dataset_id), f"{one.dataset.name} ({one.format}, {one.rows:,} rows)")
        for one in datasets_of_formats(run.team_id, FORMATS)
    ]


def _initial(run: Run, samples: list[int]) -> dict[str, Any]:
    return {"take": CHOSEN if samples else BEST, "name": f"Answers of {run.name}"[:200]}


def _make(request: StudioRequest, run: Run, samples: list[int], cleaned: dict[str, Any]) -> DatasetVersion:
    target: Dataset | None = None
    if cleaned["dataset"]:
        target = dataset_get(request.actor, cleaned["dataset"], Role.MEMBER)
    return dataset_of_answers(
        actor=request.actor,
        run=run,
        format=cleaned["format"],
        samples=samples if cleaned["take"] == CHOSEN else None,
        least_reward=cleaned["least_reward"],
        least_margin=cleaned["least_margin"] or 0.0,
        name=cleaned["name"],
        dataset=target,
    )
