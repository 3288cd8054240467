"""Loading models and tokenizers: safetensors only, and never code that a model brings along."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polm_core.blocks import AdapterType, BareConfig, RunConfig, TrainConfig
from polm_core.context import ModelSpec
from polm_core.environment import hide_progress_bars
from polm_core.errors import ConfigError, ModelError, ResourceError
from polm_core.quantised import quantisation_of
from polm_core.training.adapters import (
    apply_adapter,
    check_continues,
    check_merges,
    continue_adapter,
    gives_rewards,
    judges_steps,
    merge_adapter,
)
from polm_core.training.encoding import ensure_chat_template
from polm_core.training.faults import as_polm_error

logger = logging.getLogger(__name__)

# Adapters that train over weights which stay as they are, by what those are quantised to.
OVER_QUANTISED = {"nf4": (AdapterType.LORA, AdapterType.QLORA, AdapterType.RSLORA)}


def load_tokenizer(model: ModelSpec) -> Any:
    """The model's tokenizer, with a pad token and a chat template. Raises `ModelError` when there is none to use."""
    from transformers import AutoTokenizer

    check_folder(model)
    source = model.adapter if model.adapter is not None and (model.adapter / "tokenizer.json").is_file() else None
    with loading(model, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(str(source or model.source), **options_of(model))
    if not tokenizer.is_fast:
        raise ModelError(f"{model.name} has no fast tokenizer (tokenizer.json), which is needed to mark answers.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if ensure_chat_template(tokenizer):
        logger.warning("%s has no chat template: ChatML turns are used and saved with its checkpoints.", model.name)
    return tokenizer


def load_model(model: ModelSpec, config: TrainConfig) -> Any:
    """The model to train, in fp32 or in what its adapter trains over, with the adapter it starts from.

    Raises `ModelError` when the model cannot be found or is of a kind that cannot be trained, `ResourceError` when a
    GPU is asked for and there is none.
    """
    loaded = _language_model(model, config)
    return continue_adapter(loaded, model.adapter, config.adapter) if model.adapter is not None else loaded


def load_writer(model: ModelSpec) -> Any:
    """The model to generate with, whatever adapter it has. Raises `ModelError` as `load_model` does."""
    loaded = _language_model(model, TrainConfig())
    return apply_adapter(loaded, model.adapter) if model.adapter is not None else loaded


def load_quantised(model: ModelSpec, quantisation_config: Any, config: RunConfig) -> Any:
    """A model that writes and has no adapter, quantised; what stays as it is keeps the number format of its files."""
    from transformers import AutoModelForCausalLM

    check_folder(model)
    _check_writes(model)
    hide_progress_bars()
    options = options_of(model) | {"dtype": "auto", "use_safetensors": True, "quantization_config": quantisation_config}
    if has_accelerator(config):
        options["device_map"] = {"": training_device(config)}
    with loading(model, "model"):
        return AutoModelForCausalLM.from_pretrained(model.source, **options)


def stored_dtype(model: ModelSpec) -> Any:
    """The number format that the config of a model says its files are in; fp32 when it says none."""
    import torch
    from transformers import AutoConfig

    with loading(model, "config"):
        found = AutoConfig.from_pretrained(model.source, **options_of(model)).dtype
    return found or torch.float32


def load_reward_model(model: ModelSpec, config: TrainConfig) -> Any:
    """A model that gives a text one number: a reward model as it was trained, or a language model with a new head.

    A language model's adapter is merged in first; a reward model's own is trained on or merged as for `load_model`.
    """
    from transformers import AutoModelForSequenceClassification

    loaded = from_pretrained(model, config, AutoModelForSequenceClassification, num_labels=1)
    return _with_adapter(loaded, model, config, is_own=gives_rewards)


def load_step_judge(model: ModelSpec, config: TrainConfig) -> Any:
    """A model that gives each token the odds of a right step: as it was trained, or with a new head.

    Adapters are treated as by `load_reward_model`.
    """
    from transformers import AutoModelForTokenClassification

    loaded = from_pretrained(model, config, AutoModelForTokenClassification, num_labels=2)
    return _with_adapter(loaded, model, config, is_own=judges_steps)


def _with_adapter(loaded: Any, model: ModelSpec, config: TrainConfig, is_own: Callable[[Path], bool]) -> Any:
    """A model with a head, and the adapter that it comes with: its own, or one of the language model below it."""
    from transformers import AutoModelForCausalLM

    if model.adapter is None:
        return loaded
    if is_own(model.adapter):
        return continue_adapter(loaded, model.adapter, config.adapter)
    writer = merge_adapter(from_pretrained(model, config, AutoModelForCausalLM), model.adapter)
    setattr(loaded, loaded.base_model_prefix, getattr(writer, writer.base_model_prefix).requires_grad_(True))
    return loaded


def load_scorer(model: ModelSpec, config: TrainConfig) -> Any:
    """A reward model or a process reward model to score with, whatever adapter it has.

    Raises `ModelError` for one that was not trained to.
    """
    check_scorer(model)
    return load_step_judge(model, config) if is_step_judge(model) else load_reward_model(model, config)


def check_scorer(model: ModelSpec) -> None:
    """Raise `ModelError` when a model scores neither answers nor their steps; no weight is loaded."""
    check_folder(model)
    if is_step_judge(model):
        _check_step_labels(model)
    elif not is_reward_model(model):
        raise _no_scorer(model)


def _check_step_labels(model: ModelSpec) -> None:
    """Refuse a model that sorts tokens into kinds of its own, such as names: a step is wrong or right."""
    labels = _config(model).get("id2label")
    own_head = model.adapter is None or not judges_steps(model.adapter)
    if own_head and labels is not None and len(labels) != 2:
        raise ModelError(
            f"{model.name} sorts tokens into {len(labels)} kinds: a process reward model has two, wrong and right.",
            code="model.no_reward",
            advice="Train one with the method prm, or take another.",
        )


def check_writer(model: ModelSpec) -> None:
    """Raise `ModelError` when a model on this disk writes no text, as a judge has to; no weight is loaded."""
    check_folder(model)
    _check_writes(model)
    _check_reads_text(model)


def _no_scorer(model: ModelSpec) -> ModelError:
    return ModelError(
        f"{model.name} is no reward model: it gives answers no score.",
        code="model.no_reward",
        advice="Train one with the method reward-model, or prm for one that judges steps, or take another.",
    )


def check_start(model: ModelSpec, config: TrainConfig) -> None:
    """Raise `ModelError` or `ConfigError` when a run of `config` cannot start from `model`; no weight is loaded."""
    check_folder(model)
    if config.task == "language":
        _check_writes(model)
    check_quantised(model, config)
    if not config.reads_images:
        _check_reads_text(model)
    if model.adapter is None:
        return
    is_own = {"reward": gives_rewards, "steps": judges_steps}.get(config.task)
    if is_own is not None and not is_own(model.adapter):
        check_merges(model.adapter)
    else:
        check_continues(model.adapter, config.adapter)


def _language_model(model: ModelSpec, config: TrainConfig) -> Any:
    from transformers import AutoModelForCausalLM

    check_folder(model)
    _check_writes(model)
    _check_reads_text(model)
    return from_pretrained(model, config, AutoModelForCausalLM)


def _check_writes(model: ModelSpec) -> None:
    if is_reward_model(model):
        raise ModelError(
            f"{model.name} is a reward model: it scores answers and writes none.",
            code="model.reward",
            advice="Take the model it was trained from.",
        )
    if is_step_judge(model):
        raise ModelError(
            f"{model.name} is a process reward model: it judges steps and writes none.",
            code="model.reward",
            advice="Take the model it was trained from.",
        )


def _check_reads_text(model: ModelSpec) -> None:
    if reads_images(model):
        raise ModelError(
            f"{model.name} is a vision model, and a language model is needed here.",
            code="model.vision",
            advice="Train it on with vlm-sft or vlm-connector, or take the language model it was built on.",
        )


def reads_images(model: ModelSpec) -> bool:
    """Whether the model reads images beside text. Raises `ModelError` when the hub does not tell."""
    if model.path is not None:
        return "vision_config" in _read_config(model.path)
    from transformers import AutoConfig

    with loading(model, "config"):
        config = AutoConfig.from_pretrained(model.source, **options_of(model))
    return hasattr(config, "vision_config")


def is_reward_model(model: ModelSpec) -> bool:
    """Whether the model, or the adapter it comes with, was trained to give rewards."""
    if model.adapter is not None and gives_rewards(model.adapter):
        return True
    return _scores(_architectures(model))


def is_step_judge(model: ModelSpec) -> bool:
    """Whether the model, or the adapter it comes with, was trained to judge steps."""
    if model.adapter is not None and judges_steps(model.adapter):
        return True
    return any(str(name).endswith("ForTokenClassification") for name in _architectures(model))


def _architectures(model: ModelSpec) -> Sequence[Any]:
    return _config(model).get("architectures") or ()


def _config(model: ModelSpec) -> dict[str, Any]:
    """The model's own `config.json`, from this disk or the hub."""
    from transformers import PretrainedConfig

    if model.path is not None:
        return _read_config(model.path)
    with loading(model, "configuration"):
        found: dict[str, Any] = PretrainedConfig.get_config_dict(model.source, **options_of(model))[0]
    return found


def _scores(architectures: Any) -> bool:
    return any(str(name).endswith("ForSequenceClassification") for name in architectures or ())


def from_pretrained(model: ModelSpec, config: TrainConfig, loader: Any, **more: Any) -> Any:
    hide_progress_bars()
    check_folder(model)
    options = options_of(model) | {"dtype": weight_dtype(config), "use_safetensors": True, **more}
    if config.adapter.type is AdapterType.QLORA and not quantisation(model):
        options["quantization_config"] = four_bits(weight_dtype(config))
    with loading(model, "model"):
        loaded = loader.from_pretrained(model.source, **options)
    _keep_trainable(loaded)
    return loaded


def quantisation(model: ModelSpec) -> str:
    """What a model on this disk is quantised to; empty when it is not."""
    return quantisation_of(_read_config(model.path)) if model.path is not None else ""


def is_quantised(model: Any) -> bool:
    """Whether a loaded model has weights that are packed, and that cannot be brought to another number format."""
    return bool(getattr(model, "is_quantized", False))


def move(model: Any, device: Any) -> Any:
    """The model on the device. In 4 bits it is where it belongs already, and cannot be moved."""
    return model if getattr(model, "is_loaded_in_4bit", False) else model.to(device)


def check_quantised(model: ModelSpec, config: TrainConfig) -> None:
    """Raise `ConfigError` or `ModelError` when a run would train weights of a model on this disk that are quantised."""
    found = quantisation(model)
    fitting = OVER_QUANTISED.get(found, ()) if config.task == "language" else ()
    if not found or config.adapter.type in fitting:
        return
    told = f"{model.name} is quantised to {found}, and weights that are quantised are not trained"
    if not fitting:
        raise ModelError(f"{told}.", code="model.quantised", advice="Start from the model that it was made of.")
    problem = f"must be {' or '.join(fitting)}: {told}. Or start from the model that it was made of"
    raise ConfigError(f"adapter.type {problem}.", fields={"config.adapter.type": [problem]})


def _keep_trainable(model: Any) -> None:
    """Have 4-bit layers keep their layout on CPUs with AVX512-BF16.

    There, bitsandbytes repacks the weights at the first evaluation for a kernel that has no gradient, and training
    after it silently learns nothing below the last layer.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def check_folder(model: ModelSpec) -> None:
    """Raise `ModelError` unless a local model's folder holds a config and safetensors weights."""
    folder = model.path
    if folder is None:
        return
    if not folder.is_dir():
        raise ModelError(f"There is no folder {folder}.", code="model.missing", advice="Give the folder of a model.")
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} holds no model: it has no config.json.",
            code="model.missing",
            advice="Give the folder that save_pretrained wrote; an adapter alone goes beside its base model.",
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has no safetensors weights; other weight files can run code and are not loaded.",
            code="model.unsafe",
            advice="Load the model once where you trust it and save it with save_pretrained.",
        )
    if "auto_map" in _read_config(folder):
        raise ModelError(
            f"The model in {folder} brings its own Python code, which is not run.",
            code="model.remote_code",
            advice="Take a model of an architecture that transformers knows.",
        )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON.") from error
    return config if isinstance(config, dict) else {}


def options_of(model: ModelSpec) -> dict[str, Any]:
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": model.path is not None}
    if model.revision:
        options["revision"] = model.revision
    return options


@contextmanager
def loading(model: ModelSpec, what: str) -> Iterator[None]:
    """Tell a file that cannot be loaded, whatever the libraries raise for it, apart from a machine that is full."""
    try:
        yield
    except Exception as error:
        raise as_polm_error(error) or unloadable(model, what, error) from error


def unloadable(model: ModelSpec, what: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300]
    if model.hub_id is not None:
        return ModelError(
            f"The {what} of {model.hub_id} could not be loaded from the hub: {reason}",
            code="model.hub",
            advice="Check the id, that this machine reaches the hub (HF_ENDPOINT), and that a token is set for "
            "gated models; or give the folder of a downloaded copy.",
        )
    return ModelError(f"The {what} in {model.path} could not be loaded: {reason}", code="model.unloadable")


def has_accelerator(config: BareConfig) -> bool:
    """Whether the run computes on GPUs. Raises `ResourceError` when it asks for more of them than there are."""
    import torch

    present = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    wanted = config.devices if isinstance(config.devices, int) else 0
    if wanted > present:
        raise ResourceError(
            f"The run asks for {_gpus(wanted)} and this machine has {present or 'none'}.",
            code="resource.device",
            advice="Set devices to auto, or to 0 for the CPU, or send the run to a worker that has them.",
        )
    return present > 0 and config.devices != 0


def training_device(config: BareConfig) -> Any:
    """The device that this process of the run computes on."""
    import torch
    from accelerate import PartialState

    return PartialState().device if has_accelerator(config) else torch.device("cpu")


def _gpus(count: int) -> str:
    return "a GPU" if count == 1 else f"{count} GPUs"


def compute_precision(config: RunConfig) -> str:
    """`fp32`, `bf16` or `fp16`: what `auto` means here. Raises `ConfigError` for fp16 on a CPU."""
    import torch

    accelerated = has_accelerator(config)
    if config.precision == "fp16" and not accelerated:
        problem = "must be fp32 or bf16 without a GPU: fp16 training needs one"
        raise ConfigError(f"precision {problem}.", fields={"config.precision": [problem]})
    if config.precision != "auto":
        return config.precision
    if not accelerated:
        return "fp32"
    return "bf16" if not torch.cuda.is_available() or torch.cuda.is_bf16_supported() else "fp16"


def compute_dtype(config: RunConfig) -> Any:
    """The number format of `compute_precision`, as torch has it."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[compute_precision(config)]


def weight_dtype(config: TrainConfig) -> Any:
    """What weights are loaded in: full training keeps fp32 masters; frozen weights under an adapter need no more
    than the precision they compute in."""
    import torch

    if config.adapter.trains_whole_model or compute_precision(config) != "bf16":
        return torch.float32
    return torch.bfloat16


def four_bits(dtype: Any) -> Any:
    """NF4 with double quantisation, as in QLoRA (arXiv 2305.14314), that computes in `dtype`."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
