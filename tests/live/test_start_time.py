"""From the click on Launch to the first training step: what the studio adds to a bare trl script."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.support.studio import ROOT, RunningStudio

pytestmark = [pytest.mark.live, pytest.mark.alone]

ADDED_SECONDS = 3.0


def test_the_studio_adds_little(studio: RunningStudio, tiny: str, conversations: str, tmp_path: Path) -> None:
    config = {"max_steps": 2, "batch_size": 2, "max_length": 256, "logging_steps": 1, "generation": {"samples": 0}}
    studio.wait_for_starter()  # converting it takes both cores

    added = []
    for _ in range(3):
        clicked = time.time()
        pk = studio.launch(method="sft", model=tiny, dataset=conversations, config=config)
        studio.wait_for_run(pk)
        lines = [json.loads(line) for line in studio.run_dir(pk).joinpath("metrics.jsonl").read_text().splitlines()]
        first = next(line["time"] for line in lines if line["step"] == 1)
        added.append(first - clicked - _bare_seconds(studio, pk, tmp_path))
    assert sorted(added)[1] < ADDED_SECONDS, added


def _bare_seconds(studio: RunningStudio, pk: str, folder: Path) -> float:
    """Seconds that trl alone takes from after its imports to the first step, for the model and rows of a run."""
    spec = yaml.safe_load(studio.run_dir(pk).joinpath("config.yaml").read_text())
    script = ROOT / "tests" / "support" / "bare_sft.py"
    command = [sys.executable, str(script), spec["model"]["path"], spec["dataset"]["path"], str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=studio.env)
    assert done.returncode == 0, done.stderr
    return float(next(line for line in done.stdout.splitlines() if line.replace(".", "").isdigit()))
