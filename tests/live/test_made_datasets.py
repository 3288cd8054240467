"""Datasets made of others, through the real worker, and trained on."""

from typing import Any

import pytest

from tests.support.lookalikes import sharegpt_preference
from tests.support.studio import RunningStudio

pytestmark = pytest.mark.live


def made(studio: RunningStudio, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What a request makes, once the worker is done with it."""
    answer = studio.api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    address = f"/datasets/{answer.json()['id']}"

    def processed() -> dict[str, Any] | None:
        found: dict[str, Any] = studio.api.get(address).json()
        return found if found["status"] != "processing" else None

    return studio.wait_for(processed, 60, f"what {path} makes")  # type: ignore[no-any-return]


@pytest.mark.timeout(600)
def test_pairs_become_ratings_that_train_and_answers_become_rows(studio: RunningStudio) -> None:
    pairs = studio.upload("pairs", "pairs.jsonl", sharegpt_preference(40, seed=5))
    ratings = made(studio, f"/datasets/{pairs['id']}/convert", {"to": "rating"})
    assert (ratings["status"], ratings["format"], ratings["rows"]) == ("ready", "rating", 80)
    assert ratings["stats"]["labels"] == {"true": 40, "false": 40}
    rows = studio.api.get(f"/datasets/{ratings['id']}/rows", params={"limit": 2}).json()["items"]
    original = studio.api.get(f"/datasets/{pairs['id']}/rows", params={"limit": 1}).json()["items"][0]
    assert [row["completion"] for row in rows] == [original["chosen"], original["rejected"]]

    studio.wait_for_starter()
    pk = studio.launch(
        method="kto",
        model="starter",
        dataset=ratings["id"],
        config={
            "max_steps": 2,
            "batch_size": 2,
            "logging_steps": 1,
            "eval_steps": 2,
            "max_length": 96,
            "adapter": {"type": "lora"},
            "generation": {"samples": 2, "max_new_tokens": 8},
        },
    )
    run = studio.wait_for_run(pk, seconds=400)
    assert (run["status"], run["step"]) == ("succeeded", 2), run["error"]

    samples = studio.api.get(f"/runs/{pk}/samples", params={"rollouts": "false"}).json()["items"]
    said = [sample for sample in samples if sample["completion"].strip()]
    assert said
    chosen = {"format": "prompt-completion", "samples": [one["id"] for one in said], "name": "what it said"}
    answers = made(studio, f"/runs/{pk}/dataset", chosen)
    assert (answers["status"], answers["format"], answers["origin"]) == ("ready", "prompt-completion", "distilled")
    assert 1 <= answers["rows"] <= len(said)
    assert answers["derivation"]["run"] == pk
