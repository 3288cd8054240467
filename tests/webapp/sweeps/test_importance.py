"""How much a setting matters, told from runs alone."""

import random
from typing import Any

import pytest

from webapp.sweeps.importance import importances


def _rows(count: int = 40) -> list[tuple[dict[str, Any], float]]:
    draw = random.Random(1)
    rows: list[tuple[dict[str, Any], float]] = []
    for _ in range(count):
        settings = {
            "middle": draw.uniform(-1, 1),
            "rising": draw.uniform(0, 1),
            "kind": draw.choice(["a", "b"]),
            "noise": draw.uniform(0, 1),
            "same": 3,
        }
        value = 3 * settings["middle"] ** 2 + 0.8 * settings["rising"] + 0.5 * (settings["kind"] == "a")
        rows.append((settings, value))
    return rows


def test_what_matters_most_comes_first_also_where_the_best_is_in_the_middle() -> None:
    found = {one.path: one for one in importances(_rows())}
    assert next(iter(found)) == "middle"
    assert found["middle"].share > 0.4
    assert found["noise"].share < 0.1
    assert found["rising"].trend > 0 > found["middle"].trend + -0.5
    assert found["kind"].trend is None
    assert "same" not in found


def test_one_run_that_diverged_changes_little() -> None:
    rows = _rows()
    before = {one.path: one.share for one in importances(rows)}
    worst = max(range(len(rows)), key=lambda place: rows[place][1])
    rows[worst] = (rows[worst][0], 1e30)
    assert {one.path: one.share for one in importances(rows)} == before


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [({"a": 1}, 1.0), ({"a": 2}, 2.0), ({"a": 3}, 3.0)],
        [({"a": 1}, 1.0)] * 10,
        [({"a": n}, 1.0) for n in range(10)],
    ],
)
def test_what_tells_nothing_is_no_importance(rows: list[tuple[dict[str, Any], float]]) -> None:
    assert all(one.share == 0 for one in importances(rows))


def test_settings_that_only_some_runs_have_are_a_kind_of_their_own() -> None:
    rows = [({"r": 8} if place % 2 else {}, float(place % 2)) for place in range(12)]
    (only,) = importances(rows)
    assert (only.path, only.share, only.trend) == ("r", 1.0, None)
