"""Pruning: what is taken out, that it stays out, what it measures, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from polm_core import catalogue, preflight_needs
from polm_core.context import load_spec
from polm_core.errors import ConfigError
from polm_core.formats import Format
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import RunDir, verify_checkpoint
from tests.polm_core.conftest import MakeRun, points, samples
from tests.polm_core.test_feedback import error_of

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


def pruned(make_run: MakeRun, **settings: Any) -> RunDir:
    run_dir = make_run("prune", **{"generation": {"max_new_tokens": 4}, **settings})
    assert execute(run_dir.root) == 0
    return run_dir


def weights(folder: Path) -> dict[str, Any]:
    """The weights of the linear layers."""
    from safetensors.torch import load_file

    found = load_file(folder / "model.safetensors")
    return {name: weight for name, weight in found.items() if name.endswith("proj.weight")}


def last(run_dir: RunDir) -> Path:
    folder = run_dir.last_checkpoint()
    assert folder is not None
    return folder


@pytest.mark.parametrize("by", ["wanda", "magnitude"])
def test_the_share_of_each_layer_that_is_asked_for_is_zero_and_no_byte_is_saved(
    make_run: MakeRun, tiny_model: Path, by: str
) -> None:
    run_dir = pruned(make_run, by=by, sparsity=0.25, format=Format.TEXT)
    after, before = weights(last(run_dir)), weights(tiny_model)
    for name, weight in after.items():
        kept = weight != 0
        assert float((~kept).sum()) / weight.numel() == pytest.approx(0.25, abs=0.001)
        assert (weight[kept] == before[name][kept]).all(), "what is kept is as it was"
    assert points(run_dir, "size/nonzero") == pytest.approx({0: 1.0, 1: 0.75}, abs=0.001)
    assert points(run_dir, "size/ratio")[1] == pytest.approx(1.0, abs=0.01)


def test_wanda_weighs_by_what_comes_in_and_magnitude_does_not(make_run: MakeRun, tiny_model: Path) -> None:
    before = weights(tiny_model)["model.layers.0.self_attn.q_proj.weight"]
    zeros = {}
    for by in ("wanda", "magnitude"):
        run_dir = pruned(make_run, by=by, name=by)
        zeros[by] = weights(last(run_dir))["model.layers.0.self_attn.q_proj.weight"] == 0
    assert float(before[zeros["magnitude"]].abs().max()) <= float(before[~zeros["magnitude"]].abs().min())
    assert (zeros["wanda"].sum(1) == before.shape[1] // 2).all(), "each output is left with as much"
    assert (zeros["wanda"] != zeros["magnitude"]).any()


@pytest.mark.parametrize("by", ["wanda", "magnitude"])
def test_two_of_each_four_are_zero(make_run: MakeRun, by: str) -> None:
    run_dir = pruned(make_run, by=by, structure="2:4")
    assert all(((weight.reshape(-1, 4) != 0).sum(1) == 2).all() for weight in weights(last(run_dir)).values())


def test_depth_takes_out_the_layer_that_changes_least_and_its_bytes(make_run: MakeRun, tiny_model: Path) -> None:
    run_dir = pruned(make_run, by="depth", layers=1)
    config = json.loads((last(run_dir) / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    before, after = weights(tiny_model), weights(last(run_dir))
    assert len(after) == len(before) // 2
    assert any(
        all((weight == before[name.replace("layers.0", f"layers.{place}")]).all() for name, weight in after.items())
        for place in (0, 1)
    )
    assert points(run_dir, "size/ratio")[1] < 0.8
    assert points(run_dir, "size/nonzero")[1] == 1.0


@pytest.mark.parametrize("settings", [{"by": "wanda"}, {"by": "depth", "layers": 1}], ids=["wanda", "depth"])
def test_training_afterwards_recovers_leaves_zeros_and_resumes_exactly(
    make_run: MakeRun, settings: dict[str, Any]
) -> None:
    settings = {**settings, "max_steps": 4, "save_steps": 3, "eval_steps": 2, "learning_rate": 1e-3}
    whole = pruned(make_run, **settings)
    assert sorted(points(whole, "loss")) == [2, 3, 4, 5]
    loss = points(whole, "eval/loss")
    assert sorted(loss) == sorted(points(whole, "eval/perplexity")) == [0, 1, 2, 4, 5]
    assert loss[5] < loss[1]
    assert len({round(share, 9) for step, share in points(whole, "size/nonzero").items() if step}) == 1
    (half, _), (folder, manifest) = whole.complete_checkpoints()
    assert (manifest.step, manifest.metrics["eval/loss"]) == (5, loss[5])
    assert points(whole, "size/bytes")[1] == pytest.approx((folder / "model.safetensors").stat().st_size, rel=0.001)
    resumed = make_run(
        "prune", name="resumed", spec={"resume": str(half)}, generation={"max_new_tokens": 4}, **settings
    )
    assert execute(resumed.root) == 0
    assert sorted(points(resumed, "loss")) == [4, 5]
    digests = [
        {file.path: file.sha256 for file in verify_checkpoint(last(one)).files if file.path.endswith(".safetensors")}
        for one in (whole, resumed)
    ]
    assert digests[0] == digests[1]
    assert "size/bytes" in verify_checkpoint(last(resumed)).metrics
    assert {sample["step"] for sample in samples(whole)} == {0, 1, 2, 4, 5}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sparsity": 1.0}, "config.sparsity"),
        ({"sparsity": 0.25, "structure": "2:4"}, "config.structure"),
        ({"adapter": {"type": "lora"}}, "config.adapter"),
        ({"processes": 2}, "config.processes"),
    ],
)
def test_settings_that_leave_nothing_or_do_not_go_together_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("prune").parse(settings)
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"by": "depth", "layers": 2}, "below 2"),
        ({"sparsity": 0.01}, "at least 0.016"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_and_in_the_run(
    make_run: MakeRun, settings: dict[str, Any], words: str
) -> None:
    run_dir = make_run("prune", **settings)
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert words in entry.message
    error = error_of(run_dir)
    assert (error["code"], error["message"]) == (entry.code, entry.message)
    assert list(run_dir.complete_checkpoints()) == []


def test_preflight_tells_what_it_takes(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    # Timed anew for each report, the machine's speed moves by more than six steps of a tiny model take.
    monkeypatch.setattr(preflight_needs, "machine_flops", lambda device: 1e11)
    reports = [preflight(load_spec(make_run("prune", max_steps=steps, max_length=256).config)) for steps in (0, 6)]
    assert [report.blocking for report in reports] == [[], []]
    assert [report.steps for report in reports] == [1, 7]
    assert 0 < reports[0].seconds < reports[1].seconds
    assert 0 < reports[0].disk_bytes < reports[1].disk_bytes
    assert [entry.code for entry in reports[0].warnings] == []
