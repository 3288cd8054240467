"""A preflight's report as the launch page shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from webapp.datasets.models import DatasetVersion
from webapp.runs.estimates import Expected


@dataclass(frozen=True)
class HistogramBar:
    """Rows of at most `upto` tokens; `height` is a percentage of the highest bar, `is_cut` says they lose their end."""

    upto: int
    count: int
    height: float
    is_cut: bool


class ReportView:
    """`report` is what a worker answered; its entries are read by their names (`view.report.rows_used`).

    `dataset_version` is what it is about, where the first row has images to be shown, and `expected` what finished
    runs say of its time.
    """

    def __init__(
        self,
        report: Mapping[str, Any],
        config: Mapping[str, Any],
        dataset_version: DatasetVersion | None = None,
        expected: Expected | None = None,
    ) -> None:
        self.report = report
        self.expected = expected
        self.dataset_version = dataset_version
        self._max_length = config.get("max_length")

    @property
    def state(self) -> str:
        """The state whose mark the verdict bears."""
        if self.report["blocking"] or self.report["fit"] == "over":
            return "failed"
        return "paused" if self.report["fit"] == "tight" else "ready"

    @property
    def verdict(self) -> str:
        if self.report["blocking"]:
            return "Will not run"
        return {"over": "Will not fit", "tight": "Tight"}.get(self.report["fit"], "Fits")

    @property
    def obstacle(self) -> str:
        """Why launching would be in vain; empty when it would not."""
        return str(self.report["blocking"][0]["message"]) if self.report["blocking"] else ""

    @property
    def is_measured(self) -> bool:
        """Whether rows were looked at; something may have stood in the way before."""
        return bool(self.report["tokens"]["histogram"])

    @cached_property
    def bars(self) -> list[HistogramBar]:
        histogram = self.report["tokens"]["histogram"]
        highest = max((bar["count"] for bar in histogram), default=0)
        # The length of a pair is that of both its sequences, and the limit is for each.
        limit = self._max_length if self.report["truncated_rows"] and not self.is_pair else None
        return [
            HistogramBar(
                bar["upto"],
                bar["count"],
                100 * bar["count"] / max(1, highest),
                limit is not None and bar["upto"] > limit,
            )
            for bar in histogram
        ]

    @property
    def is_pair(self) -> bool:
        example = self.report["first_example"]
        return bool(example and example["rejected"])
