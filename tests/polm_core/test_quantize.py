"""Quantisation: what is measured, what the checkpoint can be used for, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from polm_core.context import ModelSpec, load_spec
from polm_core.estimate import model_shape
from polm_core.formats import Format
from polm_core.generate import Generator
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import RunDir
from tests.polm_core.conftest import MakeRun, points, samples
from tests.polm_core.test_feedback import error_of

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

SHORT = {"generation": {"max_new_tokens": 4}}


def quantised(make_run: MakeRun, scheme: str, **settings: Any) -> RunDir:
    run_dir = make_run("quantize", scheme=scheme, **{**SHORT, **settings})
    assert execute(run_dir.root) == 0
    return run_dir


@pytest.mark.parametrize(("scheme", "at_most"), [("int8", 0.6), ("nf4", 0.45)])
def test_it_is_smaller_hardly_worse_and_used_like_any_model(
    make_run: MakeRun, tiny_model: Path, scheme: str, at_most: float
) -> None:
    run_dir = quantised(make_run, scheme)
    folder = run_dir.last_checkpoint()
    assert folder is not None
    on_disk = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    before = (tiny_model / "model.safetensors").stat().st_size
    assert points(run_dir, "size/bytes") == {0: before, 1: on_disk}
    assert points(run_dir, "size/ratio")[1] == pytest.approx(on_disk / before)
    assert points(run_dir, "size/ratio")[1] < at_most
    assert points(run_dir, "size/memory")[1] < points(run_dir, "size/memory")[0]
    perplexity = points(run_dir, "eval/perplexity")
    assert perplexity[1] != perplexity[0]
    assert perplexity[1] == pytest.approx(perplexity[0], rel=0.05)
    assert {sample["step"] for sample in samples(run_dir)} == {0, 1}
    assert sorted(path.suffix for path in folder.iterdir() if path.suffix not in (".json", ".jinja")) == [
        ".jsonl",
        ".safetensors",
    ]
    assert model_shape(ModelSpec(path=folder)) == model_shape(ModelSpec(path=tiny_model))
    request = {"id": "1", "model_path": str(folder), "prompt": "What is", "max_new_tokens": 4}
    assert list(Generator().answer(json.dumps(request)))[-1]["done"]
