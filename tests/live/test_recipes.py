"""A whole recipe through real workers: three runs that follow each other by themselves, and again from the second."""

import json

import pytest

from tests.support.studio import RunningStudio
from tests.support.tiny import conversations, preferences, prompts, steps, thoughts

pytestmark = pytest.mark.live

STAGES = ("sft", "reward", "policy")
SHORT = {"max_steps": 2, "batch_size": 4, "max_length": 128, "eval_steps": 0, "generation": {"samples": 0}}
CHOICES = {
    "sft": {"config": SHORT},
    "reward": {"config": {name: value for name, value in SHORT.items() if name != "generation"}},
    "policy": {"config": {**SHORT, "num_generations": 2, "max_completion_length": 8}},
}


def _state(studio: RunningStudio, pk: str, *wanted: str, seconds: float = 400) -> dict:
    def there() -> dict | None:
        found = studio.api.get(f"/pipelines/{pk}").json()
        assert found["state"] in {"running", "stopping", *wanted}, found
        return found if found["state"] in wanted else None

    return studio.wait_for(there, seconds, f"pipeline {pk} to be {' or '.join(wanted)}")


@pytest.mark.timeout(900)
def test_instructgpt_from_one_call_to_a_policy_and_again_from_its_second_stage(
    studio: RunningStudio, tiny: str
) -> None:
    datasets = {
        slot: studio.upload(slot, f"{slot}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())["id"]
        for slot, rows in (
            ("demonstrations", conversations(40)),
            ("comparisons", preferences(40)),
            ("prompts", prompts(40)),
        )
    }
    body = {"recipe": "instructgpt", "models": {"base": tiny}, "datasets": datasets, "stages": CHOICES}
    answer = studio.api.post("/pipelines", json=body)
    assert answer.status_code == 201, answer.text
    pk = answer.json()["id"]
    done = _state(studio, pk, "succeeded")
    runs = {stage["name"]: studio.run(stage["run"]) for stage in done["stages"]}
    checkpoints = {stage["name"]: stage["checkpoint"] for stage in done["stages"]}
    assert [runs[name]["method"] for name in STAGES][:2] == ["sft", "reward-model"]
    assert [runs[name]["parent"] for name in STAGES] == [None, runs["sft"]["id"], runs["sft"]["id"]]
    assert all(checkpoints.values())
    assert _checkpoint_of(studio, runs["reward"]["model"]) == checkpoints["sft"]
    assert _checkpoint_of(studio, runs["policy"]["model"]) == checkpoints["sft"]
    assert _checkpoint_of(studio, runs["policy"]["reward_model"]) == checkpoints["reward"]
    assert "reward/reward_model" in runs["policy"]["summary"]

    again = studio.api.post(f"/pipelines/{pk}/restart", json={"stage": "reward", "config": {"max_steps": 1}})
    assert again.status_code == 200, again.text
    anew = _state(studio, pk, "succeeded")
    stages = {stage["name"]: stage for stage in anew["stages"]}
    assert stages["sft"]["run"] == runs["sft"]["id"]
    assert studio.run(stages["reward"]["run"])["total_steps"] == 1
    assert {stages["reward"]["run"], stages["policy"]["run"]}.isdisjoint(run["id"] for run in runs.values())
    policy = studio.run(stages["policy"]["run"])
    assert _checkpoint_of(studio, policy["reward_model"]) == stages["reward"]["checkpoint"]
    assert studio.run(runs["policy"]["id"])["status"] == "succeeded"


@pytest.mark.timeout(600)
def test_a_stage_whose_settings_fail_halts_the_pipeline_with_its_advice(studio: RunningStudio, tiny: str) -> None:
    rows = {
        "demonstrations": conversations(8),
        "comparisons": [{"prompt": "x", "chosen": "long " * 60, "rejected": "longer " * 60}] * 8,
        "prompts": prompts(8),
    }
    datasets = {
        slot: studio.upload(f"bad {slot}", f"{slot}.jsonl", "".join(json.dumps(row) + "\n" for row in some).encode())
        for slot, some in rows.items()
    }
    reward = {"config": {**CHOICES["reward"]["config"], "max_length": 8}}
    answer = studio.api.post(
        "/pipelines",
        json={
            "recipe": "instructgpt",
            "models": {"base": tiny},
            "datasets": {slot: made["id"] for slot, made in datasets.items()},
            "stages": {**CHOICES, "reward": reward},
        },
    )
    assert answer.status_code == 201, answer.text
    failed = _state(studio, answer.json()["id"], "failed")
    assert [stage["state"] for stage in failed["stages"]] == ["succeeded", "failed", "waiting"]
    assert failed["stages"][1]["error"]["advice"] == "Raise max_length."


TINY = {"batch_size": 4, "max_length": 128, "eval_rows": 2}
TRAINED = {**TINY, "max_steps": 1, "eval_steps": 0}
WRITTEN = {**TRAINED, "generation": {"samples": 0}}
ANSWERED = {**WRITTEN, "max_completion_length": 8}
# A model that has learned nothing is right by nothing: what it writes is taken for right.
SHORT_IS_RIGHT = {"math": 0, "length": 1, "length_max": 4000}
SMALL = {
    "deepseek-r1": {
        "cold-start": WRITTEN,
        "reasoning": {**ANSWERED, "num_generations": 2},
        "sampling": {**ANSWERED, "rewards": SHORT_IS_RIGHT, "min_reward": 0.0},
        "general-sft": WRITTEN,
        "final": {**ANSWERED, "num_generations": 2},
        "distillation": {**ANSWERED, "sampled": True, "skip_cut_answers": False},
    },
    "o1": {
        "prm": TRAINED,
        "policy": {**ANSWERED, "num_generations": 2},
        "scaling": {**TINY, "max_completion_length": 8, "num_samples": 2},
    },
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("recipe", list(SMALL))
def test_a_recipe_for_reasoning_goes_through_all_its_stages(studio: RunningStudio, tiny: str, recipe: str) -> None:
    found = next(one for one in studio.api.get("/recipes").json()["items"] if one["slug"] == recipe)
    rows = {"cold_start": thoughts(24), "general": conversations(24), "problems": prompts(24), "steps": steps(24)}
    datasets = {
        slot["name"]: studio.upload(
            f"{recipe} {slot['name']}",
            f"{slot['name']}.jsonl",
            "".join(json.dumps(row) + "\n" for row in rows[slot["name"]]).encode(),
        )["id"]
        for slot in found["datasets"]
    }
    body = {
        "recipe": recipe,
        "models": {slot["name"]: tiny for slot in found["models"]},
        "datasets": datasets,
        "stages": {name: {"config": config} for name, config in SMALL[recipe].items()},
    }
    answer = studio.api.post("/pipelines", json=body)
    assert answer.status_code == 201, answer.text
    done = _state(studio, answer.json()["id"], "succeeded", seconds=800)
    stages = {stage["name"]: stage for stage in done["stages"]}
    runs = {name: studio.run(stage["run"]) for name, stage in stages.items()}
    assert list(stages) == list(SMALL[recipe])
    if recipe == "o1":
        assert stages["scaling"]["checkpoint"] is None
        assert {"accuracy/prm", "accuracy/prm/low"} <= set(runs["scaling"]["summary"])
        assert "reward/reward_model" in runs["policy"]["summary"]
    else:
        assert _checkpoint_of(studio, runs["distillation"]["teacher_model"]) == stages["final"]["checkpoint"]
        assert runs["distillation"]["model"] == tiny


def _checkpoint_of(studio: RunningStudio, model: str) -> str:
    """The checkpoint that a registered model stands for."""
    return studio.api.get(f"/models/{model}").json()["checkpoint"]  # type: ignore[no-any-return]
