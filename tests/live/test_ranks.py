"""A run of two processes under a supervisor: a rank that is killed takes the run back to its last checkpoint."""

import json

import psutil
import pytest

from tests.support.studio import RunningStudio

pytestmark = pytest.mark.live


@pytest.mark.timeout(600)
def test_a_killed_rank_has_the_run_retried_from_its_checkpoint(
    studio: RunningStudio, tiny: str, conversations: str
) -> None:
    config = {"max_steps": 120, "save_steps": 10, "eval_steps": 0, "batch_size": 2, "max_length": 256, "processes": 2}
    pk = studio.launch(method="sft", model=tiny, dataset=conversations, config={**config, "generation": {"samples": 0}})
    studio.wait_for_step(pk, 25, seconds=240)
    keeper = psutil.Process(json.loads(studio.run_dir(pk).joinpath("child.json").read_text())["pid"])
    (launcher,) = keeper.children()
    ranks = launcher.children()
    assert len(ranks) == 2
    ranks[1].kill()
    run = studio.wait_for_run(pk, seconds=300)
    assert (run["status"], run["step"]) == ("succeeded", 120), run["error"]
    assert not any(rank.is_running() for rank in ranks)
    log = studio.api.get(f"/runs/{pk}/logs").json()["text"]
    assert "process 2 of 2 was ended by SIGKILL" in log
    assert "Resuming from step-" in log
    assert log.count("step 1 of 120:") == 1
    assert studio.points(pk, "loss")["step"] == list(range(1, 121))
