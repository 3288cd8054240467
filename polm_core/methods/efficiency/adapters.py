"""Parameter-efficient fine-tuning: supervised fine-tuning with an adapter, as rows of their own."""

from typing import Any

from polm_core.method import Method, Paper, Paradigm, preset
from polm_core.methods.fine_tuning import sft

_SCHEDULE = ("max_steps", "epochs", "batch_size", "learning_rate", "max_length")
_LOW_RANK = (*_SCHEDULE, "adapter.r", "adapter.alpha")
_HELD_OUT = "Held-out loss that turns up while training loss falls: too much capacity for the rows. Lower r, or stop."


def _adapter(
    slug: str,
    title: str,
    branch: str,
    summary: str,
    when: str,
    paper: Paper,
    *,
    over: str,
    formula: str,
    watch: tuple[str, ...],
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
        objective=f"The loss of supervised fine-tuning, minimised over {over}",
        formula=formula,
        watch=watch,
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
    over="two low-rank factors a layer. The layer's own weights W_0 stay as they are, so the start is the "
    "unchanged model.",
    formula="W = W_0 + alpha/r · B A\nB = 0 at the start",
    watch=(
        _HELD_OUT,
        "A loss well above full training's: raise r, or take rslora from r = 64 on. all-linear beats attention alone.",
        "The learning rate: about ten times that of full training. With full training's it hardly learns.",
        "alpha/r is the size of the step: when r changes, change alpha along with it.",
    ),
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
    over="two low-rank factors a layer, scaled by the root of the rank, so that gradients keep "
    "their size however large r is.",
    formula="W = W_0 + alpha/√r · B A\nB = 0 at the start",
    watch=(
        _HELD_OUT,
        "Spiking gradients after a change from lora: the scale is √r times larger at equal alpha. Lower alpha.",
        "No gain from a higher rank: the task does not need it, and lora at r = 16 is cheaper.",
    ),
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
    over="a magnitude m for each output and low-rank factors of the direction.",
    formula="W = m · (W_0 + alpha/r · B A) / ‖W_0 + alpha/r · B A‖\nm = ‖W_0‖ and B = 0 at the start",
    watch=(
        _HELD_OUT,
        "Speed: the norms cost time at each step. Merged into the weights the model is as fast as before.",
        "Its gain over lora is largest at low ranks: compare the two before paying for it at high ones.",
    ),
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
    over="low-rank factors over weights that are stored in 4 bits and brought back to full precision for each product.",
    formula="W = dequantise(NF4(W_0)) + alpha/r · B A\nB = 0 at the start",
    watch=(
        _HELD_OUT,
        "The loss at the start: the 4-bit model is a little worse than the one it was made of, and training has to "
        "make up for that first.",
        "What it is served on: the adapter fits the 4-bit weights. Over the full ones it is slightly off.",
    ),
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
    over="low-rank factors that start as the r largest singular parts of each weight; what is left of "
    "the weight stays as it is.",
    formula="W = W_0 - alpha/r · B_0 A_0 + alpha/r · B A\n"
    "B = B_0, A = A_0 at the start\n"
    "alpha/r · B_0 A_0 = U_r S_r V_rᵀ",
    watch=(
        _HELD_OUT,
        "The first steps: the loss should fall faster than lora's. When it does not, lora spares the decomposition.",
        "Forgetting: it moves the main directions of the weights. Look at what the model could do before.",
    ),
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
    over="two vectors a layer, d and b. The matrices A and B are random, never trained and the same for all "
    "layers of a shape.",
    formula="W = W_0 + diag(b) B diag(d) A\nb = 0 at the start",
    watch=(
        "A loss that stays above lora's: raise r, which adds hardly any trained weights. Ranks of 256 and more are "
        "usual.",
        "The learning rate: ten times and more that of lora.",
        "Held-out loss that turns up is rare with so few parameters; when it does, the rows are too few.",
    ),
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
    over="rotations of blocks of block_size inputs, by skew-symmetric Q_i. Lengths of the inputs and the "
    "angles between a layer's weights are kept.",
    formula="W = W_0 R\nR = diag(R_1, ..., R_k)\nR_i = (I + Q_i)(I - Q_i)⁻¹\nQ_i = 0 at the start",
    watch=(
        "A loss that stays high: larger blocks can turn more.",
        "A diverging loss: the inverse is a series that holds for small rotations. Lower the learning rate.",
    ),
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
    over="three vectors a block that scale keys, values and what the feed-forward layer computes.",
    formula="k' = l_k ⊙ k\nv' = l_v ⊙ v\nh' = l_ff ⊙ h\nall l = 1 at the start",
    watch=(
        "A loss that levels off high: scales can only make louder or quieter what the model knows. Take lora.",
        "The learning rate: with that of lora it hardly moves, 1e-3 to 1e-2 is usual.",
    ),
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
    over="the biases of the layers, far less than one weight in a hundred.",
    formula="h = W_0 x + b\nonly b is trained",
    watch=(
        "That there are biases: without any the run is refused.",
        "A loss that levels off high: new knowledge does not fit into biases. Take lora.",
        "The learning rate: ten to a hundred times that of full training.",
    ),
    learning_rate=1e-3,
    main_fields=_SCHEDULE,
    type="bitfit",
)

METHODS: tuple[Method, ...] = (LORA, QLORA, DORA, RSLORA, PISSA, VERA, OFT, IA3, BITFIT)
