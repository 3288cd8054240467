"""A whole sweep through real workers: trials follow each other by themselves, and their losses are what runs logged."""

import pytest

from tests.support.studio import RunningStudio

pytestmark = pytest.mark.live

SHORT = {"max_steps": 2, "batch_size": 2, "max_length": 128, "eval_steps": 2, "eval_rows": 2, "save_steps": 0}


@pytest.mark.timeout(600)
def test_three_trials_end_by_themselves_with_the_losses_that_their_runs_logged(
    studio: RunningStudio, tiny: str, conversations: str
) -> None:
    body = {
        "method": "sft",
        "model": tiny,
        "dataset": conversations,
        "config": {**SHORT, "generation": {"samples": 0}},
        "space": {"learning_rate": {"min": 1e-5, "max": 1e-2, "log": True}, "lr_scheduler": ["linear", "cosine"]},
        "metric": "eval/loss",
        "max_trials": 3,
        "prune": True,
    }
    answer = studio.api.post("/sweeps", json=body)
    assert answer.status_code == 201, answer.text
    place = f"/sweeps/{answer.json()['id']}"

    def finished() -> dict | None:
        found = studio.api.get(place).json()
        assert found["state"] in {"running", "finished"}, found
        assert found["running"] <= 1
        return found if found["state"] == "finished" else None

    done = studio.wait_for(finished, 500, "the sweep to be finished")
    trials = studio.api.get(f"{place}/trials").json()["items"]
    assert [one["state"] for one in trials] == ["done"] * 3
    for trial in trials:
        run = studio.run(trial["run"])
        assert run["config"]["learning_rate"] == trial["params"]["learning_rate"]
        assert run["config"]["lr_scheduler"] == trial["params"]["lr_scheduler"]
        assert run["summary"]["eval/loss"]["last"] == trial["value"]
    assert len({trial["params"]["learning_rate"] for trial in trials}) == 3
    assert done["best"]["value"] == min(trial["value"] for trial in trials)
