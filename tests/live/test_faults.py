"""Killing what works on a run: the run ends well and every logged point is stored once."""

import json
import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.studio import RunningStudio

pytestmark = pytest.mark.live

SLOW = {
    "max_steps": 120,
    "batch_size": 2,
    "max_length": 256,
    "logging_steps": 1,
    "save_steps": 10,
    "eval_steps": 60,
    "generation": {"samples": 0},
}


def _launch(studio: RunningStudio, tiny: str, conversations: str, **config: object) -> str:
    return studio.launch(method="sft", model=tiny, dataset=conversations, config={**SLOW, **config})


def _assert_each_point_once(studio: RunningStudio, pk: str) -> None:
    """The points of every series are the last line written for each of its steps."""
    written: dict[str, dict[int, float]] = {}
    for line in studio.run_dir(pk).joinpath("metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for key, value in record["values"].items():
            written.setdefault(key, {})[record["step"]] = value
    summary = studio.run(pk)["summary"]
    assert set(summary) == set(written)
    for key, values in written.items():
        assert summary[key]["count"] == len(values), key
    loss = studio.points(pk, "loss")
    assert loss["step"] == sorted(written["loss"])
    assert loss["mean"] == pytest.approx([written["loss"][step] for step in loss["step"]], rel=1e-4)


def test_killed_worker_loses_nothing(studio: RunningStudio, tiny: str, conversations: str) -> None:
    pk = _launch(studio, tiny, conversations)
    studio.wait_for_step(pk, 15)
    worker = _process(studio.var, "worker-runs")
    os.killpg(worker.pid, signal.SIGKILL) if os.getpgid(worker.pid) == worker.pid else worker.kill()
    run = studio.wait_for_run(pk, seconds=180)
    assert run["status"] == "succeeded", run["error"]
    _assert_each_point_once(studio, pk)


def test_killed_training_process_goes_on_from_its_checkpoint(
    studio: RunningStudio, tiny: str, conversations: str
) -> None:
    pk = _launch(studio, tiny, conversations)
    studio.wait_for_step(pk, 25)
    keeper = psutil.Process(json.loads(studio.run_dir(pk).joinpath("child.json").read_text())["pid"])
    keeper.children()[0].kill()
    run = studio.wait_for_run(pk, seconds=180)
    assert run["status"] == "succeeded", run["error"]
    assert run["step"] == 120
    log = studio.api.get(f"/runs/{pk}/logs").json()["text"]
    assert re.search(r"ended by signal 9\. Resuming from step-[2-9]0\.", log)
    assert log.count("step 1 of 120:") == 1
    (at,) = run["resumed_from"]
    assert f"Resuming from step-{at}." in log
    assert studio.api.get(f"/runs/{pk}/metrics/loss").json()["resumed_from"] == [at]
    _assert_each_point_once(studio, pk)


def test_pause_resume_stop(studio: RunningStudio, tiny: str, conversations: str) -> None:
    pk = _launch(studio, tiny, conversations, max_steps=400)
    studio.wait_for_step(pk, 5)
    assert studio.api.post(f"/runs/{pk}/pause").status_code == 200
    paused = studio.wait_for_run(pk, "paused")
    at = paused["step"]
    assert studio.api.post(f"/runs/{pk}/resume").status_code == 200
    studio.wait_for_step(pk, at + 5)
    assert studio.api.post(f"/runs/{pk}/stop").status_code == 200
    stopped = studio.wait_for_run(pk, "stopped")
    assert at < stopped["step"] < 400
    steps = [one["step"] for one in studio.api.get(f"/runs/{pk}/checkpoints").json()["items"]]
    assert stopped["step"] in steps
    assert studio.api.post(f"/runs/{pk}/stop").status_code == 409
    _assert_each_point_once(studio, pk)


def test_bad_data_fails_with_advice(studio: RunningStudio, tiny: str) -> None:
    """A held-out set that leaves nothing to train on is a failure that says so, not a crash."""
    one_row = b'{"instruction": "a", "input": "", "output": "b"}\n'
    dataset = studio.upload("single row", "single.jsonl", one_row)
    pk = studio.launch(method="sft", model=tiny, dataset=dataset["id"], config={"max_steps": 2, "max_length": 8})
    run = studio.wait_for_run(pk)
    assert run["status"] == "failed"
    assert run["error"]["message"]
    assert run["error"]["advice"]


def _process(var: Path, name: str) -> psutil.Process:
    """The running program of that name, as the studio recorded it."""
    record = next((var / "studio").rglob(f"{name}*.json"), None) or next((var / "studio").rglob(f"{name}*"))
    return psutil.Process(json.loads(record.read_text())["pid"])
