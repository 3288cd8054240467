"""Quantisation: what is measured, what the checkpoint can be used for, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from polm_core.context import ModelSpec, load_spec
from polm_core.errors import ModelError
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


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"scheme": "int4"}, "resource.device", "needs a GPU"),
        ({"scheme": "int8", "group_size": 48}, "config.invalid", "must divide the width of every layer, such as 64"),
    ],
)
def test_what_cannot_be_is_refused_before_and_in_the_run(
    make_run: MakeRun, settings: dict[str, Any], code: str, words: str
) -> None:
    run_dir = make_run("quantize", **settings)
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert entry.code == code
    assert words in entry.message
    error = error_of(run_dir)
    assert (error["code"], error["message"]) == (code, entry.message)
    assert list(run_dir.complete_checkpoints()) == []


def test_preflight_tells_what_it_takes(make_run: MakeRun, tiny_model: Path) -> None:
    report = preflight(load_spec(make_run("quantize", group_size=0, max_length=256).config))
    assert (report.blocking, report.warnings, report.steps) == ([], [], 1)
    assert report.seconds > 0
    assert report.disk_bytes > 0


def test_a_quantised_checkpoint_says_what_it_cannot_do_and_carries_an_adapter(make_run: MakeRun) -> None:
    start = {"model": {"path": str(quantised(make_run, "nf4", name="nf4").last_checkpoint()), "name": "small"}}
    for method in ("quantize", "prune"):
        again = make_run(method, name=f"again-{method}", spec=start)
        assert [entry.code for entry in preflight(load_spec(again.config)).blocking] == ["model.quantised"]
        assert error_of(again)["code"] == "model.quantised"
    full = make_run("sft", name="full", spec=start)
    (entry,) = preflight(load_spec(full.config)).blocking
    assert "must be lora or qlora or rslora" in entry.message
    assert error_of(full)["message"] == entry.message
    reward = make_run("reward-model", name="reward", format=Format.PREFERENCE, spec=start, adapter={"type": "lora"})
    assert error_of(reward)["code"] == "model.quantised"
    losses = {}
    for adapter in ("lora", "qlora"):
        trained = make_run("sft", name=adapter, spec=start, adapter={"type": adapter}, learning_rate=1e-2, **SHORT)
        assert preflight(load_spec(trained.config)).blocking == []
        assert execute(trained.root) == 0
        losses[adapter] = points(trained, "eval/loss")
        assert losses[adapter][4] < losses[adapter][0]
    going_on = {"model": {**start["model"], "adapter": str(trained.last_checkpoint())}}
    more = make_run("sft", name="more", spec=going_on, adapter={"type": "qlora"}, max_steps=1, **SHORT)
    assert execute(more.root) == 0
    assert points(more, "eval/loss")[0] == pytest.approx(losses["qlora"][4], rel=1e-3)
    request = {"id": "1", "model_path": start["model"]["path"], "adapter_path": going_on["model"]["adapter"]}
    said = Generator().answer(json.dumps({**request, "prompt": "What is", "max_new_tokens": 4}))
    assert list(said)[-1]["done"]


def test_full_training_over_int8_is_refused_with_advice(make_run: MakeRun) -> None:
    start = {"model": {"path": str(quantised(make_run, "int8", name="int8").last_checkpoint()), "name": "small"}}
    error = error_of(make_run("sft", name="full", spec=start, adapter={"type": "lora"}))
    assert (error["code"], error["advice"]) == ("model.quantised", "Start from the model that it was made of.")


def test_an_adapter_is_merged_before_the_model_is_quantised(make_run: MakeRun, tiny_model: Path) -> None:
    trained = make_run("sft", name="trained", adapter={"type": "lora"}, learning_rate=1e-2, **SHORT)
    assert execute(trained.root) == 0
    model = {"path": str(tiny_model), "adapter": str(trained.last_checkpoint()), "name": "tiny"}
    run_dir = quantised(make_run, "int8", spec={"model": model})
    loss = points(run_dir, "eval/loss")
    assert loss[0] == pytest.approx(points(trained, "eval/loss")[4], rel=0.01)
    assert loss[1] == pytest.approx(loss[0], rel=0.01)
    assert not list(run_dir.root.glob(".merged*"))


def test_a_checkpoint_with_a_damaged_state_is_told(make_run: MakeRun) -> None:
    folder = quantised(make_run, "nf4").last_checkpoint()
    assert folder is not None
    path = folder / "model.safetensors"
    data = path.read_bytes()
    assert b'"quant_type": "nf4"' in data
    path.write_bytes(data.replace(b'{"quant_type"', b'}"quant_type"'))
    with pytest.raises(ModelError) as caught:
        model_shape(ModelSpec(path=folder))
    assert caught.value.code == "model.damaged"
