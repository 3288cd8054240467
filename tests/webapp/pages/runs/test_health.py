"""Each rule fires on what it is about, and keeps quiet on a run that goes well."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.support.runs import make_run
from tests.webapp.pages.runs.conftest import NAN, line, log
from webapp.accounts.models import Team
from webapp.pages.runs.health import advice_for
from webapp.runs.models import Run, Status, Worker

GOOD = {
    "loss": line(3, 1),
    "eval__loss": [2.9, 2.0, 1.5, 1.2],
    "grad_norm": line(2, 1),
    "logps__chosen": line(-100, -90),
    "rewards__margins": line(0, 2),
    "reward": line(0, 1),
    "reward_std": line(0.5, 0.2),
    "entropy": line(2, 1),
    "completions__mean_length": line(50, 60),
    "completions__clipped_ratio": line(0.2, 0.1),
    "kl": line(0, 0.2),
}

# Title, the metrics that show it, and what the evidence must name.
FAULTS = [
    ("no longer a number", {"loss": [2.0, 1.9, NAN, NAN]}, "loss: 2 of 4 points"),
    ("is not a number", {"loss": [NAN] * 4}, "loss: 4 of 4 points"),
    ("is no longer a number", {"grad_norm": [1.0, NAN]}, "grad_norm: 1 of 2 points"),
    ("exactly 0", {"loss": [0.0] * 5}, "no token"),
    ("risen from its best", {"loss": line(3, 1, 30) + line(1, 2, 30)}, "is 1."),
    ("worse than at the start", {"eval__loss": [2.0, 1.5, 2.1]}, "was 2 and is 2.1"),
    ("past its best", {"eval__loss": [2.0, 1.0, 1.3]}, "was 1 and is 1.3"),
    ("gradient spikes", {"grad_norm": [1.0] * 30 + [50.0] + [1.0] * 9}, "reaches 50 and is usually 1"),
    ("unlikely too", {"logps__chosen": line(-100, -180), "rewards__margins": line(0, 3)}, "from -107.2 to -172.8"),
    ("drifted far", {"kl": line(0, 4)}, "should stay below 1"),
    ("drifted far", {"objective__kl": line(0, 40)}, "should stay below 10"),
    ("no signal", {"reward_std": line(0.4, 0, 20) + [0.0] * 20}, "same reward"),
    ("Every reward is 0", {"reward": [0.0] * 20, "reward_std": [0.0] * 20}, "20 steps"),
    ("no score from judge", {"reward__judge__not_judged": line(0, 0.5)}, "46% of them"),
    ("longer and not better", {"completions__mean_length": line(50, 200), "reward": [0.5, 0.6] * 20}, "tokens"),
    ("cut off", {"completions__clipped_ratio": line(0, 0.9)}, "82% of them"),
    ("entropy has collapsed", {"entropy": line(2, 0.01), "reward": line(0, 1)}, "hardly tries"),
]


@pytest.mark.parametrize(
    ("title", "series", "evidence"), FAULTS, ids=[f"{title} {' '.join(series)}" for title, series, _ in FAULTS]
)
def test_a_rule_fires_with_its_evidence_and_a_remedy(
    run: Run, title: str, series: dict[str, list[float]], evidence: str
) -> None:
    log(run, **series)
    [advice] = advice_for(run)
    assert title in advice.title
    assert evidence in advice.evidence
    assert advice.remedy.endswith(".")


def test_a_run_that_goes_well_gets_no_advice(run: Run) -> None:
    log(run, **GOOD)
    assert advice_for(run) == []


def test_a_run_that_has_logged_nothing_gets_no_advice(run: Run) -> None:
    assert advice_for(run) == []


@pytest.mark.parametrize(
    "series",
    [
        {"loss": [1.0, 0.5, 1.5]},
        {"loss": [*line(3, 0.001, 30), *line(0.001, 0.002, 30)]},
        {"loss": [2.0, 1.4, 1.9, 1.6] * 15},
        {"grad_norm": [90.0, 60.0, 30.0, *[1.0] * 37]},
        {"eval__loss": [2.0, 2.5]},
        {"entropy": line(2, 0.01)},
        {"completions__mean_length": line(50, 200), "reward": line(0, 1)},
        {"reward_std": [0.0] * 5},
        {"reward": [0.0] * 5, "reward__judge__not_judged": [0.1] * 20},
        {"loss": [0.0] * 30, "reward": line(0, 1)},
        {"loss": [*line(3, 1, 30), *line(1, 2, 30)], "reward": line(0, 1)},
    ],
    ids=[
        "three points make no trend",
        "a loss near 0 doubles by chance",
        "noise",
        "large gradients at the start",
        "two evaluations make no trend",
        "entropy falls as imitation learns",
        "longer and better",
        "too early to tell",
        "too few zeros, and some answers without a judgement",
        "the loss of rewards is 0 on average",
        "the loss of rewards swings",
    ],
)
def test_what_is_no_fault_is_left_alone(run: Run, series: dict[str, list[float]]) -> None:
    log(run, **series)
    assert advice_for(run) == []


@pytest.mark.parametrize(("seconds", "fires"), [(-90, True), (5, False)])
def test_a_worker_that_is_silent_is_noticed(team: Team, seconds: int, fires: bool) -> None:
    until = timezone.now() + timedelta(seconds=seconds)
    run = make_run(team, status=Status.RUNNING, lease_until=until)
    assert [advice.title for advice in advice_for(run)] == ["Its worker has not been heard of"] * fires


def test_a_run_that_ended_has_no_silent_worker(team: Team) -> None:
    run = make_run(team, status=Status.SUCCEEDED, lease_until=timezone.now() - timedelta(hours=1))
    assert advice_for(run) == []


@pytest.mark.parametrize(("free", "fires"), [(5, True), (50, False)])
def test_a_full_disk_is_noticed(team: Team, free: int, fires: bool) -> None:
    system = {"disk_free": free, "disk_total": 100}
    worker = Worker.objects.create(name="w", host="h", heartbeat_at=timezone.now(), system=system)
    run = make_run(team, status=Status.RUNNING, worker=worker)
    assert ["5% of it is free" in advice.evidence for advice in advice_for(run)] == [True] * fires


def test_all_rules_together_read_little(run: Run, django_assert_num_queries: Any) -> None:
    log(run, **GOOD)
    with django_assert_num_queries(1):  # and one for all points, past Django's own cursors
        advice_for(run)
