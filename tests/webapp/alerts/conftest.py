"""A run that logs, rules that watch it, and a receiver of webhooks that the operator allows."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from tests.support.runs import make_run
from tests.support.webhook import Receiver, receiving
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.alerts.models import AlertRule
from webapp.alerts.services import rule_create
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Run, Status

MakeRule = Callable[..., AlertRule]
Log = Callable[..., None]

LOSS = {"kind": "metric", "metric": "loss", "comparison": "above", "threshold": 5.0}
FAILED = {"kind": "status", "states": ["failed", "held"]}


@pytest.fixture
def run(team: Team) -> Run:
    return make_run(team, "watched", status=Status.RUNNING)


@pytest.fixture
def make_rule(actor: Actor, run: Run) -> MakeRule:
    """Makes a rule of the run's project."""
    numbers = itertools.count(1)

    def make(**values: Any) -> AlertRule:
        return rule_create(actor=actor, project=run.project_id, **{"name": f"rule {next(numbers)}", **values})

    return make


@pytest.fixture
def log(run: Run) -> Log:
    """Logs values of a metric of a run, one a step, as its worker does."""
    steps: dict[Any, int] = {}

    def append(*values: float, key: str = "loss", of: Run = run, wall: float = 0.0) -> None:
        lines = []
        for value in values:
            steps[of.pk, key] = step = steps.get((of.pk, key), 0) + 1
            lines.append(MetricLine(step, wall or time.time(), {key: value}))
        MetricWriter(of.pk).append(lines)

    return append


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Receiver]:
    settings.WEBHOOK_HOSTS = "127.0.0.1"
    with receiving() as server:
        yield server
