"""Instruction tuning of models that read images, and of the connector alone, with trl's SFTTrainer."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import MAIN, AdapterConfig, WritingConfig, setting
from polm_core.context import ModelSpec, RunContext
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm, preset
from polm_core.methods.fine_tuning.sft import CHARTS, check_trained
from polm_core.training.rows import Row, load_split
from polm_core.training.sampling import WriteSamples
from polm_core.training.vision import SMALL, Trained

logger = logging.getLogger(__name__)

FORMATS = (Format.IMAGE_CONVERSATION,)
_PAPER = Paper("Visual Instruction Tuning", "2304.08485")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Answers of so few words are right or wrong; longer ones can be put in many ways.
_CHECKED_WORDS = 5


class VisionConfig(WritingConfig):
    """Settings of training on images with text."""

    reads_images: ClassVar[bool] = True
    # The tokens of an image are whole or nothing.
    drops_long_rows: ClassVar[bool] = True

    train: Trained = setting("all", group=MAIN)
    """What is trained: `all` of the model, the `connector` alone, which maps what the tower sees into the language
    model, or `connector-and-language` with the tower frozen, which is for towers that see well already."""

    vision_tower: str = setting(SMALL, group=MAIN, max_length=200)
    """The tower that a language model gets to see with: `small` is one of four layers that begins at random, for simple
    pictures; the id of a CLIP or SigLIP model on the hub brings a trained one. Models that read images keep theirs."""

    image_size: int = setting(32, group=MAIN, unit="pixels a side", ge=16, le=512, multiple_of=8)
    """To what size the small tower has images scaled: each square of 8 pixels becomes one token."""

    @field_validator("vision_tower")
    @classmethod
    def _check_tower(cls, tower: str) -> str:
        if tower != SMALL and not _HUB_ID.fullmatch(tower):
            raise ValueError(f"must be {SMALL} or the id of a model on the hub, such as openai/clip-vit-base-patch32")
        return tower

    @field_validator("adapter")
    @classmethod
    def _check_whole(cls, adapter: AdapterConfig, info: ValidationInfo) -> AdapterConfig:
        if adapter.type != "none":
            raise ValueError("must be of type none: the connector is trained as it is")
        return adapter


def run(config: VisionConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import resume_path, train
    from polm_core.training.vision import freeze_all_but, load_processor, load_vision_model, vision_collator

    set_seed(config.seed)
    context.phase("reading the data")
    split = load_split(context.spec, FORMATS, eval_rows=config.eval_rows, seed=config.seed)
    processor = load_processor(context.spec.model, config.vision_tower, config.image_size)
    split = split._replace(
        train=_fitting(processor, split.train, config.max_length),
        held_out=_fitting(processor, split.held_out, config.max_length),
    )
    check_trained(split.train, config.max_length)
    context.check()
    context.phase("loading the model")
    # A run that goes on has built its model already.
    start = ModelSpec(path=Path(saved)) if (saved := resume_path(context)) else context.spec.model
    model = load_vision_model(start, config, processor, config.vision_tower, config.image_size)
    freeze_all_but(model, config.train)

    class Trainer(SFTTrainer):
        def _load_from_checkpoint(self, *_: Any) -> None:
            """Nothing: the model is the checkpoint's. Vision models are saved under other names than they have in
            memory, which this would not find again."""

    trainer = Trainer(
        model=model,
        args=SFTConfig(**training_arguments(config, context.run_dir), max_length=None),
        train_dataset=Dataset.from_list(split.train),
        eval_dataset=Dataset.from_list(split.held_out) if split.held_out else None,
        processing_class=processor,
        data_collator=vision_collator(processor),
    )
    return train(trainer, context, config, split, write_samples=_answering(context, config, split.held_out))


def _fitting(processor: Any, rows: Sequence[Row], limit: int) -> list[Row]:
    """The rows that are no longer than `limit` tokens, images included."""
    from polm_core.training.vision import encode_image_rows

    encoded = encode_image_rows(processor, rows)
    kept = [row for row, (sequence,) in zip(rows, encoded, strict=True) if len(sequence.input_ids) <= limit]
    if len(kept) < len(rows):
        logger.warning("%d of %d rows are over %d tokens and are left out.", len(rows) - len(kept), len(rows), limit)
    return kept


def _answering(context: RunContext, config: VisionConfig, held_out: Sequence[Row]) -> WriteSamples | None:
    """Has the model answer held-out rows: the first of them to be read, and those with short answers to be checked."""
    from polm_core.training.encoding import as_asked, plain_text
    from polm_core.training.vision import answers_about

    shown = config.generation.samples
    asked = [(index, row) for index, row in enumerate(held_out) if index < shown or _is_short(row)]
    if not asked:
        return None

    def write(model: Any, processor: Any, step: int) -> None:
        rows = [row for _, row in asked]
        answers = answers_about(
            model, processor, rows, config.generation, seed=config.seed + step, at_once=config.batch_size
        )
        for (index, row), answer in zip(asked, answers, strict=True):
            if index < shown:
                context.log_sample(
                    step,
                    plain_text(row["prompt"]),
                    answer,
                    reference=plain_text(row["completion"]),
                    row=index,
                    images=[Path(path).name for path in row["images"]],
                    **as_asked(row["prompt"]),
                )
        right = [_same(answer, row) for row, answer in zip(rows, answers, strict=True) if _is_short(row)]
        if right:
            context.log_metrics(step, {"eval/accuracy": sum(right) / len(right)})

    return write


def _is_short(row: Row) -> bool:
    return len(_said(row).split()) <= _CHECKED_WORDS


def _same(answer: str, row: Row) -> bool:
    """Whether the answer has the words of the row's own, whatever their case and the full stop."""
    said, known = (" ".join(text.casefold().strip(" .\n").split()) for text in (answer, _said(row)))
    return said == known


def _said(row: Row) -> str:
    return str(row["completion"][-1]["content"])


METHOD = Method(
    slug="vlm-sft",
    title="Visual instruction tuning",
    paradigm=Paradigm.INTEGRATION,
    branch="Multimodal integration",
    summary="Trains a model to answer questions about images.",
    when="You have images with questions and answers. A language model is given a vision tower to see with; models "
    "that read images already are trained as they are.",
    paper=_PAPER,
    formats=FORMATS,
    config=VisionConfig,
    run=run,
    charts=(
        CHARTS[0],
        ChartSpec(
            "Accuracy",
            ("eval/accuracy",),
            "share of answers right",
            "Held-out answers of at most five words that the model gives word for word. It rises after the loss falls.",
        ),
        *CHARTS[1:],
    ),
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "train", "vision_tower", "image_size"),
    objective="Minimises the negative log-likelihood of the answer's tokens T, each predicted from the image v, the "
    "question x and the true text before it. The connector `W` maps what the vision tower `g` sees to tokens.",
    formula="L = -1/|T| Σ_{t ∈ T} log π(y_t | W g(v), x, y_{<t})",
    watch=(
        "A small tower begins at random and sees simple pictures at best: for photographs take a trained one.",
        "A held-out loss that falls while accuracy stays: the model has learned what answers look like, and does not "
        "look at the images yet. Train longer, with a higher learning rate.",
        "Rows over max_length are left out: an image takes up tokens too, more the larger it is read.",
    ),
    sources={"lr_scheduler": "LLaVA", "warmup_ratio": "LLaVA"},
    defaults={"lr_scheduler": "cosine", "warmup_ratio": 0.03, "generation": {"max_new_tokens": 32}},
)

CONNECTOR = preset(
    METHOD,
    slug="vlm-connector",
    title="Modal connection",
    summary="Trains only the connector between a vision tower and a language model.",
    when="The first stage of a vision model: a trained tower and a language model stay as they are and learn to be "
    "joined. Go on with visual instruction tuning from its checkpoint.",
    paper=_PAPER,
    defaults={"train": "connector", "learning_rate": 2e-3},
    objective="As visual instruction tuning, with the weights of the connector `W` alone: tower `g` and language model "
    "stay as they are.",
    watch=(
        "A small tower that begins at random sees little, and stays as it is: take a trained one, or a model that "
        "visual instruction tuning has trained.",
        *METHOD.watch[1:],
    ),
)

METHODS = (METHOD, CONNECTOR)
