"""Reading metrics: a series for a chart, one key of many runs, and the figures of run lists."""

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db.models import F, QuerySet, Window, prefetch_related_objects
from django.db.models.functions import RowNumber

from webapp.errors import NotFound
from webapp.metrics import reading
from webapp.metrics.keys import is_usable
from webapp.metrics.models import IngestPosition, MetricSeries
from webapp.metrics.reading import Columns
from webapp.runs.config_files import flat_settings
from webapp.runs.models import Run

# What a row of a run list can show of a run that logs very many metrics.
SUMMARY_KEYS = 200
# What a comparison of settings names besides the settings.
SOURCES = (
    "method",
    "model",
    "reward_model",
    "judge_model",
    "teacher_model",
    "merge_models",
    "dataset",
    "eval_dataset",
    "documents",
)
SPARKLINE_KEYS = ("loss", "reward", "train_loss", "eval/loss")


@dataclass(frozen=True, slots=True)
class SeriesView:
    """A series, or a window of it, in buckets. A bucket covers `width` steps and comes from rollup level `level`.

    `x` holds the value of another metric at each bucket, when one was asked for; NaN where the run has none.
    """

    series: MetricSeries
    columns: Columns
    width: int = 1
    level: int = 0
    x: npt.NDArray[np.float64] | None = None


def series_list(run: Run) -> list[MetricSeries]:
    """Every series of a run, by key; the writer bounds their number."""
    return list(MetricSeries.objects.filter(run=run).order_by("key"))


def refused(run: Run) -> dict[str, int]:
    """How many metric lines and values of the run could not be stored."""
    position = IngestPosition.objects.filter(run=run).first() or IngestPosition()
    return {"bad_lines": position.bad_lines, "refused_values": position.refused_values}


def series_read(
    run: Run, key: str, *, points: int = 1000, low: int | None = None, high: int | None = None
) -> SeriesView:
    """One series, or its steps `low` to `high`, in at most `points` buckets. Raises NotFound."""
    series = _series_of([run.pk], [key]).get(run.pk, {}).get(key)
    if series is None:
        raise NotFound(f"The run has logged nothing as {key}.")
    window = reading.window_of(series, points, low, high)
    return _view(series, window, reading.read_windows([window] if window else []))


def series_read_many(
    run_ids: Iterable[uuid.UUID],
    key: str,
    *,
    points: int = 500,
    x: str | None = None,
    low: int | None = None,
    high: int | None = None,
    aligned: bool = False,
) -> dict[uuid.UUID, SeriesView]:
    """One key of many runs in one read, each in at most `points` buckets; runs without it are left out.

    `low` and `high` are the first and last step to read. `x` names another metric (`epoch`, `num_tokens`) whose value
    at each bucket is given beside it. `aligned` buckets have the same width for all runs, as the widest needs it.
    """
    series = _series_of(run_ids, [key, x] if x else [key])
    chosen = {run_id: keys for run_id, keys in series.items() if key in keys}
    windows = {run_id: reading.window_of(keys[key], points, low, high) for run_id, keys in chosen.items()}
    if aligned:
        bits = max((window.bits for window in windows.values() if window), default=0)
        windows = {
            run_id: reading.window_of(keys[key], points, low, high, bits=bits) for run_id, keys in chosen.items()
        }
    axes = {run_id: reading.window_of(keys[x], points, low, high) for run_id, keys in chosen.items() if x and x in keys}
    found = reading.read_windows([window for window in (*windows.values(), *axes.values()) if window])
    views = {}
    for run_id, keys in chosen.items():
        along = _along(windows[run_id], axes.get(run_id), found) if x else None
        views[run_id] = _view(keys[key], windows[run_id], found, along)
    return views


def sparklines(
    run_ids: Iterable[uuid.UUID], *, keys: Sequence[str] = SPARKLINE_KEYS, points: int = 40
) -> dict[uuid.UUID, SeriesView]:
    """A few buckets of the first of `keys` that each run has logged."""
    chosen = {}
    for run_id, series in _series_of(run_ids, keys).items():
        chosen[run_id] = next(series[key] for key in keys if key in series)
    windows = {run_id: reading.window_of(one, points) for run_id, one in chosen.items()}
    found = reading.read_windows([window for window in windows.values() if window])
    return {run_id: _view(one, windows[run_id], found) for run_id, one in chosen.items()}


def summaries(
    run_ids: Iterable[uuid.UUID], keys: Sequence[str] | None = None
) -> dict[uuid.UUID, dict[str, dict[str, Any]]]:
    """`{run: {key: {last, min, max, count}}}` for the given keys, else for the first `SUMMARY_KEYS` of each run."""
    series = MetricSeries.objects.filter(run__in=list(run_ids)).order_by("run_id", "key")
    if keys is not None:
        series = series.filter(key__in=keys)
    place = Window(RowNumber(), partition_by=F("run_id"), order_by=F("key").asc())
    found: dict[uuid.UUID, dict[str, dict[str, Any]]] = {}
    for one in series.annotate(place=place).filter(place__lte=SUMMARY_KEYS):
        found.setdefault(one.run_id, {})[one.key] = summary(one)
    return found


def summary(series: MetricSeries) -> dict[str, Any]:
    """The figures of one series as JSON takes them: a `last` that is not finite is None."""
    last = series.last if series.last is not None and math.isfinite(series.last) else None
    return {"last": last, "min": series.min, "max": series.max, "count": series.count}


def figures_of(run_ids: Sequence[uuid.UUID], keys: Sequence[str], figure: str) -> dict[str, list[float | None]]:
    """`{key: [value of each run]}` of one of the figures of `summary`; None where a run has none."""
    usable = [key for key in keys if is_usable(key)]
    found = summaries(run_ids, usable)
    return {key: [found.get(run_id, {}).get(key, {}).get(figure) for run_id in run_ids] for key in keys}


def config_diff(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """What differs between runs: `{"adapter.r": [8, 16]}`, the values in the order of `runs`, None where unset."""
    prefetch_related_objects(runs, "merge_models__model")
    flat = [flat_settings(_settings(run)) for run in runs]
    paths = sorted({path for settings in flat for path in settings})
    rows = {path: [settings.get(path) for settings in flat] for path in paths}
    return {path: values for path, values in rows.items() if any(value != values[0] for value in values)}


def with_settings(runs: QuerySet[Run]) -> QuerySet[Run]:
    """The runs with what `config_diff` reads of each."""
    return runs.select_related(
        "model",
        "reward_model",
        "judge_model",
        "teacher_model",
        "dataset_version__dataset",
        "eval_dataset_version__dataset",
        "documents_version__dataset",
    )


def _settings(run: Run) -> dict[str, Any]:
    return {
        "method": run.method,
        "model": run.model.name,
        "reward_model": run.reward_model.name if run.reward_model else None,
        "judge_model": run.judge_model.name if run.judge_model else None,
        "teacher_model": run.teacher_model.name if run.teacher_model else None,
        "merge_models": [one.model.name for one in run.merge_models.all()],
        "dataset": str(run.dataset_version) if run.dataset_version else None,
        "eval_dataset": str(run.eval_dataset_version) if run.eval_dataset_version else None,
        "documents": str(run.documents_version) if run.documents_version else None,
        **run.config,
    }


def _series_of(run_ids: Iterable[uuid.UUID], keys: Sequence[str]) -> dict[uuid.UUID, dict[str, MetricSeries]]:
    found: dict[uuid.UUID, dict[str, MetricSeries]] = {}
    for series in MetricSeries.objects.filter(run__in=list(run_ids), key__in=filter(is_usable, keys)):
        found.setdefault(series.run_id, {})[series.key] = series
    return found


def _view(
    series: MetricSeries,
    window: reading.Window | None,
    found: Mapping[int, Columns],
    x: npt.NDArray[np.float64] | None = None,
) -> SeriesView:
    if window is None:
        return SeriesView(series, Columns(), x=x)
    return SeriesView(series, found[window.series.pk], window.width, window.level, x)


def _along(
    window: reading.Window | None, axis: reading.Window | None, found: Mapping[int, Columns]
) -> npt.NDArray[np.float64]:
    """The axis's value at each bucket of a window: on the straight line between those of its own buckets."""
    steps = _middles(window, found) if window else np.zeros(0)
    if axis is None:
        return np.full(len(steps), np.nan)
    mean = found[axis.series.pk].mean
    known = ~np.isnan(mean)
    if not known.any():
        return np.full(len(steps), np.nan)
    values: npt.NDArray[np.float64] = np.interp(steps, _middles(axis, found)[known], mean[known])
    return values


def _middles(window: reading.Window, found: Mapping[int, Columns]) -> npt.NDArray[np.float64]:
    return found[window.series.pk].step.astype("f8") + (window.width - 1) / 2
