"""What the next trial tries: the same rows give the same, and TPE goes where it was good."""

import math
import uuid
from typing import Any

import pytest

from webapp.sweeps.choosing import STARTUP_TRIALS, next_params
from webapp.sweeps.models import Sweep, Trial, TrialState

SPACE = {
    "learning_rate": {"min": 1e-6, "max": 1e-2, "log": True},
    "batch_size": {"min": 2, "max": 33, "step": 2},
    "lr_scheduler": ["linear", "cosine", "constant"],
}


def _sweep(**values: Any) -> Sweep:
    return Sweep(**{"pk": uuid.UUID(int=7), "space": SPACE, "strategy": "tpe", "direction": "min", **values})


def _loss(params: dict[str, Any]) -> float:
    """Best at a learning rate of 1e-4 and with the cosine schedule."""
    return abs(math.log10(params["learning_rate"]) + 4) + (params["lr_scheduler"] != "cosine")


def _carried_out(sweep: Sweep, count: int, sign: int = 1) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(1, count + 1):
        params = next_params(sweep, trials)
        value = sign * _loss(params)
        trials.append(Trial(sweep=sweep, number=number, params=params, state=TrialState.DONE, value=value))
    return trials


@pytest.mark.parametrize("strategy", ["random", "tpe"])
def test_the_same_rows_give_the_same_trial_and_another_sweep_others(strategy: str) -> None:
    first, again = (_carried_out(_sweep(strategy=strategy), STARTUP_TRIALS + 3) for _ in range(2))
    assert [one.params for one in first] == [one.params for one in again]
    other = _carried_out(_sweep(strategy=strategy, pk=uuid.UUID(int=8)), 2)
    assert other[0].params != first[0].params
    assert first[0].params != first[1].params


@pytest.mark.parametrize(("direction", "sign"), [("min", 1), ("max", -1)])
def test_tpe_goes_where_it_was_good(direction: str, sign: int) -> None:
    trials = _carried_out(_sweep(direction=direction), 40, sign)
    drawn, chosen = trials[:STARTUP_TRIALS], trials[-STARTUP_TRIALS:]
    mean = sum(_loss(one.params) for one in chosen) / len(chosen)
    assert mean < 0.6 * sum(_loss(one.params) for one in drawn) / len(drawn)
    assert sum(one.params["lr_scheduler"] == "cosine" for one in chosen) >= 7


def test_values_stay_in_their_space_and_read_well() -> None:
    for trial in _carried_out(_sweep(), 25):
        rate, size = trial.params["learning_rate"], trial.params["batch_size"]
        assert 1e-6 <= rate <= 1e-2
        assert rate == float(f"{rate:.4g}")
        assert isinstance(size, int)
        assert size in range(2, 34, 2)


def test_trials_that_run_failed_or_were_pruned_are_reckoned_with() -> None:
    sweep = _sweep()
    trials = _carried_out(sweep, STARTUP_TRIALS)
    ends = (TrialState.RUNNING, None), (TrialState.FAILED, None), (TrialState.PRUNED, 9.0), (TrialState.STOPPED, None)
    for state, value in ends:
        params = next_params(sweep, trials)
        trials.append(Trial(sweep=sweep, number=len(trials) + 1, params=params, state=state, value=value))
    alone = next_params(sweep, [*trials[:-4], *trials[-3:], trials[-1]])
    assert next_params(sweep, trials) != alone
