"""A run of the studio against the same training with trl alone: seconds a step, and seconds to the first."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.bench.rows import ROOT, Row
from tests.bench.studio import add_conversations, add_tiny, running_studio

STEPS, WARM_UP, REPEATS = 16, 4, 3
BAR_STEP, BAR_START = 1.02, 1.0


def measure(short: bool) -> list[Row]:
    with running_studio() as studio:
        model = add_tiny(studio) if short else "starter"
        dataset = add_conversations(studio)
        repeats = 1 if short else REPEATS
        pairs = [_pair(studio, model, dataset, studio.var / f"bare-{number}") for number in range(repeats)]
    step = statistics.median(ours["step"] / bare["step"] for ours, bare in pairs)
    start = statistics.median(ours["first"] / bare["first"] for ours, bare in pairs)
    said = [f"{ours['step']:.3f} s and {bare['step']:.3f} s" for ours, bare in pairs]
    begun = [f"{ours['first']:.1f} s and {bare['first']:.1f} s" for ours, bare in pairs]
    note = f"sft of the {'tiny' if short else 'starter'} model; the studio's run and trl alone: {', '.join(said)}."
    return [
        Row("Steady step time", step, "times trl alone", f"at most {BAR_STEP}", step <= BAR_STEP, note),
        Row(
            "From the click to the first step",
            start,
            "times trl alone",
            f"at most {BAR_START:g}",
            start <= BAR_START,
            f"The bare script's own start-up counts from its command, imports included: {', '.join(begun)}.",
        ),
    ]


def _pair(studio: Any, model: str, dataset: str, out: Path) -> tuple[dict[str, float], dict[str, float]]:
    """One run of each, one after the other."""
    config = {"max_steps": STEPS, "batch_size": 2, "max_length": 256, "logging_steps": 1, "generation": {"samples": 0}}
    config |= {"precision": "fp32", "adapter": {"type": "none"}, "gradient_checkpointing": False}
    config |= {"loss_on": "everything"}  # as trl does unless the chat template marks what the assistant said
    clicked = time.time()
    pk = studio.launch(method="sft", model=model, dataset=dataset, config=config)
    studio.wait_for_run(pk, seconds=600)
    lines = [json.loads(line) for line in studio.run_dir(pk).joinpath("metrics.jsonl").read_text().splitlines()]
    ours = _figures({line["step"]: line["time"] for line in lines if "loss" in line["values"]}, clicked)

    spec = yaml.safe_load(studio.run_dir(pk).joinpath("config.yaml").read_text())
    script = ROOT / "tests" / "support" / "bare_sft.py"
    command = [sys.executable, str(script), spec["model"]["path"], spec["dataset"]["path"], str(out), str(STEPS)]
    started = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=studio.env)
    assert done.returncode == 0, done.stderr
    moments = [line.split() for line in done.stdout.splitlines() if line.startswith("step ")]
    return ours, _figures({int(step): float(moment) for _, step, moment in moments}, started)


def _figures(moments: dict[int, float], since: float) -> dict[str, float]:
    """From when each step ended: the steady seconds a step, and the seconds to the first."""
    times = [moments[step] for step in sorted(moments)]
    steady = [after - before for before, after in zip(times[WARM_UP:-1], times[WARM_UP + 1 :], strict=True)]
    return {"step": statistics.median(steady), "first": times[0] - since}
