"""Parameter-efficient fine-tuning: supervised fine-tuning with an adapter, as rows of their own."""

from typing import Any

from polm_core.method import Method, Paper, Paradigm, preset
from polm_core.methods.fine_tuning import sft

_SCHEDULE = ("max_steps", "epochs", "batch_size", "learning_rate", "max_length")
_LOW_RANK = (*_SCHEDULE, "adapter.r", "adapter.alpha")


def _adapter(
    slug: str,
    title: str,
    branch: str,
    summary: str,
    when: str,
    paper: Paper,
    *,
    learning_rate: float,
    main_fields: tuple[str, ...] = _LOW_RANK,
    devices: str = "",
    **adapter: Any,
) -> Method:
    return preset(
        sft.METHOD,
        slug=slug,
        title=title,
        paradigm=Paradigm.EFFICIENCY,
        branch=f"Parameter-efficient fine-tuning: {branch}",
        summary=summary,
        when=when,
        paper=paper,
        defaults={"learning_rate": learning_rate, "adapter": adapter},
        main_fields=main_fields,
        devices=devices,
    )


LORA = _adapter(
    "lora",
    "LoRA",
    "reparameterised",
    "Fine-tunes small low-rank matrices beside the frozen model.",
    "Memory or disk is short, or one model is to serve many tasks. Nearly as good as full training.",
    Paper("LoRA: Low-Rank Adaptation of Large Language Models", "2106.09685"),
    learning_rate=2e-4,
    type="lora",
    r=16,
    alpha=32.0,
)

RSLORA = _adapter(
    "rslora",
    "rsLoRA",
    "reparameterised",
    "LoRA whose scale lets high ranks learn more instead of stalling.",
    "The task needs a rank of 64 or more.",
    Paper("A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", "2312.03732"),
    learning_rate=2e-4,
    type="rslora",
    r=64,
    alpha=16.0,
)

DORA = _adapter(
    "dora",
    "DoRA",
    "reparameterised",
    "LoRA that learns how far weights move apart from the direction they move in.",
    "LoRA at a low rank falls short of full training; costs a little more time.",
    Paper("DoRA: Weight-Decomposed Low-Rank Adaptation", "2402.09353"),
    learning_rate=2e-4,
    type="dora",
    r=16,
    alpha=32.0,
)

QLORA = _adapter(
    "qlora",
    "QLoRA",
    "reparameterised",
    "LoRA over a model held in 4 bits.",
    "The model does not fit into memory otherwise.",
    Paper("QLoRA: Efficient Finetuning of Quantized LLMs", "2305.14314"),
    learning_rate=2e-4,
    devices="Made for GPUs; runs on a CPU too, slower than lora.",
    type="qlora",
    r=64,
    alpha=16.0,
    dropout=0.05,
)

PISSA = _adapter(
    "pissa",
    "PiSSA",
    "reparameterised",
    "LoRA that begins with the weights' main directions instead of at nothing.",
    "LoRA learns too slowly. Starting takes a decomposition of every layer.",
    Paper("PiSSA: Principal Singular Values and Singular Vectors Adaptation", "2404.02948"),
    learning_rate=2e-4,
    type="pissa",
    r=16,
    alpha=16.0,
)

VERA = _adapter(
    "vera",
    "VeRA",
    "reparameterised",
    "Learns two vectors a layer over random matrices that all layers share.",
    "Adapters must be far smaller than LoRA's.",
    Paper("VeRA: Vector-based Random Matrix Adaptation", "2310.11454"),
    learning_rate=1e-2,
    main_fields=(*_SCHEDULE, "adapter.r"),
    type="vera",
    r=256,
)

OFT = _adapter(
    "oft",
    "OFT",
    "reparameterised",
    "Rotates the weights in small blocks, which keeps the angles between them.",
    "The model must keep what it knows while it learns a task or a style.",
    Paper("Controlling Text-to-Image Diffusion by Orthogonal Finetuning", "2306.07280"),
    learning_rate=1e-3,
    main_fields=(*_SCHEDULE, "adapter.block_size"),
    type="oft",
    block_size=32,
)

IA3 = _adapter(
    "ia3",
    "(IA)³",
    "additive",
    "Learns a scale for each key, value and feed-forward activation.",
    "Few examples and very many tasks: the smallest adapters that still work.",
    Paper("Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", "2205.05638"),
    learning_rate=1e-2,
    main_fields=(*_SCHEDULE, "adapter.target_modules"),
    type="ia3",
)

BITFIT = _adapter(
    "bitfit",
    "BitFit",
    "selective",
    "Trains the model's biases alone.",
    "The model has biases, as those of Qwen2 and Falcon do and Llama's do not, and the task is near what it can do.",
    Paper("BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models", "2106.10199"),
    learning_rate=1e-3,
    main_fields=_SCHEDULE,
    type="bitfit",
)

METHODS: tuple[Method, ...] = (LORA, QLORA, DORA, RSLORA, PISSA, VERA, OFT, IA3, BITFIT)
