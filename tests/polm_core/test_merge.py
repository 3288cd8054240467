"""Merging: what each way of it makes of the weights, and what cannot be merged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from polm_core.context import load_spec
from polm_core.errors import ConfigError, ModelError
from polm_core.preflight import preflight
from polm_core.run import execute
from polm_core.run_dir import Outcome, RunDir, Wish
from polm_core.training.merging import check_parent
from tests.polm_core.conftest import MakeRun, points
from tests.support import tiny

pytestmark = pytest.mark.filterwarnings("default")
Tensors = dict[str, Any]


@pytest.fixture(scope="session")
def third(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_model(tmp_path_factory.mktemp("model") / "third", seed=2)


@pytest.fixture
def merge(make_run: MakeRun, tiny_teacher: Path, third: Path) -> Callable[..., RunDir]:
    """A run that merges the tiny model with so many others."""

    def make(*, others: int = 1, **settings: Any) -> RunDir:
        folders = (tiny_teacher, third)[:others]
        models = [{"path": str(folder), "name": folder.name} for folder in folders]
        spec = {"merge_models": models, **settings.pop("spec", {})}
        return make_run("merge", format=None, spec=spec, **settings)

    return make


def weights(folder: Path) -> Tensors:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def merged(run_dir: RunDir) -> Tensors:
    assert execute(run_dir.root) == 0, run_dir.read_result()
    folder = run_dir.last_checkpoint()
    assert folder is not None
    return weights(folder)


def test_linear_is_the_weighted_mean(merge: Callable[..., RunDir], tiny_model: Path, tiny_teacher: Path) -> None:
    run_dir = merge(weights=[3, 1])
    found, first, second = merged(run_dir), weights(tiny_model), weights(tiny_teacher)
    assert found.keys() == first.keys()
    away = 0.0
    for name in found:
        assert (found[name] - 0.75 * first[name] - 0.25 * second[name]).abs().max() < 1e-6
        away += (found[name] - first[name]).square().sum().item()
    (near,), (far,) = points(run_dir, "distance/1").values(), points(run_dir, "distance/2").values()
    assert near == pytest.approx(away**0.5, rel=1e-5)
    assert far == pytest.approx(3 * near, rel=1e-4)
    assert list(points(run_dir, "tensors").values()) == [len(found)]


def test_task_arithmetic_adds_what_was_learned_onto_the_base(
    merge: Callable[..., RunDir], tiny_model: Path, tiny_teacher: Path, third: Path
) -> None:
    found = merged(merge(others=2, merge_method="task_arithmetic", weights=[0.5, 0.25], normalize=False, scale=2))
    base, second, last = weights(tiny_model), weights(tiny_teacher), weights(third)
    for name in found:
        wanted = base[name] + (second[name] - base[name]) + 0.5 * (last[name] - base[name])
        assert (found[name] - wanted).abs().max() < 1e-5


def test_slerp_goes_as_far_as_the_share_of_the_second(merge: Callable[..., RunDir], tiny_teacher: Path) -> None:
    found, second = merged(merge(merge_method="slerp", weights=[0, 1])), weights(tiny_teacher)
    assert all((found[name] - second[name]).abs().max() < 1e-6 for name in found)


def test_ties_with_all_changes_of_one_model_is_that_model(merge: Callable[..., RunDir], tiny_teacher: Path) -> None:
    found, second = merged(merge(merge_method="ties", density=1.0)), weights(tiny_teacher)
    assert all((found[name] - second[name]).abs().max() < 1e-5 for name in found)


def test_dare_draws_by_the_seed(merge: Callable[..., RunDir]) -> None:
    seeds = (1, 1, 2)
    one, same, other = (merged(merge(name=f"run-{n}", merge_method="dare_ties", seed=s)) for n, s in enumerate(seeds))
    assert all(one[name].equal(same[name]) for name in one)
    assert not all(one[name].equal(other[name]) for name in one)


def test_model_stock_lies_between_the_base_and_the_mean(
    merge: Callable[..., RunDir], tiny_model: Path, tiny_teacher: Path, third: Path
) -> None:
    found, base = merged(merge(others=2, merge_method="model_stock")), weights(tiny_model)
    name = "model.layers.0.mlp.up_proj.weight"
    mean = (weights(tiny_teacher)[name] + weights(third)[name]) / 2
    assert 0 < (found[name] - base[name]).norm() < (mean - base[name]).norm()


def test_an_adapter_is_merged_into_its_base_first(
    merge: Callable[..., RunDir], make_run: MakeRun, tiny_model: Path
) -> None:
    trained = make_run("sft", name="trained", adapter={"type": "lora"}, learning_rate=1e-2)
    assert execute(trained.root) == 0
    adapter = {"path": str(tiny_model), "adapter": str(trained.last_checkpoint())}
    found = merged(merge(spec={"merge_models": [adapter]}, weights=[0, 1]))
    base = weights(tiny_model)
    changed = {name for name in found if not found[name].equal(base[name])}
    assert changed
    assert all("_proj" in name for name in changed)


def test_a_merge_that_is_paused_leaves_nothing_and_begins_again(merge: Callable[..., RunDir]) -> None:
    run_dir = merge()
    run_dir.ask(Wish.PAUSE)
    assert execute(run_dir.root) == 0
    result = run_dir.read_result()
    assert result is not None
    assert result.outcome is Outcome.PAUSED
    assert run_dir.last_checkpoint() is None
    run_dir.control.unlink()
    assert merged(run_dir)


def copied(source: Path, target: Path, **config: Any) -> Path:
    """A copy of a model with another config."""
    shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return target


def other_tokens(source: Path, target: Path) -> Path:
    copied(source, target)
    path = target / "tokenizer.json"
    raw = json.loads(path.read_text())
    vocabulary = raw["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(raw))
    return target


def other_shape(source: Path, target: Path) -> Path:
    from safetensors.torch import load_file, save_file

    copied(source, target)
    tensors = load_file(target / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:32].clone()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def pickled_shard(source: Path, target: Path) -> Path:
    copied(source, target)
    index = {"weight_map": {"model.norm.weight": "pytorch_model.bin"}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    (target / "pytorch_model.bin").write_bytes(b"not to be read")
    return target


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda a, b: copied(a, b, architectures=["Qwen2ForCausalLM"]), "model.architecture"),
        (other_tokens, "model.tokenizer"),
        (other_shape, "model.shape"),
        (lambda a, b: copied(a, b, architectures=["LlamaForSequenceClassification"]), "model.reward"),
        (lambda a, b: copied(a, b, quantization_config={"quant_method": "hqq"}), "model.quantised"),
        (lambda a, b: copied(a, b, auto_map={"AutoModelForCausalLM": "x.Y"}), "model.remote_code"),
        (pickled_shard, "model.damaged"),
    ],
    ids=["architecture", "tokens", "shape", "reward-model", "quantised", "code", "pickle"],
)
def test_models_that_do_not_go_together_are_refused(
    merge: Callable[..., RunDir], tiny_teacher: Path, tmp_path: Path, spoil: Any, code: str
) -> None:
    other = spoil(tiny_teacher, tmp_path / "spoiled")
    run_dir = merge(spec={"merge_models": [{"path": str(other), "name": "the other"}]})
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert entry.code == code
    assert "the other" in entry.message or "spoiled" in entry.message
    assert entry.remedy
    assert execute(run_dir.root) == 2
    assert run_dir.last_checkpoint() is None


@pytest.mark.parametrize(
    ("others", "settings", "field"),
    [
        (0, {}, "merge_models"),
        (2, {"merge_method": "slerp"}, "merge_models"),
        (1, {"merge_method": "model_stock"}, "merge_models"),
        (1, {"weights": [1]}, "config.weights"),
        (1, {"merge_method": "ties", "weights": [1, 1]}, "config.weights"),
        (1, {"weights": [1, -1]}, "config.weights"),
        (1, {"merge_method": "slerp", "weights": [2, -1]}, "config.weights"),
    ],
)
def test_choices_that_make_no_merge_are_refused(
    merge: Callable[..., RunDir], others: int, settings: dict[str, Any], field: str
) -> None:
    run_dir = merge(others=others, **settings)
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert entry.code == "config.invalid"
    assert execute(run_dir.root) == 2
    result = run_dir.read_result()
    assert result is not None
    assert result.error is not None
    assert list(result.error["fields"]) == [field]


def test_a_model_named_twice_and_a_dataset_are_refused(
    merge: Callable[..., RunDir], tiny_model: Path, tmp_path: Path
) -> None:
    twice = merge(spec={"merge_models": [{"path": str(tiny_model)}]})
    assert "named twice" in preflight(load_spec(twice.config)).blocking[0].message
    rows = tiny.write_rows(tmp_path / "rows.jsonl", tiny.conversations(4))
    given = merge(name="given", spec={"dataset": {"path": str(rows), "format": "conversation"}})
    assert "takes no dataset" in preflight(load_spec(given.config)).blocking[0].message


def test_a_method_that_needs_rows_says_so_without_any(make_run: MakeRun) -> None:
    run_dir = make_run("sft", format=None)
    (entry,) = preflight(load_spec(run_dir.config)).blocking
    assert entry.message == "sft takes a dataset, and the run has none."
    assert execute(run_dir.root) == 2


def test_the_preflight_of_a_good_merge_estimates_it(merge: Callable[..., RunDir]) -> None:
    report = preflight(load_spec(merge().config))
    assert report.blocking == []
    assert report.memory_bytes > 0
    assert report.disk_bytes > 100_000
    assert report.fit == "fits"


def test_a_spec_names_at_most_fifteen_models(merge: Callable[..., RunDir], tiny_teacher: Path) -> None:
    run_dir = merge(spec={"merge_models": [{"path": str(tiny_teacher)}] * 16})
    with pytest.raises(ConfigError, match="merge_models"):
        load_spec(run_dir.config)
    raw = yaml.safe_load(run_dir.config.read_text()) | {"merge_models": [{"path": "nowhere"}]}
    run_dir.config.write_text(yaml.safe_dump(raw))
    spec = load_spec(run_dir.config)
    assert spec.merge_models[0].path == run_dir.root / "nowhere"
    with pytest.raises(ModelError, match="no folder"):
        check_parent(spec.merge_models[0])
