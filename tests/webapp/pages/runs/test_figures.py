"""The figures that a glance at a run should catch."""

import pytest

from polm_core import catalogue
from webapp.pages.runs.figures import headline_charts, headlines


@pytest.mark.parametrize("method", catalogue.METHODS, ids=lambda method: method.slug)
def test_every_method_has_headlines_of_one_metric_each(method: catalogue.Method) -> None:
    charts = headline_charts(method)
    assert charts
    found = headlines(method, {key: float(number) for chart in charts for number, key in enumerate(chart.keys)})
    for chart, headline in zip(charts, found, strict=True):
        shown = [value for value in (headline.trained, headline.held_out) if value is not None]
        assert sorted(shown) == [float(number) for number, _ in enumerate(chart.keys)]
