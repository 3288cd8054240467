"""Runs to store metrics for, and a way to store them."""

from collections.abc import Callable, Iterable, Mapping

import pytest

from tests.support.runs import make_run
from webapp.accounts.models import Team
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.models import Run

START = 1_790_000_000.0

Log = Callable[[Run, Mapping[str, Iterable[tuple[int, float]]]], None]


@pytest.fixture
def run(team: Team) -> Run:
    return make_run(team)


@pytest.fixture
def log() -> Log:
    """Stores whole series at once: `log(run, {"loss": [(step, value), ...]})`; a step lasts a second."""

    def store(run: Run, series: Mapping[str, Iterable[tuple[int, float]]]) -> None:
        writer = MetricWriter(run.pk)
        for key, points in series.items():
            writer.append([MetricLine(step, START + step, {key: value}) for step, value in points])

    return store
