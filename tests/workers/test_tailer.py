"""From the files of a run directory into Postgres: every line once, whatever dies in between."""

import json
import math
from typing import Any

import pytest
from django.db import transaction

from polm_core.run_dir import RunDir, metric_line
from webapp.metrics.models import IngestPosition, MetricPoint, MetricSeries
from webapp.runs.leases import Claim, LeaseLost
from webapp.runs.models import Run, RunLog, RunSample, Status
from workers.tailer import Tailer


def write(run_dir: RunDir, *steps: int, **values: float) -> None:
    with run_dir.metrics.open("a") as file:
        for step in steps:
            file.write(metric_line(step, 1_700_000_000.0 + step, {"loss": 1 / (step + 1), **values}))


def losses() -> dict[int, float]:
    return dict(MetricPoint.objects.filter(series__key="loss").values_list("step", "value"))


def test_new_lines_arrive_once(claim: Claim, run_dir: RunDir) -> None:
    tailer = Tailer(claim, run_dir)
    assert not tailer.read().anything
    write(run_dir, 1, 2, 3)
    assert tailer.read().anything
    assert not tailer.read().anything
    write(run_dir, 4)
    tailer.read()
    assert losses() == {step: pytest.approx(1 / (step + 1)) for step in (1, 2, 3, 4)}
    position = IngestPosition.objects.get()
    assert position.metrics_offset == run_dir.metrics.stat().st_size
    assert position.metrics_lines == 4


def test_a_torn_last_line_waits_for_its_rest(claim: Claim, run_dir: RunDir) -> None:
    tailer = Tailer(claim, run_dir)
    line = metric_line(1, 0.0, {"loss": 0.5})
    with run_dir.metrics.open("a") as file:
        file.write(line[:20])
        file.flush()
        assert not tailer.read().anything
        file.write(line[20:])
        file.flush()
    tailer.read()
    assert losses() == {1: 0.5}


def test_lines_that_are_no_metrics_are_counted_and_passed_over(claim: Claim, run_dir: RunDir) -> None:
    run_dir.metrics.write_text('{"step": 1}\n\x00\x00garbage\n[1, 2]\n' + metric_line(2, 0.0, {"loss": 0.25}))
    Tailer(claim, run_dir).read()
    assert losses() == {2: 0.25}
    assert IngestPosition.objects.get().bad_lines == 3


def test_not_a_number_is_kept(claim: Claim, run_dir: RunDir) -> None:
    run_dir.metrics.write_text(metric_line(1, 0.0, {"loss": math.nan}) + metric_line(2, 0.0, {"loss": math.inf}))
    Tailer(claim, run_dir).read()
    series = MetricSeries.objects.get(key="loss")
    assert (series.count, series.not_finite) == (2, 2)
    assert math.isnan(losses()[1])


def test_a_supervisor_that_dies_before_its_commit_leaves_nothing(claim: Claim, run_dir: RunDir) -> None:
    write(run_dir, 1, 2)
    tailer = Tailer(claim, run_dir)
    with transaction.atomic():
        tailer.read()
        transaction.set_rollback(True)
    assert losses() == {}
    write(run_dir, 3)
    Tailer(claim, run_dir).read()
    assert set(losses()) == {1, 2, 3}
    assert MetricSeries.objects.get(key="loss").count == 3


def test_steps_repeated_after_a_resume_count_once(claim: Claim, run_dir: RunDir) -> None:
    write(run_dir, 1, 2, 3, 4)
    Tailer(claim, run_dir).read()
    write(run_dir, 3, 4, 5, extra=1.0)
    Tailer(claim, run_dir).read()
    assert set(losses()) == {1, 2, 3, 4, 5}
    assert MetricSeries.objects.get(key="loss").count == 5
    assert MetricSeries.objects.get(key="extra").count == 3


def test_a_lost_lease_stores_nothing(claim: Claim, run_dir: RunDir) -> None:
    write(run_dir, 1)
    Run.objects.update(lease_epoch=claim.epoch + 1)
    with pytest.raises(LeaseLost):
        Tailer(claim, run_dir).read()
    assert losses() == {}
    assert not IngestPosition.objects.exists()


def test_what_people_ask_comes_back_with_the_reading(claim: Claim, run_dir: RunDir) -> None:
    Run.objects.update(status=Status.STOPPING)
    assert Tailer(claim, run_dir).read().status == Status.STOPPING


def test_samples_arrive_once_with_their_extras(claim: Claim, run_dir: RunDir) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "prompt": "2 + 3?", "completion": "six", "reference": "5"},
        {"step": 5, "prompt": "2 + 3?", "completion": "5\0", "reference": "5"},
        {"step": 6, "prompt": "2 + 3?", "completion": "5", "rewards": {"math": None}, "reward": None, "advantage": 0.0},
    ]
    with run_dir.samples.open("a") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    for _ in range(2):
        Tailer(claim, run_dir).read()
    found = list(RunSample.objects.order_by("offset"))
    assert [(one.step, one.completion, one.is_rollout, one.data) for one in found] == [
        (0, "six", False, {"reference": "5"}),
        (5, "5", False, {"reference": "5"}),
        (6, "5", True, {"rewards": {"math": None}, "reward": None, "advantage": 0.0}),
    ]


def test_the_log_is_stored_in_order_and_bytes_that_are_no_text_do_no_harm(claim: Claim, run_dir: RunDir) -> None:
    tailer = Tailer(claim, run_dir)
    run_dir.log.write_bytes(b"first\nsecond \xff\0\nhalf")
    tailer.read()
    with run_dir.log.open("ab") as file:
        file.write(b" a line\n")
    tailer.read()
    text = "".join(RunLog.objects.order_by("offset").values_list("text", flat=True))
    assert text == "first\nsecond \N{REPLACEMENT CHARACTER}\nhalf a line\n"


def test_a_run_that_moved_to_another_machine_keeps_what_it_had(claim: Claim, run_dir: RunDir) -> None:
    write(run_dir, 1, 2)
    run_dir.log.write_text("here\n")
    run_dir.samples.write_text('{"step": 0, "prompt": "p", "completion": "a"}\n')
    Tailer(claim, run_dir).read()
    for path in (run_dir.metrics, run_dir.log, run_dir.samples):
        path.unlink()
    moved = Tailer(claim, run_dir)
    moved.start_fresh()
    write(run_dir, 2, 3)
    run_dir.log.write_text("there\n")
    run_dir.samples.write_text('{"step": 2, "prompt": "p", "completion": "b"}\n')
    moved.read()
    assert set(losses()) == {1, 2, 3}
    assert "".join(RunLog.objects.order_by("offset").values_list("text", flat=True)) == "here\nthere\n"
    assert list(RunSample.objects.order_by("offset").values_list("completion", flat=True)) == ["a", "b"]


def test_a_line_longer_than_a_piece_is_read_whole(
    claim: Claim, run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.tailer.PIECE", 64)
    write(run_dir, 1, **{f"key/{number}": 0.5 for number in range(40)})
    Tailer(claim, run_dir).read()
    assert MetricSeries.objects.count() == 41


def test_metrics_that_lost_their_end_are_read_again(claim: Claim, run_dir: RunDir) -> None:
    """As after a power failure: the run goes on from a checkpoint and writes other values where lines were lost."""
    tailer = Tailer(claim, run_dir)
    write(run_dir, 1, 2, 3, 4)
    tailer.read()
    lines = run_dir.metrics.read_text().splitlines(keepends=True)
    run_dir.metrics.write_text("".join(lines[:2]))
    for step in (3, 4, 5):
        with run_dir.metrics.open("a") as file:
            file.write(metric_line(step, 1_700_000_100.0 + step, {"loss": 9.0, "longer_than_it_was": 0.0}))
    tailer.read()
    assert losses() == {1: 1 / 2, 2: pytest.approx(1 / 3), 3: 9.0, 4: 9.0, 5: 9.0}


@pytest.mark.parametrize("step", ['"two"', "null", "1.5", "-1", str(2**70)])
def test_a_sample_without_a_usable_step_is_counted_and_passed_over(claim: Claim, run_dir: RunDir, step: str) -> None:
    good = '{"step": 3, "prompt": "p", "completion": "good"}'
    run_dir.samples.write_text(f'{{"step": {step}, "prompt": "p", "completion": "bad"}}\n{good}\n')
    Tailer(claim, run_dir).read()
    assert [sample.completion for sample in RunSample.objects.all()] == ["good"]
    assert IngestPosition.objects.get().bad_lines == 1


def test_what_postgres_cannot_hold_of_a_sample_is_left_out(claim: Claim, run_dir: RunDir) -> None:
    """One such value would keep all that comes after it out of the database."""
    values = r'"reward": NaN, "advantage": -Infinity, "rewards": {"a\u0000": 1e999, "b": 1' + "0" * 400 + "}"
    texts = r'"prompt": "half \ud800", "completion": "nul \u0000", "turns": [{"content": "\u0000\udc00"}]'
    run_dir.samples.write_text(f'{{"step": 1, {texts}, {values}, "raw": true}}\n')
    Tailer(claim, run_dir).read()
    sample = RunSample.objects.get()
    assert (sample.prompt, sample.completion) == ("half ?", "nul ")
    assert sample.data["rewards"] == {"a": None, "b": None}
    assert sample.data["turns"] == [{"content": "?"}]
    assert sample.data["raw"] is True
    assert sample.reward is sample.advantage is None


def test_samples_and_log_that_lost_their_end_go_on(claim: Claim, run_dir: RunDir) -> None:
    tailer = Tailer(claim, run_dir)
    sample = json.dumps({"step": 1, "prompt": "a", "completion": "b"}) + "\n"
    run_dir.samples.write_text(sample * 2)
    run_dir.log.write_text("one\ntwo\n")
    tailer.read()
    run_dir.samples.write_text(sample + sample[:5])
    run_dir.log.write_text("one\n")
    tailer.read()
    run_dir.samples.write_text(sample + sample.replace('"b"', '"new"'))
    with run_dir.log.open("a") as log:
        log.write("three\n")
    tailer.read()
    assert list(RunSample.objects.order_by("offset").values_list("completion", flat=True)) == ["b", "b", "new"]
    assert [piece.text for piece in RunLog.objects.order_by("offset")] == ["one\ntwo\n", "three\n"]


def test_points_whose_lines_are_lost_are_kept(claim: Claim, run_dir: RunDir) -> None:
    """The checkpoint that a run resumes from may be newer than the last line that is left."""
    tailer = Tailer(claim, run_dir)
    write(run_dir, 1, 2, 3, 4)
    tailer.read()
    lines = run_dir.metrics.read_text().splitlines(keepends=True)
    run_dir.metrics.write_text(lines[0] + lines[1][:-7])
    tailer.read()
    run_dir.metrics.write_text(lines[0])
    write(run_dir, 5)
    tailer.read()
    assert sorted(losses()) == [1, 2, 3, 4, 5]
