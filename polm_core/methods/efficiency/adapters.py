"""Parameter-efficient fine-tuning: supervised fine-tuning with an adapter, as rows of their own."""

from polm_core.method import Method, Paper, Paradigm, preset
from polm_core.methods.fine_tuning import sft

_BRANCH = "Parameter-efficient fine-tuning: reparameterised"
_MAIN = ("max_steps", "epochs", "batch_size", "learning_rate", "adapter.r", "adapter.alpha", "max_length")

LORA = preset(
    sft.METHOD,
    slug="lora",
    title="LoRA",
    paradigm=Paradigm.EFFICIENCY,
    branch=_BRANCH,
    summary="Fine-tunes small low-rank matrices beside the frozen model.",
    when="Memory or disk is short, or one model is to serve many tasks. Nearly as good as full training.",
    paper=Paper("LoRA: Low-Rank Adaptation of Large Language Models", "2106.09685"),
    defaults={"learning_rate": 2e-4, "adapter": {"type": "lora", "r": 16, "alpha": 32.0}},
    main_fields=_MAIN,
)

RSLORA = preset(
    sft.METHOD,
    slug="rslora",
    title="rsLoRA",
    paradigm=Paradigm.EFFICIENCY,
    branch=_BRANCH,
    summary="LoRA whose scale lets high ranks learn more instead of stalling.",
    when="The task needs a rank of 64 or more.",
    paper=Paper("A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", "2312.03732"),
    defaults={"learning_rate": 2e-4, "adapter": {"type": "rslora", "r": 64, "alpha": 16.0}},
    main_fields=_MAIN,
)

DORA = preset(
    sft.METHOD,
    slug="dora",
    title="DoRA",
    paradigm=Paradigm.EFFICIENCY,
    branch=_BRANCH,
    summary="LoRA that learns how far weights move apart from the direction they move in.",
    when="LoRA at a low rank falls short of full training; costs a little more time.",
    paper=Paper("DoRA: Weight-Decomposed Low-Rank Adaptation", "2402.09353"),
    defaults={"learning_rate": 2e-4, "adapter": {"type": "dora", "r": 16, "alpha": 32.0}},
    main_fields=_MAIN,
)

QLORA = preset(
    sft.METHOD,
    slug="qlora",
    title="QLoRA",
    paradigm=Paradigm.EFFICIENCY,
    branch=_BRANCH,
    summary="LoRA over a model held in 4 bits.",
    when="The model does not fit into memory otherwise.",
    paper=Paper("QLoRA: Efficient Finetuning of Quantized LLMs", "2305.14314"),
    defaults={"learning_rate": 2e-4, "adapter": {"type": "qlora", "r": 64, "alpha": 16.0, "dropout": 0.05}},
    main_fields=_MAIN,
    devices="Made for GPUs; runs on a CPU too, slower than lora.",
)

METHODS: tuple[Method, ...] = (LORA, QLORA, DORA, RSLORA)
