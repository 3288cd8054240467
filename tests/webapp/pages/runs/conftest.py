"""What the pages about runs are shown with: runs that have logged, and things to launch on."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.test import Client

from tests.support import factories
from tests.support.checkpoints import make_base_model
from tests.support.runs import make_run
from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.datasets.models import DatasetVersion
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.registry.models import BaseModel
from webapp.runs.models import Run

HTMX = {"HX-Request": "true"}
PAIRS = b"".join(b'{"prompt": "%d + 1 =", "chosen": "%d", "rejected": "0"}\n' % (n, n + 1) for n in range(8))


def text(answer: Any) -> str:
    assert answer.status_code in (200, 422), answer.status_code
    return str(answer.content.decode())


def log(run: Run, **series: Sequence[float]) -> None:
    """Log each metric's values at steps 1, 2, ...; NaN stands for NaN."""
    for key, values in series.items():
        name = key.replace("__", "/")
        MetricWriter(run.pk).append(
            [MetricLine(step, 1_790_000_000.0 + step, {name: value}) for step, value in enumerate(values, 1)]
        )


def line(start: float, end: float, count: int = 40) -> list[float]:
    """Values on a straight line."""
    return [start + (end - start) * place / (count - 1) for place in range(count)]


NAN = math.nan


@pytest.fixture
def run(team: Team) -> Run:
    return make_run(team, "my run")


@pytest.fixture
def model(team: Team) -> BaseModel:
    return make_base_model(team, "small")


@pytest.fixture
def conversations(actor: Actor) -> DatasetVersion:
    return factories.make_version(actor, "talks")


@pytest.fixture
def pairs(actor: Actor) -> DatasetVersion:
    return factories.make_version(actor, "pairs", PAIRS)


@pytest.fixture
def fragment(pages: Client) -> Callable[[str], str]:
    """Gets an address as htmx does."""
    return lambda path: text(pages.get(path, headers=HTMX))
