"""Asking the rules: which became true of a run since they were last asked, and which no longer are.

A worker asks every few seconds, so that neither taking metrics in nor ending a run waits for it. Every logged point is
looked at once: a rule keeps how far it has read.
"""

import logging
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Greatest, Now

from webapp.alerts.models import Alert, AlertRule, Comparison, MetricWatch, RuleKind, RunState
from webapp.alerts.services import bells_ring, deliveries_make
from webapp.errors import Invalid
from webapp.metrics.health import advice_for
from webapp.metrics.models import MetricSeries
from webapp.metrics.reading import points_after
from webapp.runs.models import ACTIVE, FINISHED, Run, Status
from webapp.runs.query.meaning import runs_matching

logger = logging.getLogger(__name__)

RUNS_AT_ONCE = 200
# Runs note their end by the clock of the worker's machine: those that ended shortly before the last look are looked at
# again.
OVERLAP = timedelta(minutes=2)


@dataclass(frozen=True)
class Finding:
    """What makes an alert: the sentence, and the value and step where it is about a point."""

    message: str
    value: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a rule says of a run: what it found, and whether that still holds; None leaves it as it was."""

    found: Finding | None = None
    holds: bool | None = None


def rules_check() -> None:
    """One round: ask every rule that is switched on about the runs that moved since it was asked last."""
    rules = AlertRule.objects.filter(enabled=True).select_related("project").order_by("project_id", "pk")
    for project_id, found in groupby(rules, key=lambda rule: rule.project_id):
        _ask(project_id, list(found))


def _ask(project_id: uuid.UUID, rules: Sequence[AlertRule]) -> None:
    asked_at = Run.objects.filter(project=project_id).values_list(Now(), flat=True).first()
    if asked_at is None:
        return
    for runs in _runs(project_id, rules):
        keys = [run.pk for run in runs]
        holding = Alert.objects.filter(rule__in=rules, run__in=keys, cleared_at=None)
        open_alerts = {(alert.rule_id, alert.run_id): alert for alert in holding}
        health = _HealthOf()
        for rule in rules:
            mine = [run for run in _matching(rule, runs) if _concerns(rule, run)]
            for run, answer in _answers(rule, mine, health):
                _settle(rule, run, answer, open_alerts.get((rule.pk, run.pk)))
    AlertRule.objects.filter(pk__in=[rule.pk for rule in rules]).update(checked_at=Greatest(F("checked_at"), asked_at))


def _runs(project_id: uuid.UUID, rules: Sequence[AlertRule]) -> Iterator[list[Run]]:
    """The project's runs of which something may have changed: at work, ended of late, held up, or with an alert that
    their going on may clear."""
    holding = Alert.objects.filter(run=OuterRef("pk"), rule__in=rules, cleared_at=None)
    wanted = (
        Q(status__in=ACTIVE)
        | Q(status=Status.PAUSED, error__isnull=False)
        | Q(status__in=FINISHED, finished_at__gt=min(map(_floor, rules)))
        | (Q(status__in=(Status.QUEUED, Status.PAUSED)) & Exists(holding))
    )
    runs = Run.objects.filter(wanted, project=project_id).select_related("worker").order_by("pk")
    found = list(runs[:RUNS_AT_ONCE])
    while found:
        yield found
        found = list(runs.filter(pk__gt=found[-1].pk)[:RUNS_AT_ONCE])


def _floor(rule: AlertRule) -> datetime:
    return max(rule.since, rule.checked_at - OVERLAP)


def _concerns(rule: AlertRule, run: Run) -> bool:
    """What had ended before the rule was there is none of its business."""
    return run.status not in FINISHED or (run.finished_at is not None and run.finished_at > _floor(rule))


def _matching(rule: AlertRule, runs: Sequence[Run]) -> Sequence[Run]:
    if not rule.query:
        return runs
    among = Run.objects.filter(pk__in=[run.pk for run in runs])
    try:
        wanted = set(runs_matching(among, rule.query).values_list("pk", flat=True))
    except Invalid as error:
        logger.warning("The alert rule %s has a search that cannot be read: %s", rule.pk, error)
        return ()
    return [run for run in runs if run.pk in wanted]


def _answers(rule: AlertRule, runs: Sequence[Run], health: "_HealthOf") -> Iterator[tuple[Run, Answer]]:
    match rule.kind:
        case RuleKind.METRIC:
            yield from _by_metric(rule, runs)
        case RuleKind.STATUS:
            for run in runs:
                finding = _by_status(rule, run)
                yield run, Answer(finding, holds=finding is not None)
        case _:
            for run in runs:
                finding = health.finding(rule, run)
                yield run, Answer(finding, holds=finding is not None)


# --- by state and by health -------------------------------------------------------------------------------------------
def _by_status(rule: AlertRule, run: Run) -> Finding | None:
    error = run.error or {}
    why = f": {error['message']}" if error.get("message") else "."
    match run.status:
        case Status.FAILED if RunState.FAILED in rule.states:
            return Finding(f"The run failed{why}", step=run.step)
        case Status.SUCCEEDED if RunState.SUCCEEDED in rule.states:
            return Finding(f"The run succeeded, after {run.step:,} steps.", step=run.step)
        case Status.PAUSED if error and RunState.HELD in rule.states:
            return Finding(f"The run is paused for want of space{why}", step=run.step)
        case _:
            return None


class _HealthOf:
    """The advice on runs, worked out once for all rules."""

    def __init__(self) -> None:
        self._known: dict[uuid.UUID, dict[str, str]] = {}

    def finding(self, rule: AlertRule, run: Run) -> Finding | None:
        if run.pk not in self._known:
            self._known[run.pk] = {one.rule: f"{one.title}: {one.evidence}." for one in advice_for(run)}
        known = self._known[run.pk]
        said = [text for name, text in known.items() if not rule.health_rules or name in rule.health_rules]
        return Finding(" ".join(said), step=run.step) if said else None


# --- by metric --------------------------------------------------------------------------------------------------------
def _by_metric(rule: AlertRule, runs: Sequence[Run]) -> Iterator[tuple[Run, Answer]]:
    by_key = {run.pk: run for run in runs}
    watches = {watch.run_id: watch for watch in MetricWatch.objects.filter(rule=rule, run__in=by_key)}
    series = [
        one
        for one in MetricSeries.objects.filter(run__in=by_key, key=rule.metric, last_step__isnull=False)
        if one.run_id not in watches or one.last_step != watches[one.run_id].step
    ]
    read_up_to = [_read_up_to(one, watches) for one in series]
    moved = []
    for one, points in zip(series, points_after(series, read_up_to), strict=True):
        watch, last = watches.get(one.run_id), one.last_step or 0
        if watch is None:
            # What was logged before the rule was there is none of its business.
            points = points[points["wall"].astype("i8") / 1e6 >= rule.since.timestamp()]
            watch = MetricWatch(rule=rule, run_id=one.run_id, step=last)
        elif last < watch.step:  # the run went back to a checkpoint
            watch.step = last
        answer = _read(rule, watch, points["step"].tolist(), points["value"].tolist())
        moved.append(watch)
        yield by_key[one.run_id], answer
    MetricWatch.objects.bulk_create(
        moved, update_conflicts=True, unique_fields=["rule", "run"], update_fields=["step", "streak"]
    )


def _read_up_to(series: MetricSeries, watches: Mapping[uuid.UUID, MetricWatch]) -> int:
    watch = watches.get(series.run_id)
    return -1 if watch is None else min(watch.step, series.last_step or 0)


def _read(rule: AlertRule, watch: MetricWatch, steps: Sequence[int], values: Sequence[float]) -> Answer:
    """Count on with points; those that are not finite are none to `above` and `below`."""
    answer = Answer()
    for step, value in zip(steps, values, strict=True):
        watch.step = step
        passes = _passes(rule, value)
        if passes is None:
            continue
        watch.streak = max(watch.streak, 0) + 1 if passes else min(watch.streak, 0) - 1
        if watch.streak == rule.points:
            answer = Answer(_of_point(rule, step, value), holds=True)
        elif watch.streak == -rule.points:
            answer = Answer(answer.found, holds=False)
    return answer


def _passes(rule: AlertRule, value: float) -> bool | None:
    finite = math.isfinite(value)
    if rule.comparison == Comparison.NOT_FINITE:
        return not finite
    if not finite or rule.threshold is None:
        return None
    return value > rule.threshold if rule.comparison == Comparison.ABOVE else value < rule.threshold


def _of_point(rule: AlertRule, step: int, value: float) -> Finding:
    figure = (
        f"{value:.4g}"
        if math.isfinite(value)
        else {math.inf: "infinite", -math.inf: "minus infinite"}.get(value, "NaN")
    )
    bound = f", {rule.comparison} {rule.threshold:g}" if rule.threshold is not None else ""
    often = f", for {rule.points} points in a row" if rule.points > 1 else ""
    return Finding(f"{rule.metric} is {figure} at step {step:,}{bound}{often}.", value, step)


# --- what becomes of an answer ----------------------------------------------------------------------------------------
def _settle(rule: AlertRule, run: Run, answer: Answer, holding: Alert | None) -> None:
    if answer.found is not None and holding is None:
        holding = _fire(rule, run, answer.found)
    if answer.holds is False and holding is not None:
        with transaction.atomic():
            if Alert.objects.filter(pk=holding.pk, cleared_at=None).update(cleared_at=Now()):
                bells_ring(run.team_id)


def _fire(rule: AlertRule, run: Run, finding: Finding) -> Alert | None:
    """Give an alert, unless another worker just has; None when rule or run has just been deleted."""
    given = {"team_id": run.team_id, "message": finding.message, "value": finding.value, "step": finding.step}
    try:
        with transaction.atomic():
            alert, is_new = Alert.objects.get_or_create(rule=rule, run=run, cleared_at=None, defaults=given)
            if is_new:
                deliveries_make(rule, alert)
                bells_ring(run.team_id)
    except IntegrityError:
        return None
    return alert
