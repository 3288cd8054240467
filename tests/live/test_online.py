"""Methods that learn from rewards, by the real worker: rollouts in the API, and a run that stops and goes on."""

from typing import Any

import pytest

from polm_core.data.samples import write_samples
from polm_core.formats import Format
from tests.support.studio import RunningStudio

pytestmark = pytest.mark.live

SHORT: dict[str, Any] = {
    "batch_size": 4,
    "learning_rate": 1e-3,
    "max_completion_length": 8,
    "eval_steps": 0,
    "eval_rows": 4,
    "logged_prompts": 2,
    "generation": {"samples": 0},
    "rewards": {"math": 1, "length": 0.5, "length_max": 10},
}


@pytest.fixture(scope="module")
def prompts(studio: RunningStudio, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of the sample dataset of prompts with answers, as a user uploads it."""
    path = write_samples(tmp_path_factory.mktemp("samples"))[Format.PROMPT_ANSWER]
    dataset = studio.upload("sums", path.name, path.read_bytes())
    assert (dataset["status"], dataset["format"]) == ("ready", "prompt-answer")
    return dataset["id"]  # type: ignore[no-any-return]


def test_rollouts_of_rloo_reach_the_api(studio: RunningStudio, tiny: str, prompts: str) -> None:
    config = {**SHORT, "max_steps": 4, "num_generations": 2}
    pk = studio.launch(method="rloo", model=tiny, dataset=prompts, config=config)
    run = studio.wait_for_run(pk, seconds=200)
    assert run["status"] == "succeeded", run["error"]
    assert {"reward", "reward/math", "reward/length", "eval/reward", "kl"} <= set(run["summary"])
    assert studio.points(pk, "reward")["total_points"] == 4
    rollouts = rollouts_of(studio, pk)
    assert sorted(rollout["step"] for rollout in rollouts) == [step for step in (1, 2, 3, 4) for _ in range(4)]
    for rollout in rollouts:
        parts, data = rollout["data"]["rewards"], rollout["data"]
        assert rollout["prompt"]
        assert data["reward"] == pytest.approx((parts["math"] or 0) + 0.5 * parts["length"], abs=1e-5)
        assert isinstance(data["advantage"], float)


def test_ppo_stops_between_two_steps_on_the_same_answers_and_goes_on(
    studio: RunningStudio, tiny: str, prompts: str
) -> None:
    config = {**SHORT, "max_steps": 2_000, "ppo_epochs": 100, "mini_batches": 5}
    pk = studio.launch(method="ppo", model=tiny, dataset=prompts, config=config)
    studio.wait_for_step(pk, 3)
    assert studio.api.post(f"/runs/{pk}/pause").status_code == 200
    paused = studio.wait_for_run(pk, "paused", seconds=200)
    step = paused["step"]
    assert 3 <= step < 500
    assert studio.api.post(f"/runs/{pk}/resume").status_code == 200
    studio.wait_for_step(pk, step + 2)
    studio.api.post(f"/runs/{pk}/stop")
    assert studio.wait_for_run(pk, "stopped", seconds=200)["step"] > step
    assert {rollout["step"] for rollout in rollouts_of(studio, pk)} == {1}
    assert studio.points(pk, "loss/value")["total_points"] == studio.run(pk)["step"]


def test_test_time_scaling_goes_on_with_the_answers_that_it_has(studio: RunningStudio, tiny: str, prompts: str) -> None:
    config = {"num_samples": 4, "batch_size": 4, "max_completion_length": 128}
    pk = studio.launch(method="test-time-scaling", model=tiny, dataset=prompts, config=config)
    studio.wait_for_step(pk, 2)
    assert studio.api.post(f"/runs/{pk}/pause").status_code == 200
    paused = studio.wait_for_run(pk, "paused", seconds=200)
    assert 2 <= paused["step"] < paused["total_steps"]
    first = studio.points(pk, "prompts")["mean"][0]
    assert first >= paused["step"], "what was answered is counted"
    assert studio.api.post(f"/runs/{pk}/resume").status_code == 200
    run = studio.wait_for_run(pk, seconds=300)
    assert run["status"] == "succeeded", run["error"]
    assert run["step"] == run["total_steps"] == studio.points(pk, "prompts")["mean"][0] > first
    assert studio.points(pk, "accuracy/majority")["step"] == [1, 2, 4]
    assert studio.points(pk, "accuracy/majority/high")["step"] == [1, 2, 4]
    assert studio.api.get(f"/runs/{pk}/checkpoints").json()["items"] == []


def rollouts_of(studio: RunningStudio, pk: str) -> list[dict[str, Any]]:
    answer = studio.api.get(f"/runs/{pk}/samples", params={"rollouts": True, "limit": 100})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]  # type: ignore[no-any-return]
