"""Advice on a run: rules that look at its metrics' totals and say what to try, with the evidence."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from django.utils import timezone

from webapp.metrics.models import MetricSeries
from webapp.runs.models import ACTIVE, Run

SILENT_AFTER = datetime.timedelta(seconds=60)
RISE = 1.2


@dataclass(frozen=True)
class Advice:
    """One finding: what is the matter, what shows it, what to try."""

    title: str
    evidence: str
    remedy: str


Rule = Callable[[Run, dict[str, MetricSeries]], Advice | None]


def advice_for(run: Run) -> list[Advice]:
    """The rules that fire for a run that has logged something."""
    series = {one.key: one for one in run.series.all()}
    return [advice for rule in RULES if (advice := rule(run, series)) is not None]


def _loss_not_finite(run: Run, series: dict[str, MetricSeries]) -> Advice | None:
    bad = [one for key, one in series.items() if key in {"loss", "grad_norm", "eval/loss"} and one.not_finite]
    if not bad:
        return None
    return Advice(
        "The loss is no longer a number",
        ", ".join(f"{one.key}: {one.not_finite} of {one.count} points are NaN or infinite" for one in bad),
        "Lower the learning rate, set max_grad_norm to 1 or less, or train in fp32 or bf16.",
    )


def _loss_zero(run: Run, series: dict[str, MetricSeries]) -> Advice | None:
    loss = series.get("loss")
    if loss is None or loss.count < 3 or loss.last != 0 or loss.min != 0:
        return None
    return Advice(
        "The loss is exactly 0",
        "Nothing is being learned: most often no token of the rows is trained on.",
        "Look at the first example on the launch page: raise max_length, or train on all tokens.",
    )


def _loss_rises(run: Run, series: dict[str, MetricSeries]) -> Advice | None:
    loss = series.get("loss")
    if loss is None or loss.count < 20 or loss.last is None or loss.min is None or loss.min <= 0:
        return None
    if loss.last < loss.min * RISE * 2:
        return None
    return Advice(
        "The loss has risen from its best",
        f"best {loss.min:.4g}, now {loss.last:.4g}",
        "Lower the learning rate or lengthen the warm-up; if only the last batch is hard, this passes.",
    )


def _held_out_worse(run: Run, series: dict[str, MetricSeries]) -> Advice | None:
    loss = series.get("eval/loss")
    if loss is None or loss.count < 3 or loss.last is None or loss.min is None or loss.last < loss.min * RISE:
        return None
    return Advice(
        "The held-out loss is worse than it was",
        f"best {loss.min:.4g}, now {loss.last:.4g}",
        "The model learns the training rows by heart: stop earlier, use more rows, or a smaller adapter.",
    )


def _silent(run: Run, series: dict[str, MetricSeries]) -> Advice | None:
    if run.status not in ACTIVE or run.lease_until is None or run.lease_until > timezone.now() - SILENT_AFTER:
        return None
    return Advice(
        "Its worker has not been heard of",
        f"last sign of life due {run.lease_until:%H:%M:%S} UTC",
        "Another worker takes the run over from its last checkpoint; see the queue for workers that are alive.",
    )


RULES: tuple[Rule, ...] = (_loss_not_finite, _loss_zero, _loss_rises, _held_out_worse, _silent)
