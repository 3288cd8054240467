"""How right a choice among N answers is, expected over the ways to draw N of the answers that there are.

Pure functions. For a choice by reward the expectation is exact: each level of reward is the best one of a set of N by
a known chance (the estimator of pass@k, arXiv 2107.03374, for any reward, as in arXiv 2112.09332, appendix I). Votes
have no such formula: they are counted over all sets of N where those are few, and else over some that are drawn. The
band around a mean over prompts is the bootstrap's over prompts: 95 % of such means, percentiles 2.5 to 97.5.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from math import comb, inf
from statistics import fmean
from typing import NamedTuple

SETS = 100
RESAMPLES = 1000


class Drawn(NamedTuple):
    """One of the answers to a prompt: whether it is right, what it says in the end (None for nothing that could be
    voted for), its reward and what its steps are worth (None where they were not judged)."""

    is_right: bool
    says: str | None
    reward: float | None
    steps: float | None = None


Weigh = Callable[[Drawn], float]
"""How much an answer's vote weighs."""


class Point(NamedTuple):
    """A mean over prompts and its band."""

    mean: float
    low: float
    high: float


def counts_up_to(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    powers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return [*powers, most]


def any_right(answers: Sequence[Drawn], count: int) -> float:
    """The chance that one of `count` answers is right: what a choice that never errs would reach."""
    wrong = sum(not answer.is_right for answer in answers)
    return 1 - comb(wrong, count) / comb(len(answers), count)


def best_right(answers: Sequence[Drawn], count: int) -> float:
    """The chance that of `count` answers the one of the highest reward is right; among equals it is drawn."""
    levels: dict[float, list[bool]] = {}
    for answer in answers:
        levels.setdefault(-inf if answer.reward is None else answer.reward, []).append(answer.is_right)
    total, below, chance = comb(len(answers), count), 0, 0.0
    for _, right in sorted(levels.items()):
        upto = below + len(right)
        chance += (comb(upto, count) - comb(below, count)) / total * fmean(right)
        below = upto
    return chance


def vote_right(answers: Sequence[Drawn], count: int, weigh: Weigh, seed: str) -> float:
    """The chance that what most of `count` answers say is right, each vote weighed.

    Equal weights are decided by the number of votes, and those by lot.
    """
    sets = list(_sets(answers, count, seed))
    return fmean(_elected(drawn, weigh) for drawn in sets)


def _sets(answers: Sequence[Drawn], count: int, seed: str) -> Iterable[Sequence[Drawn]]:
    if comb(len(answers), count) <= SETS:
        return combinations(answers, count)
    draw = random.Random(seed)  # noqa: S311 - chances, not secrets
    return (draw.sample(answers, count) for _ in range(SETS))


def _elected(answers: Sequence[Drawn], weigh: Weigh) -> float:
    """The chance that the answer which these elect is right, 0 without a vote."""
    votes: dict[str, list[Drawn]] = {}
    for answer in answers:
        if answer.says is not None:
            votes.setdefault(answer.says, []).append(answer)
    if not votes:
        return 0.0
    weights = [((sum(map(weigh, same)), len(same)), same) for same in votes.values()]
    most = max(weight for weight, _ in weights)
    # Answers that say the same can still differ in whether they are right, by how they say it.
    return fmean(fmean(one.is_right for one in same) for weight, same in weights if weight == most)


def with_band(values: Sequence[float], seed: int) -> Point:
    """The mean over prompts, with the bootstrap's band."""
    import numpy as np

    given = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).integers(0, len(given), size=(RESAMPLES, len(given)))
    low, high = np.percentile(given[drawn].mean(axis=1), [2.5, 97.5])
    return Point(float(given.mean()), float(low), float(high))
