"""A dataset of sums, and trials of rewards on it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import factories
from webapp.accounts.access import Actor
from webapp.claimed import WorkStatus
from webapp.datasets.models import DatasetVersion
from webapp.workbench.models import RewardTrial, TrialRow
from webapp.workbench.services import trial_create

SUMS = b"".join(b'{"prompt": "%d + 1 =", "answer": "%d"}\n' % (n, n + 1) for n in range(8))
REWARDS = ["math", {"type": "length", "weight": 0.5, "length_max": 20}]

MakeTrial = Callable[..., RewardTrial]


@pytest.fixture
def sums(actor: Actor) -> DatasetVersion:
    return factories.make_version(actor, "sums", SUMS)


@pytest.fixture
def make_trial(actor: Actor, sums: DatasetVersion) -> MakeTrial:
    """A trial on the sums that waits; with `rows` one that is done, with so many judged answers."""

    def make(rows: int = 0, **values: Any) -> RewardTrial:
        made = trial_create(actor=actor, **{"dataset": sums.dataset_id, "rewards": REWARDS, **values})
        return done(made, rows) if rows else made

    return make


def done(trial: RewardTrial, rows: int) -> RewardTrial:
    """Has a trial end as a worker would, with made-up scores."""
    figures = {"judged": rows, "mean": 0.5, "std": 0.5, "low": 0.0, "high": 1.0, "counts": [1] * 20, "problem": ""}
    trial.report = {
        "answers": rows,
        "rewards": [
            {"name": "math", "weight": 1.0, **figures, "judged": rows - 1},
            {"name": "length", "weight": 0.5, **figures, "low": 1.0},
        ],
        "total": {"name": "reward", "weight": 1.0, **figures},
        "correlations": [[1.0, None], [None, None]],
    }
    trial.status = WorkStatus.DONE
    trial.save()
    TrialRow.objects.bulk_create(
        TrialRow(
            trial=trial,
            place=place,
            prompt=f"prompt {place}?",
            completion=f"answer {place}",
            reference="5",
            scores={"math": place / rows if place else None, "length": 1.0},
            reward=place / rows if place else None,
            disagreement=1 - place / rows,
        )
        for place in range(rows)
    )
    return trial
