"""Reading metrics: never more buckets than asked for, and nothing that was logged gets lost in them."""

import math
import random
import uuid
from collections import defaultdict
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from numpy.testing import assert_array_equal

from tests.support.runs import make_run
from tests.webapp.metrics.conftest import START, Log
from webapp.accounts.models import Team
from webapp.errors import NotFound
from webapp.metrics import reading, selectors
from webapp.metrics.columns import execute
from webapp.metrics.models import IngestPosition, MetricSeries
from webapp.metrics.selectors import SeriesView
from webapp.runs.models import Run


def expected_buckets(points: dict[int, float], view: SeriesView) -> dict[int, list[float]]:
    """The points of every bucket of a view, by the bucket's number."""
    buckets: dict[int, list[float]] = defaultdict(list)
    shown = {step // view.width for step in view.columns.step}
    for step, value in points.items():
        if step // view.width in shown:
            buckets[step // view.width].append(value)
    return dict(sorted(buckets.items()))


def check(view: SeriesView, points: dict[int, float]) -> None:
    """Every bucket holds exactly the points of its steps."""
    columns = view.columns
    expected = expected_buckets(points, view)
    assert [step // view.width for step in columns.step] == list(expected)
    for place, values in enumerate(expected.values()):
        finite = [value for value in values if math.isfinite(value)]
        assert columns.count[place] == len(finite)
        assert columns.not_finite[place] == len(values) - len(finite)
        figures = (columns.min[place], columns.mean[place], columns.max[place])
        if finite:
            assert figures == (min(finite), pytest.approx(sum(finite) / len(finite), rel=1e-9, abs=1e-9), max(finite))
        else:
            assert all(math.isnan(figure) for figure in figures)


def a_series(dice: random.Random, strides: list[int], length: int) -> dict[int, float]:
    points, step = {}, dice.randint(0, 20)
    for _ in range(length):
        points[step] = math.nan if dice.random() < 0.02 else dice.gauss(0, 1)
        step += dice.choice(strides)
    return points


@pytest.mark.parametrize("strides", [[1], [10], [1, 1, 2, 30], [7, 9], [1000, 3]])
@pytest.mark.parametrize("length", [1, 2, 9, 700, 3001])
def test_any_view_of_any_series_holds_what_was_logged(run: Run, log: Log, strides: list[int], length: int) -> None:
    dice = random.Random(f"{strides}{length}")
    points = a_series(dice, strides, length)
    log(run, {"loss": points.items()})
    last = max(points)
    windows: list[tuple[int | None, int | None]] = [(None, None), (last // 2, None), (last - 5, last + 99)]
    windows += [(None, dice.randint(0, last)) for _ in range(2)]
    windows += [(low := dice.randint(0, last), low + dice.randint(0, last)) for _ in range(3)]
    for low, high in windows:
        for asked in (1, 7, 100):
            view = selectors.series_read(run, "loss", points=asked, low=low, high=high)
            assert len(view.columns.step) <= asked
            check(view, points)
            wanted = [step for step in points if (low or 0) <= step <= (last if high is None else high)]
            covered = {step // view.width for step in view.columns.step}
            assert {step // view.width for step in wanted} <= covered


def test_a_long_series_is_shown_at_half_the_asked_resolution_or_better(run: Run, log: Log) -> None:
    log(run, {"loss": [(step, 1.0) for step in range(20_000)]})
    for asked in (10, 37, 100, 900, 4000):
        view = selectors.series_read(run, "loss", points=asked)
        assert asked / 2 <= len(view.columns.step) <= asked
        assert view.width > 1
        assert (view.level > 0) == (view.width >= 8)


def test_a_spike_survives_at_any_resolution(run: Run, log: Log) -> None:
    log(run, {"loss": [(step, 500.0 if step == 7777 else 1.0) for step in range(12_000)]})
    for asked in (1, 10, 1000):
        columns = selectors.series_read(run, "loss", points=asked).columns
        assert columns.max.max() == 500.0


def test_a_short_series_is_given_as_it_was_logged(run: Run, log: Log) -> None:
    points = [(10, 3.0), (20, math.inf), (30, 1.0), (100_000, -math.inf)]
    log(run, {"loss": points})
    view = selectors.series_read(run, "loss", points=4)
    columns = view.columns
    assert (view.width, view.level) == (1, 0)
    assert columns.step.tolist() == [10, 20, 30, 100_000]
    assert columns.time.tolist() == [START + step for step in columns.step]
    for figures in (columns.min, columns.mean, columns.max):
        assert_array_equal(figures, [3.0, math.nan, 1.0, math.nan])
    assert columns.not_finite.tolist() == [0, 1, 0, 1]


def test_a_window_beyond_the_series_is_empty(run: Run, log: Log) -> None:
    log(run, {"loss": [(10, 1.0), (20, 1.0)]})
    assert selectors.series_read(run, "loss", low=21).columns.step.tolist() == []
    assert selectors.series_read(run, "loss", high=9).columns.step.tolist() == []
    with pytest.raises(NotFound, match="nothing as lose"):
        selectors.series_read(run, "lose")


def test_a_hundred_series_are_read_in_three_queries(team: Team, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for the series' ends, one for the buckets of all of them, one for the points."""
    runs = [make_run(team, f"r{number}") for number in range(100)]
    dice = random.Random(1)
    points = {run.pk: a_series(dice, [1, 10], dice.randint(1, 200)) for run in runs}
    for run in runs:
        log(run, {"loss": points[run.pk].items()})
    reads = []
    monkeypatch.setattr(reading, "execute", lambda *args: reads.append(args) or execute(*args))
    with CaptureQueriesContext(connection) as queries:
        views = selectors.series_read_many(points, "loss", points=50)
    assert len(queries) + len(reads) == 3
    assert views.keys() == points.keys()
    for run_id, view in views.items():
        assert len(view.columns.step) <= 50
        check(view, points[run_id])


def test_runs_without_the_key_are_left_out(team: Team, run: Run, log: Log) -> None:
    other = make_run(team, "other")
    log(run, {"loss": [(1, 1.0)]})
    log(other, {"reward": [(1, 1.0)]})
    assert selectors.series_read_many([run.pk, other.pk, uuid.uuid4()], "loss").keys() == {run.pk}
    assert selectors.series_read_many([], "loss") == {}


def test_another_metric_as_axis(run: Run, log: Log) -> None:
    log(
        run,
        {
            "loss": [(step, 1.0) for step in range(10, 60, 10)],
            "eval/loss": [(15, 1.0), (45, 1.0), (70, 1.0)],
            "epoch": [(step, step / 100) for step in range(10, 60, 10)],
        },
    )
    along = selectors.series_read_many([run.pk], "loss", x="epoch")[run.pk]
    assert along.x is not None
    assert along.x.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    between = selectors.series_read_many([run.pk], "eval/loss", x="epoch")[run.pk]
    assert between.x == pytest.approx([0.15, 0.45, 0.5])
    assert_array_equal(selectors.series_read_many([run.pk], "loss", x="tokens")[run.pk].x, [math.nan] * 5)
    itself = selectors.series_read_many([run.pk], "epoch", x="epoch")[run.pk]
    assert_array_equal(itself.x, itself.columns.mean)


def test_an_axis_has_the_buckets_of_the_series(run: Run, log: Log) -> None:
    log(
        run,
        {
            "loss": [(step, 1.0) for step in range(0, 50_000, 10)],
            "tokens": [(step, 4.0 * step) for step in range(0, 50_000, 5)],
        },
    )
    view = selectors.series_read_many([run.pk], "loss", points=100, x="tokens")[run.pk]
    assert view.x is not None
    for step, tokens in zip(view.columns.step, view.x, strict=True):
        assert 4 * step <= tokens <= 4 * (step + view.width)


def test_the_list_of_series_and_what_was_refused(run: Run, log: Log) -> None:
    log(run, {"loss": [(1, 3.0), (2, math.nan)], "eval/loss": [(2, 1.0)]})
    assert [series.key for series in selectors.series_list(run)] == ["eval/loss", "loss"]
    assert selectors.refused(run) == {"bad_lines": 0, "refused_values": 0}
    IngestPosition.objects.create(run=run, bad_lines=2, refused_values=3)
    assert selectors.refused(run) == {"bad_lines": 2, "refused_values": 3}


def test_summaries_of_many_runs_in_one_query(team: Team, run: Run, log: Log) -> None:
    other = make_run(team, "other")
    log(run, {"loss": [(1, 3.0), (2, 1.0), (3, 2.0)], "lr": [(1, math.inf)]})
    log(other, {"loss": [(1, 5.0)]})
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = selectors.summaries([run.pk, other.pk])
    assert len(queries) == 1
    assert found[run.pk] == {
        "loss": {"last": 2.0, "min": 1.0, "max": 3.0, "count": 3},
        "lr": {"last": None, "min": None, "max": None, "count": 1},
    }
    assert selectors.summaries([run.pk, other.pk], ["loss"])[other.pk]["loss"]["last"] == 5.0


def test_a_run_with_very_many_keys_does_not_flood_a_list(run: Run) -> None:
    MetricSeries.objects.bulk_create(MetricSeries(run=run, key=f"k{n:04}") for n in range(300))
    assert list(selectors.summaries([run.pk])[run.pk]) == [f"k{n:04}" for n in range(selectors.SUMMARY_KEYS)]


def test_sparklines_show_the_first_key_a_run_has(team: Team, run: Run, log: Log) -> None:
    other, silent = make_run(team, "other"), make_run(team, "silent")
    log(run, {"loss": [(step, 1.0) for step in range(1000)], "reward": [(1, 9.0)]})
    log(other, {"reward": [(1, 2.0)]})
    found = selectors.sparklines([run.pk, other.pk, silent.pk], points=40)
    assert {run_id: view.series.key for run_id, view in found.items()} == {run.pk: "loss", other.pk: "reward"}
    assert 20 <= len(found[run.pk].columns.mean) <= 40


def test_config_diff_names_only_what_differs(team: Team) -> None:
    common = {"learning_rate": 1e-4, "adapter": {"type": "lora", "r": 8}, "rewards": []}
    first = make_run(team, "a", config=common)
    second = make_run(team, "b", method="dpo", config={**common, "adapter": {"type": "lora", "r": 16}, "beta": 0.1})
    assert selectors.config_diff([first, second]) == {
        "adapter.r": [8, 16],
        "beta": [None, 0.1],
        "method": ["sft", "dpo"],
    }
    assert selectors.config_diff([first, first]) == {}


def test_times_are_of_the_last_point_of_a_bucket(run: Run, log: Log) -> None:
    log(run, {"loss": [(step, 1.0) for step in range(64)]})
    view = selectors.series_read(run, "loss", points=8)
    assert view.columns.time.tolist() == [START + step for step in range(7, 64, 8)]
    assert MetricSeries.objects.get(run=run).first_wall == datetime.fromtimestamp(START, UTC)
