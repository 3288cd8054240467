"""Adapters: peft's configuration from ours, and adapters that a run goes on from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polm_core.blocks import AdapterConfig, AdapterType
from polm_core.errors import ConfigError, ModelError


def _lora(config: AdapterConfig, **more: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        **more,
    )


_BUILDERS: dict[AdapterType, Callable[[AdapterConfig], Any]] = {
    AdapterType.LORA: _lora,
    AdapterType.QLORA: _lora,
    AdapterType.RSLORA: lambda config: _lora(config, use_rslora=True),
    AdapterType.DORA: lambda config: _lora(config, use_dora=True),
}


def peft_config(config: AdapterConfig, model: Any) -> Any:
    """The peft configuration of a new adapter on `model`; None when all weights are trained."""
    if config.type is AdapterType.NONE:
        return None
    if isinstance(config.target_modules, list):
        _check_targets(config.target_modules, model)
    return _BUILDERS[config.type](config)


def _check_targets(names: list[str], model: Any) -> None:
    """Raise `ConfigError` for a name that is no layer of the model."""
    modules = [name for name, _ in model.named_modules() if name]
    missing = [name for name in names if not any(f".{module}".endswith(f".{name}") for module in modules)]
    if not missing:
        return
    layers = sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if _is_linear(module)})
    problem = f"must name layers of the model ({', '.join(layers)}), not {', '.join(missing)}"
    raise ConfigError(f"The adapter's target_modules {problem}.", fields={"config.adapter.target_modules": [problem]})


def _is_linear(module: Any) -> bool:
    return hasattr(module, "in_features") and hasattr(module, "out_features")


def continue_adapter(model: Any, folder: Path, config: AdapterConfig) -> Any:
    """`model` with the adapter in `folder`: to train it on, or merged in when all weights are to be trained.

    The adapter keeps its own rank and layers. Raises `ConfigError` when the run asks for another kind of adapter.
    """
    from peft import PeftModel

    found = adapter_type(folder)
    if config.type is AdapterType.NONE:
        # peft freezes the model it wraps, and unwrapping does not undo that.
        return PeftModel.from_pretrained(model, str(folder)).merge_and_unload().requires_grad_(True)
    # qlora is lora over 4-bit weights: the adapter itself is the same.
    if found is not (AdapterType.LORA if config.type is AdapterType.QLORA else config.type):
        problem = f"must be {found.value}, the kind of the adapter the run starts from, or none to merge it"
        raise ConfigError(f"adapter.type {problem}.", fields={"config.adapter.type": [problem]})
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def adapter_type(folder: Path) -> AdapterType:
    """The kind of a saved adapter. Raises `ModelError` when there is none that can be trained on."""
    try:
        saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no adapter: its adapter_config.json cannot be read.") from error
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder} holds no adapter_model.safetensors; other weight files are not loaded.")
    if saved.get("peft_type") != "LORA":
        raise ModelError(f"Adapters of the kind {saved.get('peft_type')} cannot be trained on; lora and its kin can.")
    if saved.get("use_dora"):
        return AdapterType.DORA
    return AdapterType.RSLORA if saved.get("use_rslora") else AdapterType.LORA
