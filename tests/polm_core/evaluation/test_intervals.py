"""Intervals around means and differences: what they hold, and when rows are compared one by one."""

import numpy as np
import pytest

from polm_core.evaluation.intervals import Interval, Scores, difference, mean_interval, unpaired


def test_an_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        found = mean_interval(draw.random(80) < 0.3)
        held += found.low <= 0.3 <= found.high
    assert 0.9 <= held / 300 <= 0.98


def test_rows_weigh_by_their_weights() -> None:
    found = mean_interval([1.0, 3.0], [3.0, 1.0])
    assert found.value == 1.5
    assert (found.low, found.high) == (1.0, 3.0)


def test_of_many_rows_the_interval_is_the_normal_one_and_comes_to_the_same() -> None:
    scores = np.random.default_rng(1).normal(2.0, 1.0, 1000)
    resampled, normal = mean_interval(scores), mean_interval(np.append(scores, scores.mean()))
    assert normal.low == pytest.approx(resampled.low, abs=0.01)
    assert normal.high == pytest.approx(resampled.high, abs=0.01)


def test_a_paired_difference_is_narrower_for_models_that_find_the_same_rows_hard() -> None:
    hard = np.random.default_rng(2).normal(0, 1, 200)
    keys = np.arange(200)
    one, other = Scores(keys, hard + 0.1), Scores(keys[::-1], hard[::-1])
    paired = difference(one, other)
    elsewhere = difference(one, Scores(keys + 1000, hard))
    assert paired is not None
    assert elsewhere is not None
    assert (paired.rows, elsewhere.rows) == (200, None)
    assert paired.value == pytest.approx(0.1) == pytest.approx(elsewhere.value)
    assert paired.is_clear
    assert not elsewhere.is_clear


def test_some_rows_that_one_model_could_not_be_measured_on_do_not_part_the_rest() -> None:
    scores = [1.0, 0.0] * 10
    found = difference(Scores(range(20), scores), Scores(range(18), scores[:18]))
    assert found is not None
    assert (found.value, found.rows) == (0.0, 18)
    apart = difference(Scores(range(20), scores), Scores(range(5), scores[:5]))
    assert apart is not None
    assert apart.rows is None


def test_without_scores_intervals_are_compared() -> None:
    assert difference(Scores([], []), Scores([1], [1.0])) is None
    found = unpaired(Interval(3.0, 2.0, 4.0), Interval(1.0, 1.0, 1.0))
    assert (found.value, found.low, found.high, found.rows) == (2.0, 1.0, 3.0, None)
