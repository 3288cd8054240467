"""What workers record of evaluations."""

import hashlib
import json
from collections.abc import Sequence

from django.db import transaction

from polm_core.evaluation.results import Figure
from webapp.evaluations.models import EvaluationResult
from webapp.evaluations.scores import packed
from webapp.live.notify import publish
from webapp.runs.leases import Claim, LeaseLost
from webapp.runs.models import ACTIVE, Run

# How a model is measured, not what: other values give the same figures.
_INCIDENTAL = frozenset({"batch_size", "devices", "processes", "precision"})


def results_record(claim: Claim, figures: Sequence[Figure]) -> None:
    """Attach what a run has measured to its model. A second call for the same run changes nothing. Raises LeaseLost."""
    if not figures:
        return
    with transaction.atomic():
        held = Run.objects.filter(pk=claim.run_id, lease_epoch=claim.epoch, status__in=ACTIVE)
        run = held.select_for_update(of=("self",)).select_related("model").first()
        if run is None:
            raise LeaseLost
        conditions = conditions_of(run)
        EvaluationResult.objects.bulk_create(
            [
                EvaluationResult(
                    run=run,
                    model=run.model,
                    checkpoint_id=run.model.checkpoint_id,
                    conditions=conditions,
                    row_scores=packed(one.keys, one.scores, one.weights),
                    **one.model_dump(include={"metric", "value", "low", "high", "rows", "better", "listed"}),
                )
                for one in figures
            ],
            ignore_conflicts=True,
        )
        publish(f"model:{run.model_id}", "status", {"model": str(run.model_id)})


def conditions_of(run: Run) -> str:
    """The same for runs that measure alike: by the same settings, and the same models beside the measured one."""
    settings = {name: value for name, value in run.config.items() if name not in _INCIDENTAL}
    others = [str(one) for one in (run.reward_model_id, run.judge_model_id, run.teacher_model_id)]
    text = json.dumps([run.method, str(run.dataset_version_id), settings, others], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
