"""Runs of several processes: they train as one, end as one, and none is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from polm_core.formats import Format
from polm_core.ranks import run_ranks
from polm_core.run import EXIT_CRASHED, EXIT_FAILED, execute
from polm_core.run_dir import Outcome, Result, RunDir, Wish
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support import tiny
from tests.support.warm import start_warm

pytestmark = [pytest.mark.train, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]

TOGETHER = {"batch_size": 2, "processes": 2, "devices": "cpu"}
ALONE = {"batch_size": 2, "gradient_accumulation_steps": 2, "devices": "cpu"}
LONG = {**TOGETHER, "max_steps": 100_000, "eval_steps": 0, "save_steps": 10}


@contextmanager
def started(run_dir: RunDir) -> Iterator[ForkServerProcess]:
    """A process that carries out a run."""
    process = start_warm(run_dir)
    try:
        yield process
    finally:
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()


def end_of(process: ForkServerProcess) -> int | None:
    """Wait for a process; returns its exit code."""
    process.join()
    return process.exitcode


def carry_out(run_dir: RunDir) -> int | None:
    with started(run_dir) as process:
        return end_of(process)


def ranks_of(process: ForkServerProcess, run_dir: RunDir, *, steps: int = 12) -> list[psutil.Process]:
    """The processes of a run that has trained some steps."""
    while not run_dir.metrics.exists() or run_dir.metrics.read_text().count('"loss"') < steps:
        assert process.is_alive(), run_dir.log.read_text()
        time.sleep(0.05)
    found = psutil.Process(process.pid).children()
    assert len(found) == 2
    return found


def result_of(run_dir: RunDir) -> Result:
    result = run_dir.read_result()
    assert result is not None, run_dir.log.read_text()
    return result


def assert_each_line_once(run_dir: RunDir) -> None:
    """One process alone writes: no step is logged twice, and no line is torn."""
    lines = [json.loads(line) for line in run_dir.metrics.read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line["values"]]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(("method", "format"), [("sft", Format.CONVERSATION), ("dpo", Format.PREFERENCE)])
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_two_train_as_one(make_run: MakeRun, method: str, format: Format, adapter: str) -> None:
    settings: dict[str, Any] = {"format": format, "adapter": {"type": adapter}, "max_steps": 5}
    one = make_run(method, name="one", **ALONE, **settings)
    two = make_run(method, name="two", **TOGETHER, **settings)
    assert carry_out(one) == carry_out(two) == 0, two.log.read_text()
    assert result_of(two).outcome is Outcome.SUCCEEDED
    for key in ("loss", "grad_norm", "eval/loss"):
        assert points(two, key) == pytest.approx(points(one, key), rel=1e-3), key
    assert points(two, "num_tokens") == points(one, "num_tokens")
    assert len(samples(two)) == len(samples(one)) > 0
    assert_each_line_once(two)
    (_, manifest) = next(two.complete_checkpoints())
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(manifest.trainer_state)


def test_two_learn_from_a_teacher_and_from_answers_of_their_own(make_run: MakeRun) -> None:
    run_dir = make_run("distill", **TOGETHER, on_policy=1, max_steps=3, eval_steps=0)
    assert carry_out(run_dir) == 0, run_dir.log.read_text()
    assert_each_line_once(run_dir)
    assert points(run_dir, "completions/mean_length").keys() == {1, 2, 3}
    assert points(run_dir, "eval/teacher_kl").keys() == {0, 3}


def test_ranks_that_start_cold_train_too(make_run: MakeRun) -> None:
    """As they do where there are GPUs."""
    run_dir = make_run("sft", **{**TOGETHER, "max_steps": 2})
    assert run_ranks(execute, run_dir.root, 2, start="spawn") == ""
    assert result_of(run_dir).outcome is Outcome.SUCCEEDED
    assert_each_line_once(run_dir)


def test_a_paused_run_of_two_goes_on_to_the_same_end(make_run: MakeRun) -> None:
    settings: dict[str, Any] = {**TOGETHER, "max_steps": 60, "eval_steps": 0, "save_steps": 0}
    settings["neftune_noise_alpha"] = 5  # so that the random states matter
    whole = make_run("sft", name="whole", **settings)
    assert carry_out(whole) == 0
    part = make_run("sft", name="part", **settings)
    with started(part) as process:
        ranks_of(process, part, steps=3)
        part.ask(Wish.PAUSE)
        assert end_of(process) == 0
    assert result_of(part).outcome is Outcome.PAUSED
    paused_at = part.last_checkpoint()
    assert paused_at is not None
    assert paused_at != part.checkpoint(60)
    going_on = make_run("sft", name="part", rows=tiny.conversations(24), spec={"resume": str(paused_at)}, **settings)
    going_on.ask(Wish.RUN)
    assert carry_out(going_on) == 0, going_on.log.read_text()
    assert points(going_on, "loss") == points(whole, "loss")
    assert_each_line_once(going_on)


def test_a_wish_to_stop_ends_both(make_run: MakeRun) -> None:
    run_dir = make_run("sft", **LONG)
    with started(run_dir) as process:
        ranks = ranks_of(process, run_dir)
        run_dir.ask(Wish.STOP)
        assert end_of(process) == 0
    assert result_of(run_dir).outcome is Outcome.STOPPED
    assert [m.step for _, m in run_dir.complete_checkpoints()][-1] == max(points(run_dir, "loss"))
    assert not any(rank.is_running() for rank in ranks)


def test_a_stop_before_training_ends_both(make_run: MakeRun) -> None:
    run_dir = make_run("sft", **LONG)
    run_dir.ask(Wish.STOP)
    assert carry_out(run_dir) == 0
    assert result_of(run_dir).outcome is Outcome.STOPPED


def test_a_terminated_run_of_two_is_saved(make_run: MakeRun) -> None:
    run_dir = make_run("sft", **LONG)
    with started(run_dir) as process:
        ranks_of(process, run_dir)
        process.terminate()
        assert end_of(process) == 0
    result = result_of(run_dir)
    assert result.outcome is Outcome.PAUSED
    assert result.error is not None
    assert result.error["code"] == "preempted"
    assert [m.step for _, m in run_dir.complete_checkpoints()][-1] == max(points(run_dir, "loss"))


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_crashes_the_run_as_a_whole(make_run: MakeRun, killed: int) -> None:
    run_dir = make_run("sft", **LONG)
    with started(run_dir) as process:
        ranks = ranks_of(process, run_dir)
        ranks[killed].kill()
        assert end_of(process) == EXIT_CRASHED
    result = result_of(run_dir)
    assert result.outcome is Outcome.CRASHED
    assert f"process {killed + 1} of 2 was ended by SIGKILL" in result.error["message"]  # type: ignore[index]
    assert not any(rank.is_running() for rank in ranks)
    assert run_dir.last_checkpoint() is not None


def test_no_rank_outlives_the_process_that_started_it(make_run: MakeRun) -> None:
    run_dir = make_run("sft", **LONG)
    with started(run_dir) as process:
        ranks = ranks_of(process, run_dir)
        process.kill()
        process.join()
        psutil.wait_procs(ranks, timeout=10)
        assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks)


def test_what_cannot_run_fails_with_its_reason_in_two_as_well(make_run: MakeRun) -> None:
    run_dir = make_run("sft", max_length=8, **TOGETHER)
    assert carry_out(run_dir) == EXIT_FAILED
    assert result_of(run_dir).error["code"] == "data.untrained"  # type: ignore[index]


def test_a_full_disk_of_one_rank_is_the_run_s_reason(make_run: MakeRun, tmp_path: Path) -> None:
    """The limit on file size stands in for a full disk, and meets the second rank alone."""
    run_dir = make_run("sft", **TOGETHER)
    script = tmp_path / "limited.py"
    script.write_text(
        "import os, resource, sys\nfrom pathlib import Path\nimport polm_core.run as run\n"
        "execute = run.execute\n"
        "def limited(root):\n"
        "    if os.environ.get('RANK') == '1': resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "    return execute(root)\n"
        "run.execute = limited\nsys.exit(limited(Path(sys.argv[1])))\n"
    )
    with run_dir.log.open("ab") as log:
        env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        code = subprocess.run([sys.executable, script, str(run_dir.root)], stdout=log, stderr=log, env=env, check=False)
    assert code.returncode == EXIT_FAILED, run_dir.log.read_text()
    assert result_of(run_dir).error["code"] == "resource.disk"  # type: ignore[index]
    assert list(run_dir.complete_checkpoints()) == []
