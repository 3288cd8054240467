"""What evaluations leave, without a model: for tests of what is made of it."""

from collections.abc import Sequence
from typing import Any

from polm_core import catalogue
from polm_core.evaluation.intervals import Scores
from polm_core.evaluation.results import Better, Figure, figure
from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.datasets.models import DatasetVersion
from webapp.evaluations.models import EvaluationResult
from webapp.evaluations.services import results_record
from webapp.registry.models import BaseModel
from webapp.runs.leases import Claim
from webapp.runs.models import Run, Status


def figure_of(scores: Sequence[float], metric: str = "accuracy", better: Better = "higher", first: int = 0) -> Figure:
    """A metric with these scores of the rows that have the keys `first`, `first` + 1, ..."""
    return figure(metric, Scores(range(first, first + len(scores)), scores), better)


def make_results(
    team: Team, model: BaseModel, *figures: Figure, method: str = "eval-accuracy", **values: Any
) -> list[EvaluationResult]:
    """What an evaluation of `model` has measured; `values` are further fields of its run."""
    config = catalogue.get(method).parse(values.pop("config", {})).model_dump(mode="json")
    fields = {"method": method, "config": config, "status": Status.RUNNING, "lease_epoch": 1, **values}
    run = make_run(team, f"{method} of {model}", model=model, **fields)
    DatasetVersion.objects.filter(pk=run.dataset_version_id).update(format=catalogue.get(method).formats[0])
    results_record(Claim(run.pk, 1), figures)
    Run.objects.filter(pk=run.pk).update(status=Status.SUCCEEDED)
    return list(run.results.order_by("pk"))
