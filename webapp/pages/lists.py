"""Runs as lists show them: with a small curve and how far they are."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

from webapp.metrics.selectors import SeriesView, sparklines
from webapp.recipes.models import PipelineStage
from webapp.recipes.selectors import stages_of_runs
from webapp.runs.models import Run
from webapp.runs.selectors import eta_seconds


@dataclass(frozen=True)
class RunEntry:
    """A run with its headline curve, that curve's newest value, and the seconds it still needs; None for not known.

    `metric` is what the curve shows, and `stage` what the run carries out, or did, where it belongs to a pipeline.
    """

    run: Run
    metric: str
    curve: list[float | None]
    last: float | None
    eta: float | None
    stage: PipelineStage | None


def entries(runs: Iterable[Run]) -> list[RunEntry]:
    """The runs with their curves and what they belong to, read in a query each."""
    found = list(runs)
    views = sparklines([run.pk for run in found])
    stages = stages_of_runs([run.pk for run in found])
    return [_entry(run, views.get(run.pk), stages.get(run.pk)) for run in found]


def _entry(run: Run, view: SeriesView | None, stage: PipelineStage | None) -> RunEntry:
    if view is None:
        return RunEntry(run, "", [], None, eta_seconds(run), stage)
    return RunEntry(run, view.series.key, view.columns.mean.tolist(), view.series.last, eta_seconds(run), stage)


def back_to(request: HttpRequest, otherwise: str) -> str:
    """The page of ours that the posted `next` names."""
    wanted = request.POST.get("next", "")
    return wanted if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else otherwise
