"""Runs that have something in common as one line: their mean, and a band of how far they are apart."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from polm_core.settings import as_text
from webapp.errors import Invalid
from webapp.metrics.selectors import SeriesView
from webapp.runs.config_files import flat_settings
from webapp.runs.models import Run

Floats = npt.NDArray[np.float64]

UNSET = "not set"
SETTING = "config."
CONFIDENCE = 0.95


class Band(StrEnum):
    """What the band around a group's mean says of its runs."""

    STD = "std"
    RANGE = "range"
    CI = "ci"

    @property
    def label(self) -> str:
        return {"std": "standard deviation", "range": "lowest to highest", "ci": "95% interval of the mean"}[self]


# What runs are grouped by besides the settings, which are named `config.adapter.r`. A run is in the group of each tag.
FIELDS: dict[str, Callable[[Run], list[Any]]] = {
    "method": lambda run: [run.method],
    "model": lambda run: [run.model.name],
    "dataset": lambda run: [str(run.dataset_version) if run.dataset_version else None],
    "tag": lambda run: list(dict.fromkeys(run.tags)) or [None],
}


@dataclass(frozen=True)
class Group:
    """Runs with one value of a field; None is the value of those without."""

    id: str
    value: Any
    runs: list[Run]

    @property
    def name(self) -> str:
        return UNSET if self.value is None else as_text(self.value)


@dataclass(frozen=True, slots=True)
class GroupLine:
    """The mean of a group's runs; one entry of each array is one place on the x axis.

    `members` of the runs have a value there, `count` logged points each, on average. `low` and `high` bound the band
    and are NaN where a single run has no spread. `not_finite` counts values that have no part in it. `x` is None where
    places are steps.
    """

    step: npt.NDArray[np.int64]
    time: Floats
    count: npt.NDArray[np.int64]
    members: npt.NDArray[np.int64]
    low: Floats
    mean: Floats
    high: Floats
    not_finite: npt.NDArray[np.int64]
    x: Floats | None = None


def group_runs(runs: Sequence[Run], field: str) -> list[Group]:
    """The groups by value: numbers by size, then texts, then what is not set. Raises Invalid for an unknown field."""
    if field in FIELDS:
        values = [FIELDS[field](run) for run in runs]
    else:
        flat = [flat_settings(run.config) for run in runs]
        path = field.removeprefix(SETTING)
        if not field.startswith(SETTING) or not any(path in settings for settings in flat):
            raise Invalid(
                "The runs cannot be grouped by this.",
                fields={"group": [f"must be {', '.join(FIELDS)}, or config. and a setting of one of the runs"]},
            )
        values = [[settings.get(path)] for settings in flat]
    found: dict[tuple[int, float, str], Group] = {}
    for run, own in zip(runs, values, strict=True):
        for value in own:
            group = found.setdefault(_place(value), Group("", value, []))
            group.runs.append(run)
    return [replace(found[key], id=f"group-{place}") for place, key in enumerate(sorted(found))]


def _place(value: Any) -> tuple[int, float, str]:
    """Where a value stands among others; equal ones, as 1 and 1.0, at the same place."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, float(value), ""
    if value is None:
        return 2, 0.0, ""
    return 1, 0.0, value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def line_by_step(views: Sequence[SeriesView], band: Band) -> GroupLine:
    """The group's line over steps. The views have buckets of one width: those of the same steps are taken together.

    A bucket's value for a run is the mean of all points that the run logged in it, however many buckets there are.
    """
    bits = views[0].width.bit_length() - 1
    buckets = [view.columns.step.astype("i8") >> bits for view in views]
    places = np.unique(np.concatenate(buckets))
    spread = [np.searchsorted(places, one) for one in buckets]

    def table(name: str) -> Floats:
        filled = np.full((len(views), len(places)), np.nan)
        for row, view, where in zip(filled, views, spread, strict=True):
            row[where] = getattr(view.columns, name)
        return filled

    odd = np.nansum(table("not_finite"), axis=0).astype("i8")
    return _line(table("mean"), table("step"), table("time"), table("count"), band, odd)


def line_along(views: Sequence[SeriesView], axes: Sequence[Floats], band: Band, points: int) -> GroupLine:
    """The group's line over another axis, of which `axes` has the value at each bucket of each view.

    Runs do not share such values. So each is read at the same `points` evenly spaced places, from the first to the
    last that any of them has, on the straight line between its buckets; beyond its own ends it has no part.
    """
    known = [np.flatnonzero(~np.isnan(view.columns.mean) & ~np.isnan(x)) for view, x in zip(views, axes, strict=True)]
    known = [where[np.argsort(x[where], kind="stable")] for where, x in zip(known, axes, strict=True)]
    ends = np.concatenate([x[where] for where, x in zip(known, axes, strict=True)])
    if not len(ends):
        nothing = np.zeros((len(views), 0))
        return _line(nothing, nothing, nothing, nothing, band, np.zeros(0, "i8"), np.zeros(0))
    places = np.linspace(ends.min(), ends.max(), points) if ends.min() < ends.max() else ends[:1]

    def table(name: str) -> Floats:
        filled = np.full((len(views), len(places)), np.nan)
        for row, view, x, where in zip(filled, views, axes, known, strict=True):
            if len(where):
                column = getattr(view.columns, name)[where].astype("f8")
                row[:] = np.interp(places, x[where], column, left=np.nan, right=np.nan)
        return filled

    odd = np.zeros(len(places), "i8")
    return _line(table("mean"), table("step"), table("time"), table("count"), band, odd, places)


def _line(
    mean: Floats,
    step: Floats,
    time: Floats,
    count: Floats,
    band: Band,
    not_finite: npt.NDArray[np.int64],
    x: Floats | None = None,
) -> GroupLine:
    """From tables whose rows are runs and whose columns are places; NaN where a run has nothing."""
    members = np.count_nonzero(~np.isnan(mean), axis=0)
    centre = _mean(mean, members)
    present = np.count_nonzero(~np.isnan(step), axis=0)
    if band is Band.RANGE:
        low = np.min(mean, axis=0, initial=np.inf, where=~np.isnan(mean))
        high = np.max(mean, axis=0, initial=-np.inf, where=~np.isnan(mean))
        low, high = (np.where(members > 0, end, np.nan) for end in (low, high))
    else:
        spread = _spread(mean, centre, members)
        if band is Band.CI:
            times = np.array([t_bound(int(one) - 1) if one > 1 else np.nan for one in members])
            spread = spread * times / np.sqrt(np.maximum(members, 1))
        low, high = centre - spread, centre + spread
    each = np.where(np.isnan(mean), np.nan, count)
    return GroupLine(
        step=np.rint(np.nan_to_num(_mean(step, present) if x is not None else np.nanmin(step, axis=0))).astype("i8"),
        time=_mean(time, present),
        count=np.rint(np.nan_to_num(_mean(each, members))).astype("i8"),
        members=members,
        low=low,
        mean=centre,
        high=high,
        not_finite=not_finite,
        x=x,
    )


def _mean(table: Floats, members: npt.NDArray[np.int64]) -> Floats:
    total = np.nansum(table, axis=0)
    found: Floats = np.divide(total, members, out=np.full(len(total), np.nan), where=members > 0)
    return found


def _spread(mean: Floats, centre: Floats, members: npt.NDArray[np.int64]) -> Floats:
    """The standard deviation of a sample; NaN for a single run."""
    squares = np.nansum((mean - centre) ** 2, axis=0)
    found: Floats = np.divide(squares, members - 1, out=np.full(len(centre), np.nan), where=members > 1)
    return np.sqrt(found)


@cache
def t_bound(freedom: int) -> float:
    """The bound that Student's t with so many degrees of freedom stays within, on both sides, 95 % of the time."""
    low, high = 0.0, 20.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, freedom) < CONFIDENCE else (low, middle)
    return high


def _t_within(t: float, freedom: int) -> float:
    """P(|T| <= t) for whole degrees of freedom, in closed form (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(odd + 2, freedom + 1, 2):
        total += term
        term *= (power - 1) / power * cosine**2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
