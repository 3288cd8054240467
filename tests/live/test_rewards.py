"""Rewards tried by the real worker: verifiers, and a model that judges."""

import json
from typing import Any

import pytest

from tests.support.studio import RunningStudio

pytestmark = pytest.mark.live

SUMS = "".join(json.dumps({"prompt": f"{n} + 1 =", "answer": str(n + 1)}) + "\n" for n in range(12)).encode()


def test_rewards_are_tried_and_pinned(studio: RunningStudio, tiny: str) -> None:
    dataset = studio.upload("sums to judge", "sums.jsonl", SUMS)["id"]
    asked = {"dataset": dataset, "rewards": {"math": 1, "judge": 0.5}, "judge_model": tiny, "most": 12}
    answer = studio.api.post("/reward-trials", json=asked)
    assert answer.status_code == 201, answer.text
    pk = answer.json()["id"]

    def ended() -> dict[str, Any] | None:
        trial: dict[str, Any] = studio.api.get(f"/reward-trials/{pk}").json()
        return trial if trial["status"] in ("done", "failed") else None

    trial = studio.wait_for(ended, 120, "the trial")
    assert trial["status"] == "done", trial["error"]
    right, judged = trial["report"]["rewards"]
    assert (right["mean"], right["judged"]) == (1.0, 12)
    assert (judged["judged"], judged["problem"]) == (12, "")
    assert judged["std"] > 0
    rows = studio.api.get(f"/reward-trials/{pk}/rows", params={"order": "place"}).json()["items"]
    assert [row["completion"] for row in rows] == [str(n + 1) for n in range(12)]
    pinned = studio.api.post("/reward-lists", json={"name": "sums", "trial": pk}).json()
    assert (pinned["version"], pinned["judge_model"]) == (1, tiny)
