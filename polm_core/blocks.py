"""Settings that many methods share, as pydantic blocks a method's config is composed of.

The docstring under a field is the help text of the form and the docs. `json_schema_extra` carries what a form needs
besides: the group it stands in, its unit, and where the default comes from.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

MAIN = "main"
SCHEDULE = "schedule"
OPTIMISER = "optimiser"
DATA = "data"
ADAPTER = "adapter"
GENERATION = "generation"
HARDWARE = "hardware"
MAX_DEVICES = 64


def setting(
    default: Any,
    *,
    group: str,
    unit: str = "",
    source: str = "",
    step: float | None = None,
    media: str = "",
    beside: str = "",
    **bounds: Any,
) -> Any:
    """A pydantic field with its form metadata; `bounds` are pydantic's (`ge`, `le`, `gt`, `lt`, `max_length`).

    `media` is the type of what its text holds; a list of `text/plain` is written one on each line. `beside` names what
    of a run a form asks for it beside, in place of the settings.
    """
    extra = {"group": group, "unit": unit, "source": source, "step": step, "contentMediaType": media, "beside": beside}
    return Field(default, json_schema_extra={key: value for key, value in extra.items() if value}, **bounds)


class Block(BaseModel):
    """Base of every settings class: unknown names are refused, NaN and infinity too, docstrings become help."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True)


class AdapterType(StrEnum):
    NONE = "none"
    LORA = "lora"
    RSLORA = "rslora"
    DORA = "dora"
    QLORA = "qlora"
    PISSA = "pissa"
    OLORA = "olora"
    VERA = "vera"
    LOHA = "loha"
    LOKR = "lokr"
    OFT = "oft"
    IA3 = "ia3"
    LN = "ln"
    BITFIT = "bitfit"
    PROMPT = "prompt"
    PREFIX = "prefix"
    P_TUNING = "p-tuning"


SOFT_PROMPTS = frozenset({AdapterType.PROMPT, AdapterType.PREFIX, AdapterType.P_TUNING})
# These split the weights they start from, so without them the model is no longer the one it was.
SPLITTING = frozenset({AdapterType.PISSA, AdapterType.OLORA})
# These train all weights or some of the model's own, and their checkpoints are whole models.
WHOLE_MODEL = frozenset({AdapterType.NONE, AdapterType.BITFIT})

_RANKED = frozenset({"r", "alpha", "dropout", "target_modules"})
_FIELDS_OF: dict[AdapterType, frozenset[str]] = {
    AdapterType.VERA: _RANKED - {"alpha"},
    AdapterType.OFT: frozenset({"block_size", "dropout", "target_modules"}),
    AdapterType.IA3: frozenset({"target_modules"}),
    **dict.fromkeys((*WHOLE_MODEL, AdapterType.LN), frozenset()),
    **dict.fromkeys(SOFT_PROMPTS, frozenset({"virtual_tokens"})),
}


class AdapterConfig(Block):
    """Which weights are trained: all of them, or a small adapter beside the frozen model."""

    type: AdapterType = setting(AdapterType.NONE, group=MAIN)
    """`none` trains all weights. `lora` adds low-rank matrices; `rslora` scales them for high ranks, `dora` also
    learns magnitudes, `qlora` is lora over a model in 4 bits, `pissa` and `olora` begin with the weights' main
    directions. `vera` learns vectors over shared random matrices, `loha` and `lokr` products of small matrices, `oft`
    rotations, `ia3` scales. `ln` trains the norms alone, `bitfit` the biases. `prompt`, `prefix` and `p-tuning` learn
    virtual tokens before the text."""

    r: int = setting(16, group=ADAPTER, source="LoRA, arXiv 2106.09685, section 7.2", ge=1, le=1024)
    """Rank of the adapter's matrices: more rank, more capacity and memory. For lora and its kin, vera, loha, lokr."""

    alpha: float = setting(32.0, group=ADAPTER, source="twice the rank, as in DoRA, arXiv 2402.09353", gt=0, le=4096)
    """Scale of the adapter's output: `alpha / r`, or `alpha / sqrt(r)` for rslora. For lora and its kin, loha, lokr."""

    dropout: float = setting(0.0, group=ADAPTER, source="LoRA Without Regret", step=0.01, ge=0, lt=1)
    """Share of the adapter's inputs, of its parts in loha, lokr and oft, that is dropped at random while training."""

    target_modules: Literal["all-linear"] | list[str] = setting("all-linear", group=ADAPTER, source="QLoRA and peft")
    """Layers that get an adapter: `all-linear` for every linear layer but the output head (for ia3 the keys, values
    and the last of each feed-forward block), or a list of names such as `["q_proj", "v_proj"]`."""

    block_size: int = setting(32, group=ADAPTER, source="peft", ge=2, le=1024)
    """Size of the rotations of oft: larger ones can turn more and cost more."""

    virtual_tokens: int = setting(
        20, group=ADAPTER, unit="tokens", source="arXiv 2104.08691, section 3.2", ge=1, le=1024
    )
    """Learned tokens put before the text by prompt, prefix and p-tuning; they take up context."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """Accept `q_proj, v_proj` from a text field."""
        if isinstance(value, str) and value != "all-linear":
            return [name.strip() for name in value.split(",") if name.strip()]
        return value

    @field_validator("target_modules")
    @classmethod
    def _check_names(cls, value: list[str] | str) -> list[str] | str:
        if isinstance(value, list) and not value:
            raise ValueError("must be all-linear or at least one layer name")
        if isinstance(value, list) and any(name.split(".")[-1] == "lm_head" for name in value):
            raise ValueError("must not hold lm_head: the output head cannot carry an adapter here")
        return value

    @property
    def is_soft_prompt(self) -> bool:
        return self.type in SOFT_PROMPTS

    @property
    def trains_whole_model(self) -> bool:
        """Whether checkpoints are whole models, not adapters beside one."""
        return self.type in WHOLE_MODEL

    @property
    def fields_used(self) -> frozenset[str]:
        """The settings of this block that have a meaning for the chosen type, besides the type itself."""
        return _FIELDS_OF.get(self.type, _RANKED)


class GenerationConfig(Block):
    """How answers to held-out prompts are generated at each evaluation."""

    samples: int = setting(4, group=GENERATION, unit="prompts", ge=0, le=64)
    """Held-out prompts that are answered at each evaluation, to read how the model changes; 0 answers none."""

    max_new_tokens: int = setting(64, group=GENERATION, unit="tokens", ge=1, le=8192)
    """Longest answer."""

    do_sample: bool = setting(False, group=GENERATION)
    """Draw tokens at random; off takes the likeliest token each time, so that evaluations compare."""

    temperature: float = setting(1.0, group=GENERATION, step=0.1, gt=0, le=10)
    """Randomness when sampling: below 1 is more predictable, above 1 more varied."""

    top_p: float = setting(1.0, group=GENERATION, step=0.05, gt=0, le=1)
    """When sampling, keep the likeliest tokens that together reach this probability."""


class BareConfig(Block):
    """What every method shares, even one that reads no rows: its chance, and what it computes on."""

    trains: ClassVar[bool] = False
    task: ClassVar[str] = "language"

    seed: int = setting(42, group=SCHEDULE, source="transformers", ge=0, le=2**32 - 1)
    """Start of every random choice: the same seed, settings and machine give the same run."""

    devices: Literal["auto"] | Annotated[int, Field(ge=0, le=MAX_DEVICES)] = setting("auto", group=HARDWARE)
    """GPUs the run has to itself: `auto` takes one where there is one and else the CPU, `0` stays on the CPU, a number
    waits for as many GPUs of one machine."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Training processes, one a device, that share each batch."""

    @field_validator("devices", mode="before")
    @classmethod
    def _count_devices(cls, value: Any) -> Any:
        """A number, also from a text field; `cpu` and `gpu` are older names for 0 and 1."""
        given = value.strip().lower() if isinstance(value, str) else value
        given = {"cpu": 0, "gpu": 1}.get(given, given) if isinstance(given, str) else given
        if isinstance(given, str) and given.isascii() and given.isdigit():
            given = int(given)
        whole = isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= MAX_DEVICES
        if given != "auto" and not whole:
            raise ValueError(f"must be auto, 0 for the CPU, or a number of GPUs up to {MAX_DEVICES}, not {value!r}")
        return given

    @field_validator("processes")
    @classmethod
    def _check_processes(cls, value: int, info: ValidationInfo) -> int:
        devices = info.data.get("devices")
        if isinstance(devices, int) and 0 < devices < value:
            raise ValueError(f"must be at most devices, {devices}: each process has a GPU of its own")
        return value


class OneProcessConfig(BareConfig):
    """A method with work that is not shared among processes, such as writing answers before learning from them.

    Among several bases it stands last: pydantic takes a field from the first base that has it, changed there or not.
    """

    @field_validator("processes")
    @classmethod
    def _check_one(cls, processes: int) -> int:
        if processes > 1:
            raise ValueError("must be 1: this method does its work in one process")
        return processes


class RunConfig(BareConfig):
    """What every method shares that reads rows, whether it trains or not. The class variables, here and in what builds
    on this, tell the shared steps what a method needs of them."""

    drops_long_rows: ClassVar[bool] = False
    reads_images: ClassVar[bool] = False

    batch_size: int = setting(8, group=MAIN, unit="rows per device", source="trl", ge=1, le=4096)
    """Rows in one forward pass on one device: lower it when memory runs out."""

    max_length: int = setting(1024, group=DATA, unit="tokens", source="trl", ge=8, le=1_048_576)
    """Longest row; what is beyond is cut off."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting("auto", group=HARDWARE)
    """Number format of the computation. `auto` takes bf16 where a GPU has it, fp16 on older ones, fp32 on a CPU."""

    eval_rows: int = setting(200, group=SCHEDULE, unit="rows", ge=1, le=100_000)
    """Most held-out rows an evaluation takes."""


class TrainConfig(RunConfig):
    """What every gradient method shares."""

    trains: ClassVar[bool] = True
    takes_soft_prompts: ClassVar[bool] = False
    compares_with_reference: ClassVar[bool] = False

    max_steps: int = setting(0, group=MAIN, unit="steps", ge=0, le=10_000_000)
    """Optimiser steps to train for; 0 lets the epochs decide."""

    epochs: float = setting(1.0, group=MAIN, unit="epochs", gt=0, le=1000)
    """Passes over the training rows; not used when the steps are given."""

    gradient_accumulation_steps: int = setting(1, group=OPTIMISER, unit="passes", ge=1, le=4096)
    """Forward passes added up into one optimiser step: the effective batch is this times the batch size."""

    learning_rate: float = setting(2e-5, group=MAIN, source="trl", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt", "polynomial"] = (
        setting("linear", group=OPTIMISER, source="trl")
    )
    """How the learning rate falls over the run."""

    warmup_ratio: float = setting(0.0, group=OPTIMISER, unit="share of steps", source="trl", step=0.01, ge=0, lt=1)
    """Share of the steps over which the learning rate climbs from 0 to its peak."""

    weight_decay: float = setting(0.0, group=OPTIMISER, source="trl", step=0.01, ge=0, le=1)
    """Pull of the weights towards 0 at each step."""

    max_grad_norm: float = setting(1.0, group=OPTIMISER, source="trl", step=0.1, ge=0, le=1000)
    """Longer gradients are cut to this length; 0 cuts none."""

    gradient_checkpointing: bool = setting(False, group=HARDWARE)
    """Compute activations twice to save memory: about a fifth slower."""

    logging_steps: int = setting(1, group=SCHEDULE, unit="steps", ge=1, le=100_000)
    """Steps between two points of the training curves."""

    eval_steps: int = setting(50, group=SCHEDULE, unit="steps", ge=0, le=10_000_000)
    """Steps between evaluations on held-out rows; the start and the end are always evaluated, 0 leaves it at these."""

    save_steps: int = setting(100, group=SCHEDULE, unit="steps", ge=0, le=10_000_000)
    """Steps between checkpoints; the end is always saved, 0 leaves it at that."""

    adapter: AdapterConfig = setting(AdapterConfig(), group=ADAPTER)
    """Train all weights or an adapter."""

    @property
    def has_reference(self) -> bool:
        """Whether the run holds what it started from beside what it trains."""
        return self.compares_with_reference

    @field_validator("adapter")
    @classmethod
    def _check_adapter(cls, adapter: AdapterConfig, info: ValidationInfo) -> AdapterConfig:
        if adapter.is_soft_prompt and not cls.takes_soft_prompts:
            raise ValueError(f"must not be of type {adapter.type}: only supervised methods train virtual tokens")
        if adapter.type is AdapterType.PREFIX and info.data.get("gradient_checkpointing"):
            raise ValueError("must not be of type prefix with gradient_checkpointing, which loses the prefix")
        return adapter


class WritingConfig(TrainConfig):
    """A gradient method whose model writes text, so it answers held-out prompts as it trains."""

    generation: GenerationConfig = setting(GenerationConfig(), group=GENERATION)
    """Answers to held-out prompts at each evaluation."""
