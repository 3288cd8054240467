"""Training and light work do not wait for each other."""

import json

import pytest

from tests.support.lookalikes import alpaca
from tests.support.studio import RunningStudio

pytestmark = [pytest.mark.live, pytest.mark.alone]

LONG = {"max_steps": 2_000, "batch_size": 2, "max_length": 256, "eval_steps": 0, "generation": {"samples": 0}}
MANY_ROWS = 400_000


def test_light_work_goes_on_beside_training(studio: RunningStudio, tiny: str, conversations: str) -> None:
    pk = studio.launch(method="sft", model=tiny, dataset=conversations, config=LONG)
    studio.wait_for_step(pk, 5)
    assert studio.upload("beside a run", "beside.json", alpaca(50))["status"] == "ready"
    report = studio.api.post("/runs/preflight", json={"method": "sft", "model": tiny, "dataset": conversations})
    assert report.status_code == 200, report.text
    run = studio.run(pk)
    assert (run["status"], run["step"] < run["total_steps"]) == ("running", True)
    studio.api.post(f"/runs/{pk}/stop")
    studio.wait_for_run(pk, "stopped")


def test_training_starts_beside_light_work(studio: RunningStudio, tiny: str, conversations: str) -> None:
    lines = "".join(
        json.dumps({"prompt": f"What is {n}?", "completion": f"It is {n}."}) + "\n" for n in range(MANY_ROWS)
    )
    answer = studio.api.post("/datasets", files={"file": ("many.jsonl", lines)}, data={"name": "many rows"})
    assert answer.status_code == 201, answer.text
    pk = studio.launch(method="sft", model=tiny, dataset=conversations, config=LONG)
    studio.wait_for_step(pk, 1)
    assert studio.api.get(f"/datasets/{answer.json()['id']}").json()["status"] == "processing"
    studio.api.post(f"/runs/{pk}/stop")
    studio.wait_for_run(pk, "stopped")
    studio.wait_for(
        lambda: studio.api.get(f"/datasets/{answer.json()['id']}").json()["status"] == "ready", 240, "the many rows"
    )
