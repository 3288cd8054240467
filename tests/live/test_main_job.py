"""The main job over the REST API alone, with the real starter model."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.lookalikes import alpaca, sharegpt_preference
from tests.support.studio import RunningStudio

pytestmark = pytest.mark.live

_LOAD_AND_GENERATE = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, base = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(base)
if base != folder:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, folder)
inputs = tokenizer.apply_chat_template([{"role": "user", "content": "Add 2 and 3."}], add_generation_prompt=True,
                                       return_tensors="pt", return_dict=True)
print(len(model.generate(**inputs, max_new_tokens=8)[0]) - inputs["input_ids"].shape[1])
"""


@pytest.mark.timeout(600)
def test_alpaca_file_to_a_checkpoint_that_generates(studio: RunningStudio, tmp_path: Path) -> None:
    dataset = studio.upload("unseen alpaca", "unseen.json", alpaca(400, seed=7))
    assert (dataset["status"], dataset["format"], dataset["rows"]) == ("ready", "conversation", 400)
    studio.wait_for_starter()
    config = {"max_steps": 20, "batch_size": 2, "max_length": 96, "logging_steps": 1, "learning_rate": 1e-4}
    pk = studio.launch(
        method="sft",
        model="starter",
        dataset=dataset["id"],
        config={**config, "eval_steps": 10, "adapter": {"type": "lora"}, "generation": {"max_new_tokens": 12}},
    )
    run = studio.wait_for_run(pk, seconds=400)
    assert run["status"] == "succeeded", run["error"]
    assert (run["step"], run["total_steps"]) == (20, 20)

    loss = studio.points(pk, "loss")
    lines = [json.loads(line) for line in studio.run_dir(pk).joinpath("metrics.jsonl").read_text().splitlines()]
    assert loss["total_points"] == sum("loss" in line["values"] for line in lines) == 20
    held_out = studio.points(pk, "eval/loss")
    assert held_out["mean"][-1] < held_out["mean"][0]
    assert studio.api.get(f"/runs/{pk}/samples").json()["items"]

    checkpoint = studio.api.get(f"/runs/{pk}/checkpoints").json()["items"][0]
    assert checkpoint["step"] == 20
    folder = _download(studio, checkpoint["id"], tmp_path)
    assert _generated(folder, studio.var / "models" / "starter") == 8


@pytest.mark.timeout(600)
def test_sharegpt_preferences_train_dpo(studio: RunningStudio) -> None:
    dataset = studio.upload("unseen pairs", "pairs.jsonl", sharegpt_preference(80, seed=3))
    assert (dataset["status"], dataset["format"], dataset["rows"]) == ("ready", "preference", 80)
    studio.wait_for_starter()
    pk = studio.launch(
        method="dpo",
        model="starter",
        dataset=dataset["id"],
        config={
            "max_steps": 6,
            "batch_size": 2,
            "learning_rate": 5e-5,
            "eval_steps": 6,
            "logging_steps": 1,
            "max_length": 128,
            "adapter": {"type": "lora"},
            "generation": {"samples": 1, "max_new_tokens": 8},
        },
    )
    run = studio.wait_for_run(pk, seconds=400)
    assert run["status"] == "succeeded", run["error"]
    keys = set(run["summary"])
    assert {"eval/rewards/accuracies", "eval/rewards/margins", "rewards/margins"} <= keys
    margins = studio.points(pk, "eval/rewards/margins")["mean"]
    assert margins[-1] > margins[0]


def _download(studio: RunningStudio, checkpoint: str, folder: Path) -> Path:
    answer = studio.api.get(f"/checkpoints/{checkpoint}/download")
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    inner = [path for path in folder.iterdir() if path.is_dir()]
    return inner[0] if len(inner) == 1 and not list(folder.glob("*.safetensors")) else folder


def _generated(folder: Path, base: Path) -> int:
    """How many tokens a plain transformers + peft script generates from a downloaded checkpoint."""
    base = base if (folder / "adapter_config.json").exists() else folder
    done = subprocess.run(
        [sys.executable, "-c", _LOAD_AND_GENERATE, str(folder), str(base)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])
