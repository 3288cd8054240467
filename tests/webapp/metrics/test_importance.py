"""How much settings explain of a metric: against scipy and against what is known of the data."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from webapp.metrics.importance import importance, ranks

DICE = np.random.default_rng(3)


def test_a_number_s_correlation_is_spearman_s() -> None:
    rate, metric = DICE.integers(1, 6, 30), DICE.normal(size=30)
    (row,) = importance({"rate": rate.tolist()}, metric.tolist())
    assert row.correlation == pytest.approx(stats.spearmanr(rate, metric).statistic)
    assert row.runs == 30


def test_numbers_that_are_best_in_their_middle_count_as_much() -> None:
    rate = np.linspace(-1, 1, 40)
    middle, end = (importance({"rate": rate.tolist()}, (metric).tolist())[0] for metric in (rate**2, rate))
    assert middle.explained > 0.7
    assert abs(middle.correlation or 0) < 0.1
    assert end.explained > 0.9


def test_one_run_that_diverged_changes_nothing() -> None:
    rate = np.linspace(0, 1, 20)
    metric = rate.tolist()
    before = importance({"rate": rate.tolist()}, metric)
    assert importance({"rate": rate.tolist()}, [*metric[:-1], 1e30]) == before


def test_a_choice_explains_the_adjusted_correlation_ratio_of_the_ranks() -> None:
    kinds = ["a", "b", "c"] * 10
    metric = DICE.normal(size=30) + np.array([0, 1, 2] * 10)
    (row,) = importance({"kind": kinds}, metric.tolist())
    order = stats.rankdata(metric)
    f = stats.f_oneway(*(order[start::3] for start in range(3))).statistic
    eta = 2 * f / (2 * f + 27)
    assert row.explained == pytest.approx(1 - (1 - eta) * 29 / 27)
    assert row.correlation is None


def test_what_matters_comes_first_and_shares_add_up() -> None:
    rate = DICE.uniform(size=40)
    settings: dict[str, list[Any]] = {
        "noise": DICE.uniform(size=40).tolist(),
        "rate": rate.tolist(),
        "on": [bool(value > 0.5) for value in rate],
        "same": [1] * 40,
        "each": [f"run {place}" for place in range(40)],
    }
    rows = importance(settings, (-(rate**3)).tolist())
    assert [row.field for row in rows[:2]] == ["rate", "on"]
    assert rows[0].correlation == pytest.approx(-1)
    assert rows[0].explained > 0.9
    assert sum(row.share for row in rows) == pytest.approx(1)
    told = {row.field: row for row in rows}
    assert "same" not in told
    # A value of its own for each run explains everything, and so nothing.
    assert told["each"].explained == 0
    assert told["noise"].explained < 0.2


def test_chance_explains_nothing_on_average() -> None:
    """Unadjusted, four kinds would explain 3 / 11 of the order of twelve runs."""
    kinds = list("abcd") * 3
    mean = np.mean([importance({"kind": kinds}, DICE.normal(size=12).tolist())[0].explained for _ in range(300)])
    assert mean < 0.15


@pytest.mark.parametrize(
    ("values", "metric"),
    [
        ([1, 2, 3], [1.0, 2.0, 3.0]),
        ([1, 2, 3, 4], [1.0, None, 3.0, 4.0]),
        ([1, None, 3, 4], [1.0, 2.0, 3.0, 4.0]),
        ([1, 2, 3, 4], [float("nan"), float("inf"), 3.0, 4.0]),
        ([2, 2, 2, 2], [1.0, 2.0, 3.0, 4.0]),
        (["a", "a", "a", "a"], [1.0, 2.0, 3.0, 4.0]),
        ([1, 2, 3, 4], [5.0, 5.0, 5.0, 5.0]),
        ([], []),
    ],
)
def test_where_nothing_can_be_told_nothing_is(values: list[Any], metric: list[float | None]) -> None:
    assert importance({"x": values}, metric) == []


def test_what_is_not_set_is_a_choice_among_texts_and_no_number() -> None:
    texts, numbers = ["a", "a", None, None, "a", None], [1, 2, None, 4, 5, 6]
    rows = {row.field: row for row in importance({"t": texts, "n": numbers}, [1.0, 2.0, 9.0, 8.0, 3.0, 7.0])}
    assert (rows["t"].runs, rows["n"].runs) == (6, 5)
    assert rows["t"].explained > 0.6


def test_ranks_are_scipy_s() -> None:
    values = DICE.integers(0, 5, 20).astype("f8")
    assert ranks(values).tolist() == stats.rankdata(values).tolist()
