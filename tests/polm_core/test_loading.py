"""Models that are not loaded, and why; adapters to go on from."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from polm_core.blocks import AdapterConfig, AdapterType, TrainConfig
from polm_core.context import ModelSpec
from polm_core.errors import ConfigError, ModelError, PolmError, ResourceError
from polm_core.training.adapters import adapter_type, continue_adapter, new_adapter
from polm_core.training.loading import compute_precision, load_model, load_tokenizer


@pytest.fixture
def broken(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy of the tiny model to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: Path) -> Path:
    """A saved lora adapter whose output is not zero."""
    from peft import get_peft_model

    model = load_model(ModelSpec(path=tiny_model), TrainConfig())
    wrapped = get_peft_model(model, new_adapter(AdapterConfig(type=AdapterType.LORA, r=4), model, "CAUSAL_LM"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1
    wrapped.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def refusal(model: ModelSpec) -> PolmError:
    with pytest.raises(ModelError) as caught:
        load_model(model, TrainConfig())
    return caught.value


def test_a_model_loads_with_its_tokenizer(tiny_model: Path) -> None:
    import torch

    assert load_model(ModelSpec(path=tiny_model), TrainConfig()).dtype is torch.float32
    assert load_tokenizer(ModelSpec(path=tiny_model)).pad_token == "<|im_end|>"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert refusal(ModelSpec(path=tmp_path / "none")).code == "model.missing"
    assert refusal(ModelSpec(path=tmp_path)).code == "model.missing"


def test_weights_that_could_run_code_are_refused(broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    assert refusal(ModelSpec(path=broken)).code == "model.unsafe"


def test_a_models_own_code_is_refused(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}}))
    (broken / "evil.py").write_text("raise SystemExit('ran')")
    assert refusal(ModelSpec(path=broken)).code == "model.remote_code"


def test_damaged_files_are_told(broken: Path) -> None:
    (broken / "model.safetensors").write_bytes(b"\0" * 64)
    assert "could not be loaded" in refusal(ModelSpec(path=broken)).message
    (broken / "config.json").write_text("{")
    assert "not JSON" in refusal(ModelSpec(path=broken)).message


def test_a_model_that_is_no_language_model_is_refused(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    assert refusal(ModelSpec(path=broken)).code == "model.unloadable"


def test_a_hub_that_is_out_of_reach_is_told_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = refusal(ModelSpec(hub_id="nobody/nothing"))
    assert error.code == "model.hub"
    assert "HF_ENDPOINT" in error.advice


@pytest.mark.parametrize(("precision", "meant"), [("auto", "fp32"), ("bf16", "bf16")])
def test_precision_on_a_cpu(precision: Any, meant: str) -> None:
    assert compute_precision(TrainConfig(precision=precision, devices=0)) == meant


def test_what_a_cpu_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        compute_precision(TrainConfig(precision="fp16", devices=0))
    assert "config.precision" in caught.value.fields


def test_a_gpu_that_is_not_there_is_missed() -> None:
    import torch

    if torch.accelerator.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ResourceError, match="this machine has none"):
        compute_precision(TrainConfig(devices=1))


def test_layers_that_the_model_lacks_are_named(tiny_model: Path) -> None:
    model = load_model(ModelSpec(path=tiny_model), TrainConfig())
    with pytest.raises(ConfigError) as caught:
        new_adapter(AdapterConfig(type=AdapterType.LORA, target_modules=["q_proj", "c_attn"]), model, "CAUSAL_LM")
    (problem,) = caught.value.fields["config.adapter.target_modules"]
    assert "c_attn" in problem
    assert "q_proj, up_proj" in problem


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("lora", {}),
        ("rslora", {"use_rslora": True}),
        ("dora", {"use_dora": True}),
        ("qlora", {}),
        ("pissa", {"init_lora_weights": "pissa"}),
        ("olora", {"init_lora_weights": "olora"}),
    ],
)
def test_each_adapter_is_what_its_name_says(tiny_model: Path, kind: str, expected: dict[str, Any]) -> None:
    model = load_model(ModelSpec(path=tiny_model), TrainConfig())
    built = new_adapter(AdapterConfig(type=AdapterType(kind), r=4, alpha=8, dropout=0.1), model, "CAUSAL_LM")
    assert (built.r, built.lora_alpha, built.lora_dropout, built.target_modules) == (4, 8, 0.1, "all-linear")
    assert {name: getattr(built, name) for name in expected} == expected
    assert new_adapter(AdapterConfig(), model, "CAUSAL_LM") is None


def test_training_all_weights_merges_the_adapter_a_run_starts_from(tiny_model: Path, adapter: Path) -> None:
    plain = load_model(ModelSpec(path=tiny_model), TrainConfig())
    merged = load_model(ModelSpec(path=tiny_model, adapter=adapter), TrainConfig())
    assert not hasattr(merged, "peft_config")
    assert not plain.model.layers[0].mlp.up_proj.weight.equal(merged.model.layers[0].mlp.up_proj.weight)


def test_an_adapter_is_trained_on_as_it_is(tiny_model: Path, adapter: Path) -> None:
    model = load_model(ModelSpec(path=tiny_model), TrainConfig())
    config = AdapterConfig(type=AdapterType.LORA, r=64)
    continued = continue_adapter(model, adapter, config)
    trainable = [name for name, parameter in continued.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    assert continued.peft_config["default"].r == 4


def test_an_adapter_of_another_kind_is_refused(tiny_model: Path, adapter: Path) -> None:
    model = load_model(ModelSpec(path=tiny_model), TrainConfig())
    with pytest.raises(ConfigError, match="must be lora"):
        continue_adapter(model, adapter, AdapterConfig(type=AdapterType.DORA))
    (adapter / "adapter_config.json").write_text('{"peft_type": "BOFT"}')
    with pytest.raises(ModelError, match="BOFT"):
        adapter_type(adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        adapter_type(adapter)
    with pytest.raises(ModelError, match="no adapter"):
        adapter_type(tiny_model)


def test_four_bit_layers_keep_the_layout_that_can_be_trained(tiny_model: Path) -> None:
    model = load_model(ModelSpec(path=tiny_model), TrainConfig(adapter=AdapterConfig(type=AdapterType.QLORA)))
    flags = [m.support_avx512bf16_for_cpu for m in model.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    assert flags
    assert not any(flags)
