"""What charts do to numbers before they draw them: static/js/series.js, in a real browser."""

import base64
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
Call = Callable[..., Any]


@pytest.fixture
def call(page: Page) -> Call:
    """Calls an exported function of series.js; NaN goes in and comes out as it is."""
    source = (settings.BASE_DIR / "static/js/series.js").read_bytes()
    module = "data:text/javascript;base64," + base64.b64encode(source).decode()

    def run(name: str, *arguments: Any) -> Any:
        return page.evaluate(
            "async ([module, name, args]) => (await import(module))[name](...args)", [module, name, list(arguments)]
        )

    return run


def debiased(values: list[float], weight: float) -> list[float]:
    """The textbook average, divided by the share of the weights that has been used."""
    mean, result = 0.0, []
    for count, value in enumerate(values, start=1):
        mean = weight * mean + (1 - weight) * value
        result.append(mean / (1 - weight**count))
    return result


@pytest.mark.parametrize("weight", [0.1, 0.6, 0.99, 0.999])
def test_smoothing_is_the_debiased_average(call: Call, weight: float) -> None:
    dice = random.Random(weight)
    values = [dice.gauss(2, 1) for _ in range(200)]
    assert call("smooth", values, weight) == pytest.approx(debiased(values, weight))


@pytest.mark.parametrize("weight", [0, 0.5, 0.97, 0.999])
def test_constants_stay_untouched(call: Call, weight: float) -> None:
    values = [0.1, 0.1, None, 0.1, 0.1]
    assert call("smooth", values, weight) == values
    assert call("smooth", values, weight, [3, 1, 0, 8, 1]) == values
    assert call("smoothOverX", values, weight, [0, 1, 2, 50, 51]) == values


def test_gaps_stay_gaps_and_do_not_break_the_line(call: Call) -> None:
    smoothed = call("smooth", [1.0, None, math.nan, 3.0], 0.5)
    assert smoothed[1:3] == [None, None]
    assert [smoothed[0], smoothed[3]] == pytest.approx(debiased([1.0, 3.0], 0.5))


def test_smoothing_does_not_depend_on_the_resolution(call: Call) -> None:
    """A bucket of n points pulls as much as its n points do."""
    points = [math.exp(-step / 300) + 0.2 * (-1) ** step for step in range(1024)]
    fine = call("smooth", points, 0.98)
    means = [sum(points[start : start + 8]) / 8 for start in range(0, 1024, 8)]
    coarse = call("smooth", means, 0.98, [8] * 128)
    assert coarse == pytest.approx(fine[7::8], abs=0.02)
    assert max(abs(a - b) for a, b in zip(call("smooth", means, 0.98), fine[7::8], strict=True)) > 0.1


def test_over_x_what_lies_far_back_counts_less(call: Call) -> None:
    near = call("smoothOverX", [0.0, 0.0, 1.0], 0.99, [0, 999, 1000])[-1]
    far = call("smoothOverX", [0.0, 0.0, 1.0], 0.99, [0, 1, 1000])[-1]
    assert near < far
    assert far > 0.99


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([[1, 2, 3, 1, 2, 3, 1, 2, 3, 500]], [1, 3.5]),
        ([[1, 2, 3, 2], [2, None, 3, 1, -90, 1, 2, 3]], [0.5, 3]),
        ([[1, 2, 3]], None),
        ([[5, 5, 5, 5]], None),
        ([[], [None]], None),
    ],
)
def test_the_range_without_outliers(call: Call, lines: list[list[float | None]], expected: list[float] | None) -> None:
    assert call("clipRange", lines) == expected


def test_x_axes(call: Call) -> None:
    series = {"step": [1, 2], "time": [1_790_000_010.5, 1_790_000_020.0], "start": 1_790_000_000.0, "x": [0.1, None]}
    assert call("xValues", series, "step") == [1, 2]
    assert call("xValues", series, "relative") == [10.5, 20]
    assert call("xValues", series, "wall") == [1_790_000_010_500, 1_790_000_020_000]
    assert call("xValues", series, "epoch") == [0.1, None]
    assert call("xValues", {**series, "x": None}, "epoch") == [None, None]
