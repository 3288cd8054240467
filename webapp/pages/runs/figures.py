"""The figures of a run that a glance should catch."""

from collections.abc import Mapping
from dataclasses import dataclass

from polm_core import catalogue
from polm_core.method import ChartSpec, Method

HEADLINES = 2


@dataclass(frozen=True)
class Headline:
    """Values of one of the method's charts, on training rows and on held-out ones; `held_out_key` names the latter."""

    title: str
    trained: float | None
    held_out: float | None
    held_out_key: str

    @property
    def is_known(self) -> bool:
        return self.trained is not None or self.held_out is not None


def method_of(slug: str) -> Method | None:
    """The method or evaluation with that name; None for one that there is no longer."""
    return catalogue.find(slug)


def headline_charts(method: Method | None) -> tuple[ChartSpec, ...]:
    """The first of the method's charts that show one metric: what it is there to move."""
    single = [chart for chart in method.charts if len(_metrics(chart)) == 1] if method else []
    return tuple(single[:HEADLINES])


def headlines(method: Method | None, values: Mapping[str, float | None]) -> list[Headline]:
    """One headline for each of `headline_charts`, from values by metric."""
    return [_headline(chart, values) for chart in headline_charts(method)]


def _headline(chart: ChartSpec, values: Mapping[str, float | None]) -> Headline:
    (metric,) = _metrics(chart)
    return Headline(chart.title, values.get(metric), values.get(f"eval/{metric}"), f"eval/{metric}")


def _metrics(chart: ChartSpec) -> set[str]:
    """What a chart shows, on training rows or on held-out ones."""
    return {key.removeprefix("eval/") for key in chart.keys}
