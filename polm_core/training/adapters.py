"""Adapters: peft's configuration from ours, and adapters that a run goes on from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from polm_core.blocks import AdapterConfig, AdapterType
from polm_core.errors import ConfigError, ModelError

Task = Literal["CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS"]

# The last layer of a feed-forward block by the names that model families give it; ia3 scales what goes into it.
_FEEDFORWARD_ENDS = frozenset({"down_proj", "dense_4h_to_h", "fc2", "fc_out", "w2", "wo"})


def _lora(config: AdapterConfig, model: Any, **more: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        **more,
    )


def _vera(config: AdapterConfig, model: Any) -> Any:
    from peft import VeraConfig

    return VeraConfig(r=config.r, vera_dropout=config.dropout, target_modules=config.target_modules)


def _loha(config: AdapterConfig, model: Any) -> Any:
    from peft import LoHaConfig

    return LoHaConfig(
        r=config.r, alpha=config.alpha, module_dropout=config.dropout, target_modules=config.target_modules
    )


def _lokr(config: AdapterConfig, model: Any) -> Any:
    from peft import LoKrConfig

    return LoKrConfig(
        r=config.r, alpha=config.alpha, module_dropout=config.dropout, target_modules=config.target_modules
    )


def _oft(config: AdapterConfig, model: Any) -> Any:
    from peft import OFTConfig

    return OFTConfig(
        r=0,
        oft_block_size=config.block_size,
        module_dropout=config.dropout,
        target_modules=config.target_modules,
        # The Cayley transform is solved, not approximated: with the approximation rotations are no longer exact.
        use_cayley_neumann=False,
    )


def _ia3(config: AdapterConfig, model: Any) -> Any:
    from peft import IA3Config
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as KNOWN

    if config.target_modules == "all-linear":
        if model.config.model_type not in KNOWN:
            problem = f"must name layers for ia3: which suit {model.config.model_type} models is not known"
            raise ConfigError(f"target_modules {problem}.", fields={"config.adapter.target_modules": [problem]})
        return IA3Config()
    names = list(config.target_modules)
    ends = [name for name in names if name.rsplit(".", 1)[-1] in _FEEDFORWARD_ENDS]
    return IA3Config(target_modules=names, feedforward_modules=ends)


def _ln(config: AdapterConfig, model: Any) -> Any:
    from peft import LNTuningConfig

    norms = [name for name, module in model.named_modules() if type(module).__name__.endswith("Norm")]
    return LNTuningConfig(target_modules=sorted({name.rsplit(".", 1)[-1] for name in norms}))


def _prompt(config: AdapterConfig, model: Any) -> Any:
    from peft import PromptTuningConfig, PromptTuningInit

    return PromptTuningConfig(
        num_virtual_tokens=config.virtual_tokens, prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB
    )


def _prefix(config: AdapterConfig, model: Any) -> Any:
    from peft import PrefixTuningConfig

    return PrefixTuningConfig(num_virtual_tokens=config.virtual_tokens)


def _p_tuning(config: AdapterConfig, model: Any) -> Any:
    from peft import PromptEncoderConfig

    return PromptEncoderConfig(num_virtual_tokens=config.virtual_tokens)


_BUILDERS: dict[AdapterType, Callable[[AdapterConfig, Any], Any]] = {
    AdapterType.LORA: _lora,
    AdapterType.QLORA: _lora,
    AdapterType.RSLORA: lambda config, model: _lora(config, model, use_rslora=True),
    AdapterType.DORA: lambda config, model: _lora(config, model, use_dora=True),
    AdapterType.PISSA: lambda config, model: _lora(config, model, init_lora_weights="pissa"),
    AdapterType.OLORA: lambda config, model: _lora(config, model, init_lora_weights="olora"),
    AdapterType.VERA: _vera,
    AdapterType.LOHA: _loha,
    AdapterType.LOKR: _lokr,
    AdapterType.OFT: _oft,
    AdapterType.IA3: _ia3,
    AdapterType.LN: _ln,
    AdapterType.PROMPT: _prompt,
    AdapterType.PREFIX: _prefix,
    AdapterType.P_TUNING: _p_tuning,
}

_SAVED_AS: dict[str, AdapterType] = {
    "VERA": AdapterType.VERA,
    "LOHA": AdapterType.LOHA,
    "LOKR": AdapterType.LOKR,
    "OFT": AdapterType.OFT,
    "IA3": AdapterType.IA3,
    "LN_TUNING": AdapterType.LN,
    "PROMPT_TUNING": AdapterType.PROMPT,
    "PREFIX_TUNING": AdapterType.PREFIX,
    "P_TUNING": AdapterType.P_TUNING,
}


def new_adapter(config: AdapterConfig, model: Any, task: Task) -> Any:
    """The peft configuration of a new adapter on `model`; None when the model's own weights are trained.

    Of a model whose biases alone are trained, all other weights are frozen.
    """
    if config.type is AdapterType.NONE:
        return None
    if config.type is AdapterType.BITFIT:
        _freeze_all_but_biases(model)
        return None
    if isinstance(config.target_modules, list) and "target_modules" in config.fields_used:
        _check_targets(config.target_modules, model)
    built = _BUILDERS[config.type](config, model)
    built.task_type = task
    if task == "TOKEN_CLS" and hasattr(built, "exclude_modules"):
        # peft trains a head whole, and counts that of a sequence alone out of the linear layers.
        built.exclude_modules = ["score", "classifier"]
    return built


def no_biases() -> ConfigError:
    """What bitfit meets in models such as Llama's, which have no bias anywhere."""
    problem = "must not be bitfit: this model has no biases to train. ln trains as few weights, lora works everywhere"
    return ConfigError(f"adapter.type {problem}.", fields={"config.adapter.type": [problem]})


def _freeze_all_but_biases(model: Any) -> None:
    if not any(name.endswith(".bias") for name, _ in model.named_parameters()):
        raise no_biases()
    for name, parameter in model.named_parameters():
        # The head that gives rewards begins at random, so it is trained in any case.
        parameter.requires_grad = name.endswith(".bias") or name.startswith("score.")


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
    """`model` with the adapter in `folder`: to train it on, or merged in when the model's own weights are trained.

    The adapter keeps its own rank and layers. Raises what `check_continues` does.
    """
    from peft import PeftModel

    check_continues(folder, config)
    if config.trains_whole_model:
        # peft freezes the model it wraps, and unwrapping does not undo that.
        return merge_adapter(model, folder).requires_grad_(True)
    if config.is_soft_prompt:
        return _virtual_tokens(model, folder)
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def check_continues(folder: Path, config: AdapterConfig) -> None:
    """Raise `ConfigError` when the run asks for another kind of adapter, or for one that cannot be merged or trained
    on; `ModelError` when there is no adapter that can be used."""
    found = adapter_type(folder)
    if config.trains_whole_model:
        return check_merges(folder)
    # qlora is lora over 4-bit weights: the adapter itself is the same.
    if found is not (AdapterType.LORA if config.type is AdapterType.QLORA else config.type):
        merges = "" if AdapterConfig(type=found).is_soft_prompt else ", or none to merge it"
        raise _type_error(f"must be {found.value}, the kind of the adapter the run starts from{merges}")
    if found is AdapterType.P_TUNING:
        raise _type_error("must not be p-tuning here: what such an adapter learned with is not kept; start a new one")
    return None


def _virtual_tokens(model: Any, folder: Path) -> Any:
    """The model with saved virtual tokens, trainable: peft loads such only into an adapter that is there already."""
    from peft import PeftConfig, get_peft_model

    saved = PeftConfig.from_pretrained(str(folder))
    saved.inference_mode = False
    wrapped = get_peft_model(model, saved)
    wrapped.load_adapter(str(folder), wrapped.active_adapter, is_trainable=True)
    return wrapped


def merge_adapter(model: Any, folder: Path) -> Any:
    """`model` with the adapter's weights added to its own. Raises what `check_merges` does."""
    from peft import PeftModel

    check_merges(folder)
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def check_merges(folder: Path) -> None:
    """Raise `ConfigError` for virtual tokens, which have no weights to add to the model's."""
    found = adapter_type(folder)
    if AdapterConfig(type=found).is_soft_prompt:
        raise _type_error(
            f"must be {found.value}: the run starts from virtual tokens, which cannot be merged into the weights. "
            "Or start from the base model"
        )


def apply_adapter(model: Any, folder: Path) -> Any:
    """`model` as it answers with the adapter in `folder`: merged in where that is possible, else beside it.

    Into quantised weights it is not: they would be rounded anew.
    """
    from peft import PeftModel

    if AdapterConfig(type=adapter_type(folder)).is_soft_prompt or getattr(model, "is_quantized", False):
        return PeftModel.from_pretrained(model, str(folder))
    return merge_adapter(model, folder)


def _type_error(problem: str) -> ConfigError:
    return ConfigError(f"adapter.type {problem}.", fields={"config.adapter.type": [problem]})


def adapter_type(folder: Path) -> AdapterType:
    """The kind of a saved adapter. Raises `ModelError` when there is none that can be used."""
    saved = _saved_config(folder)
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder} holds no adapter_model.safetensors; other weight files are not loaded.")
    kind = str(saved.get("peft_type"))
    if kind in _SAVED_AS:
        return _SAVED_AS[kind]
    if kind != "LORA":
        known = ", ".join(member.value for member in _BUILDERS)
        raise ModelError(f"Adapters of the kind {kind} cannot be used; these can: {known}.")
    begun = str(saved.get("init_lora_weights"))
    if begun in (AdapterType.PISSA, AdapterType.OLORA):
        return AdapterType(begun)
    if saved.get("use_dora"):
        return AdapterType.DORA
    return AdapterType.RSLORA if saved.get("use_rslora") else AdapterType.LORA


def gives_rewards(folder: Path) -> bool:
    """Whether the adapter in `folder` belongs to a reward model."""
    return _saved_config(folder).get("task_type") == "SEQ_CLS"


def judges_steps(folder: Path) -> bool:
    """Whether the adapter in `folder` belongs to a process reward model."""
    return _saved_config(folder).get("task_type") == "TOKEN_CLS"


def _saved_config(folder: Path) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no adapter: its adapter_config.json cannot be read.") from error
    return saved
