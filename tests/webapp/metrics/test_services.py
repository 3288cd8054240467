"""Writing metrics: what is stored equals what was logged, whatever happens on the way."""

import math
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import accumulate

import pytest
from django.db import IntegrityError, connection, transaction

from tests.webapp.metrics.conftest import START
from tests.webapp.metrics.reference import Reference
from webapp.metrics import services
from webapp.metrics.models import MetricBucket, MetricPoint, MetricSeries
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.leases import Claim, LeaseLost, lease_renew
from webapp.runs.models import Run, Status

STRIDES = {
    "every step": lambda dice: 1,
    "every ten": lambda dice: 10,
    "every fifty": lambda dice: 50,
    "uneven": lambda dice: dice.choice([1, 1, 1, 2, 5, 70, 600]),
    "sparse": lambda dice: dice.choice([1000, 100_000, 3]),
}


def line(step: int, **values: float) -> MetricLine:
    return MetricLine(step, START + step, values)


def a_value(dice: random.Random) -> float:
    if dice.random() < 0.03:
        return dice.choice([math.nan, math.inf, -math.inf])
    return dice.gauss(0, 3)


def roll_back(writer: MetricWriter, lines: list[MetricLine]) -> None:
    """Store lines in a transaction that comes to nothing."""
    with transaction.atomic():
        writer.append(lines)
        transaction.set_rollback(True)
    writer.reset()


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("seed", range(3))
def test_random_streams_equal_the_reference(run: Run, stride: str, seed: int) -> None:
    """Batches of any size, resumes that overlap, crashes of the writer, transactions that are rolled back."""
    dice = random.Random(f"{stride}{seed}")
    writer, reference = MetricWriter(run.pk), Reference()
    step = dice.choice([0, 1, 10])
    for _ in range(60):
        if dice.random() < 0.1:
            step = max(0, step - dice.randint(0, 40) * STRIDES[stride](dice))
        lines = []
        for _ in range(dice.choice([1, 1, 2, 5, 30])):
            values = {key: a_value(dice) for key in ("loss", "eval/loss", "lr") if key == "loss" or dice.random() < 0.3}
            lines.append(MetricLine(step, START + step / 7, values))
            if dice.random() < 0.97:
                step += STRIDES[stride](dice)
        fate = dice.random()
        if fate < 0.1:
            roll_back(writer, lines)
            continue
        assert writer.append(lines) == 0
        reference.append(lines)
        if fate < 0.3:
            writer = MetricWriter(run.pk)
    reference.check(run.pk)


def test_size_of_batches_makes_no_difference(run: Run) -> None:
    dice = random.Random(7)
    lines = [line(step, loss=dice.random()) for step in accumulate(dice.choice([1, 3]) for _ in range(3000))]
    writer = MetricWriter(run.pk)
    for start in range(0, len(lines), 97):
        writer.append(lines[start : start + 97])
    reference = Reference()
    reference.append(lines)
    reference.check(run.pk)


def test_repeated_steps_replace_what_was_stored_from_there_on(run: Run) -> None:
    MetricWriter(run.pk).append([line(step, loss=float(step)) for step in range(1, 121)])
    MetricWriter(run.pk).append([line(step, loss=-1.0) for step in range(101, 106)])
    stored = list(MetricPoint.objects.filter(series__run=run).order_by("step").values_list("step", "value"))
    assert stored == [(step, float(step)) for step in range(1, 101)] + [(step, -1.0) for step in range(101, 106)]
    series = MetricSeries.objects.get(run=run)
    assert (series.count, series.last_step, series.last, series.min, series.max) == (105, 105, -1.0, -1.0, 100.0)


def test_a_series_that_starts_over_keeps_nothing_of_the_old(run: Run) -> None:
    writer = MetricWriter(run.pk)
    writer.append([line(step, loss=5.0) for step in range(0, 1000, 10)])
    writer.append([line(0, loss=1.0)])
    series = MetricSeries.objects.get(run=run)
    assert (series.count, series.first_step, series.last_step, series.min, series.max) == (1, 0, 0, 1.0, 1.0)
    assert not MetricBucket.objects.filter(series=series).exists()


def test_the_same_key_twice_at_a_step_keeps_the_later(run: Run) -> None:
    MetricWriter(run.pk).append([line(1, loss=1.0), line(2, loss=2.0), line(2, loss=3.0), line(3, loss=4.0)])
    assert list(MetricPoint.objects.order_by("step").values_list("value", flat=True)) == [1.0, 3.0, 4.0]


@pytest.mark.parametrize(("stride", "shift"), [(1, 0), (7, 2), (8, 3), (10, 3), (50, 5), (2**40, 15)])
def test_the_shift_follows_the_distance_of_the_first_two_points(run: Run, stride: int, shift: int) -> None:
    writer = MetricWriter(run.pk)
    writer.append([MetricLine(0, START, {"loss": 1.0})])
    writer.append([MetricLine(stride, START, {"loss": 1.0})])
    assert MetricSeries.objects.get(run=run).shift == shift


def test_sparse_steps_cost_as_few_buckets_as_dense_ones(run: Run) -> None:
    writer = MetricWriter(run.pk)
    writer.append([line(step, dense=1.0) for step in range(4096)])
    writer.append([line(16 * step, sparse=1.0) for step in range(4096)])
    rows = [MetricBucket.objects.filter(series__key=key).count() for key in ("dense", "sparse")]
    assert rows[0] == rows[1] < 4096 / 3.9


def test_values_that_are_no_numbers_are_refused_and_counted(run: Run) -> None:
    values = {
        "loss": 1,
        "text": "1.5",
        "nothing": None,
        "flag": True,
        "list": [1],
        "": 1.0,
        "nul\0": 1.0,
        "half \ud800": 1.0,
        "k" * 201: 1.0,
        "k" * 200: 1.0,
    }
    assert MetricWriter(run.pk).append([MetricLine(1, START, values)]) == 8
    assert set(MetricSeries.objects.values_list("key", flat=True)) == {"loss", "k" * 200}


@pytest.mark.parametrize(
    ("step", "time"), [(-1, START), (2**48, START), (1, math.nan), (1, math.inf), (1, 1e18), (1, -1e18)]
)
def test_a_line_with_impossible_step_or_time_is_refused(run: Run, step: int, time: float) -> None:
    lines = [MetricLine(step, time, {"loss": 1.0, "lr": 2.0}), line(3, loss=1.0)]
    assert MetricWriter(run.pk).append(lines) == 2
    assert MetricPoint.objects.count() == 1


def test_the_number_of_keys_is_limited_and_known_keys_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_KEYS", 5)
    writer = MetricWriter(run.pk)
    assert writer.append([MetricLine(1, START, {f"k{n}": 1.0 for n in range(4)})]) == 0
    assert writer.append([MetricLine(2, START, {f"k{n}": 1.0 for n in range(9)})]) == 4
    assert MetricWriter(run.pk).append([MetricLine(3, START, {f"k{n}": 1.0 for n in range(9)})]) == 4
    assert list(MetricSeries.objects.order_by("key").values_list("key", "count")) == [
        ("k0", 3),
        ("k1", 3),
        ("k2", 3),
        ("k3", 3),
        ("k4", 2),
    ]


def test_huge_values_become_infinite_and_never_break_a_sum(run: Run) -> None:
    values = [1e308, -1e308, 10**400, -(10**400), 9e299, 9e299, 5e-324]
    MetricWriter(run.pk).append([line(step, loss=value) for step, value in enumerate(values * 20)])
    series = MetricSeries.objects.get(run=run)
    assert (series.count, series.not_finite, series.max, series.min) == (140, 80, 9e299, 5e-324)


def test_a_rolled_back_transaction_leaves_nothing(run: Run) -> None:
    writer = MetricWriter(run.pk)
    roll_back(writer, [line(step, loss=1.0) for step in range(100)])
    assert not MetricSeries.objects.exists()
    assert not MetricPoint.objects.exists()
    assert not MetricBucket.objects.exists()


def test_an_append_that_fails_stores_nothing_and_the_next_one_works(run: Run) -> None:
    writer = MetricWriter(run.pk)
    writer.append([line(1, loss=1.0)])
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE metric_series ADD CONSTRAINT in_the_way CHECK (count < 2)")
    with pytest.raises(IntegrityError), transaction.atomic():
        writer.append([line(2, loss=2.0, lr=1.0)])
    assert list(MetricSeries.objects.values_list("key", "count")) == [("loss", 1)]
    assert list(MetricPoint.objects.values_list("step", flat=True)) == [1]
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE metric_series DROP CONSTRAINT in_the_way")
    writer.append([line(2, loss=2.0, lr=1.0)])
    assert list(MetricSeries.objects.order_by("key").values_list("key", "count")) == [("loss", 2), ("lr", 1)]


def test_a_worker_that_lost_its_lease_stores_nothing(run: Run) -> None:
    """As a supervisor does it: the lease is renewed in the transaction of what was read."""
    Run.objects.filter(pk=run.pk).update(status=Status.RUNNING, lease_epoch=2)
    for claim, expected in ((Claim(run.pk, 1), 0), (Claim(run.pk, 2), 1)):
        with suppress(LeaseLost), transaction.atomic():
            MetricWriter(run.pk).append([line(1, loss=1.0)])
            lease_renew(claim)
        assert MetricPoint.objects.count() == expected


def test_an_append_costs_the_same_queries_for_any_number_of_keys(
    run: Run, django_assert_max_num_queries: Callable[[int], AbstractContextManager[None]]
) -> None:
    writer = MetricWriter(run.pk)
    writer.append([MetricLine(step, START, {f"k{n}": 1.0 for n in range(200)}) for step in range(20)])
    with django_assert_max_num_queries(5):
        writer.append([MetricLine(step, START, {f"k{n}": 1.0 for n in range(200)}) for step in range(20, 40)])
    with django_assert_max_num_queries(14):
        MetricWriter(run.pk).append([MetricLine(step, START, {f"k{n}": 1.0 for n in range(200)}) for step in (10, 11)])


def test_deleting_a_run_removes_all_of_its_metrics(run: Run) -> None:
    MetricWriter(run.pk).append([line(step, loss=1.0) for step in range(100)])
    run.delete()
    assert not MetricSeries.objects.exists()
    assert not MetricPoint.objects.exists()
    assert not MetricBucket.objects.exists()
