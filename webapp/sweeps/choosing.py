"""What the next trial tries. Optuna is rebuilt from the rows each time: they are all that is ever stored."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from webapp.runs.models import Best
from webapp.sweeps.models import Strategy, Sweep, Trial, TrialState
from webapp.sweeps.space import Range, Space, tidy

if TYPE_CHECKING:
    import optuna

# Before TPE has seen so many, it draws at random, as optuna does by default.
STARTUP_TRIALS = 10
_DIGITS = 4


def next_params(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    """The settings of the trial after `trials`, by their dotted names. The same rows give the same settings."""
    number = len(trials)
    if sweep.strategy == Strategy.GRID:
        return sweep.varies.grid()[number]
    return _asked(sweep, trials, _seed(f"{sweep.pk}:{number}"))


def _asked(sweep: Sweep, trials: Sequence[Trial], seed: int) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = sweep.varies
    distributions = {path: _distribution(space.root[path]) for path in space.paths}
    # Those that still run count as bad ones near them (the constant liar), so that several at a time spread out.
    sampler: optuna.samplers.BaseSampler = (
        optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
        if sweep.strategy == Strategy.TPE
        else optuna.samplers.RandomSampler(seed=seed)
    )
    direction = "minimize" if sweep.direction == Best.MIN else "maximize"
    study = optuna.create_study(sampler=sampler, direction=direction)
    for trial in trials:
        study.add_trial(_as_seen(trial, space, distributions))
    return _from_optuna(space, study.ask(distributions).params)


def _as_seen(
    trial: Trial, space: Space, distributions: "Mapping[str, optuna.distributions.BaseDistribution]"
) -> "optuna.trial.FrozenTrial":
    """A trial as optuna takes it; one without a value teaches it nothing, unless it still runs."""
    from optuna.trial import TrialState as Seen
    from optuna.trial import create_trial

    states = {TrialState.DONE: Seen.COMPLETE, TrialState.PRUNED: Seen.PRUNED}
    state = Seen.RUNNING if trial.state in (TrialState.RUNNING, TrialState.HELD) else Seen.FAIL
    if trial.value is not None:
        state = states.get(TrialState(trial.state), state)
    return create_trial(
        state=state,
        params=_to_optuna(space, trial.params),
        distributions=dict(distributions),
        value=trial.value if state == Seen.COMPLETE else None,
        intermediate_values={0: trial.value} if state == Seen.PRUNED and trial.value is not None else None,
    )


def _distribution(dimension: list[Any] | Range) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, list):
        return CategoricalDistribution(range(len(dimension)))
    low, step = dimension.min, dimension.step
    # The last step, where the end is none.
    high = dimension.max if step is None else dimension.values[-1]
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None):
        return IntDistribution(low, high, log=dimension.log, step=step or 1)
    return FloatDistribution(low, high, log=dimension.log, step=step)


def _to_optuna(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Values of lists by their place: optuna takes plain values only."""
    found = {}
    for path in space.paths:
        dimension = space.root[path]
        found[path] = dimension.index(params[path]) if isinstance(dimension, list) else params[path]
    return found


def _from_optuna(space: Space, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as people would write them: numbers between a range's ends with four significant digits."""
    found: dict[str, Any] = {}
    for path in space.paths:
        dimension, value = space.root[path], drawn[path]
        if isinstance(dimension, list):
            found[path] = dimension[value]
        elif isinstance(value, int) or dimension.step is not None:
            found[path] = tidy(value)
        else:
            found[path] = min(max(float(f"{value:.{_DIGITS}g}"), dimension.min), dimension.max)
    return found


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
