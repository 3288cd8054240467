"""Supervised fine-tuning on demonstrations, of all weights or an adapter, with trl's SFTTrainer."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import DATA, MAIN, OPTIMISER, AdapterConfig, WritingConfig, setting
from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.training.encoding import LossOn, encode_rows
from polm_core.training.rows import Row, Split

if TYPE_CHECKING:
    from polm_core.training.reporting import Stage
    from polm_core.training.setup import Model

logger = logging.getLogger(__name__)

FORMATS = (Format.CONVERSATION, Format.PROMPT_COMPLETION)
_PACKABLE = 64


class SupervisedConfig(WritingConfig):
    """Settings of every method that trains on the tokens of its rows."""

    takes_soft_prompts: ClassVar[bool] = True

    loss: Literal["nll", "dft"] = setting("nll", group=MAIN, source="trl")
    """`nll` is the usual likelihood loss; `dft` weighs each token by its own probability, which generalises better
    on reasoning data (arXiv 2508.05629)."""

    packing: bool = setting(False, group=DATA, source="trl")
    """Fill each sequence up to the longest length with several rows: faster when rows are short."""

    neftune_noise_alpha: float = setting(
        0.0, group=OPTIMISER, source="NEFTune, arXiv 2310.05914, uses 5 to 15", step=1, ge=0, le=100
    )
    """Noise added to the embeddings while training, which can make answers fuller; 0 adds none."""

    @field_validator("loss")
    @classmethod
    def _check_loss(cls, loss: str, info: ValidationInfo) -> str:
        if loss == "dft" and _has_soft_prompt(info):
            raise ValueError("must be nll with virtual tokens, which dft does not count")
        return loss

    @field_validator("packing")
    @classmethod
    def _check_packing(cls, packing: bool, info: ValidationInfo) -> bool:
        if packing and info.data.get("max_length", _PACKABLE) < _PACKABLE:
            raise ValueError(f"needs a max_length of at least {_PACKABLE} tokens to pack rows into")
        if packing and _has_soft_prompt(info):
            raise ValueError("must be off with virtual tokens, which stand at the start of each row")
        return packing


def _has_soft_prompt(info: ValidationInfo) -> bool:
    adapter = info.data.get("adapter")
    return isinstance(adapter, AdapterConfig) and adapter.is_soft_prompt


class SftConfig(SupervisedConfig):
    """Settings of supervised fine-tuning."""

    loss_on: LossOn = setting("answers", group=DATA)
    """`answers` trains on what the assistant said alone; `everything` on the prompts too."""


def run(config: SftConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    return train_supervised(config, context, formats=FORMATS, loss_on=config.loss_on, packing_strategy="bfd")


def train_supervised(
    config: SupervisedConfig,
    context: RunContext,
    *,
    formats: Sequence[Format],
    loss_on: LossOn,
    packing_strategy: Literal["bfd", "wrapped"],
) -> dict[str, float]:
    """The whole of a supervised run on rows of `formats`; also what continued pretraining is made of."""
    from polm_core.training.setup import read_data

    split, tokenizer = read_data(config, context, formats)
    return fine_tune(config, context, split, tokenizer, loss_on=loss_on, packing_strategy=packing_strategy)


def fine_tune(
    config: SupervisedConfig,
    context: RunContext,
    split: Split,
    tokenizer: Any,
    *,
    loss_on: LossOn,
    packing_strategy: Literal["bfd", "wrapped"],
    brought: "Model | None" = None,
    stage: "Stage | None" = None,
    dress: Callable[[type], type] = lambda trainer: trainer,
) -> dict[str, float]:
    """Supervised training on rows that are there already, of the model that was `brought` for it, if one was.

    `stage` is where it stands in a run that does more than this, `dress` gives the trainer what else it is to do.
    """
    from trl import SFTConfig, SFTTrainer

    from polm_core.training.arguments import training_arguments
    from polm_core.training.loop import train
    from polm_core.training.reporting import Stage
    from polm_core.training.setup import bring_model

    train_set = tokenised(
        tokenizer, split.train, split.format, loss_on, limit=None if config.packing else config.max_length
    )
    check_trained(train_set, config.max_length)
    eval_set = tokenised(tokenizer, split.held_out, split.format, loss_on, limit=config.max_length)
    model, adapter = brought or bring_model(config, context)
    arguments = SFTConfig(
        **training_arguments(config, context.run_dir),
        # Rows come cut to length already, unless packing is to cut them.
        max_length=config.max_length if config.packing else None,
        packing=config.packing,
        packing_strategy=packing_strategy,
        eval_packing=False,
        # The same loss as `nll`, computed without holding every logit.
        loss_type="chunked_nll" if config.loss == "nll" else config.loss,
        neftune_noise_alpha=config.neftune_noise_alpha or None,
    )
    trainer = dress(SFTTrainer)(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=eval_set or None,
        processing_class=tokenizer,
        peft_config=adapter,
    )
    return train(trainer, context, config, split, stage=stage or Stage())


def check_trained(rows: Sequence[Any], limit: int) -> None:
    """Raise `DataError` when no row is left to train on."""
    if not rows:
        raise DataError(
            f"No row has a trained token within its first {limit} tokens.",
            code="data.untrained",
            advice="Raise max_length, or check that rows end with an answer of the assistant.",
        )


def tokenised(tokenizer: Any, rows: Sequence[Row], format_: Format, loss_on: LossOn, *, limit: int | None) -> Any:
    """A dataset of `input_ids` and `labels` (-100 where not trained), each row cut to `limit` tokens.

    Rows of which no trained token is left are dropped.
    """
    from datasets import Dataset

    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for encoded in encode_rows(tokenizer, rows, format_, loss_on):
        if any(encoded.trained[:limit]):
            labels = [token if on else -100 for token, on in zip(encoded.input_ids, encoded.trained, strict=True)]
            columns["input_ids"].append(encoded.input_ids[:limit])
            columns["labels"].append(labels[:limit])
    dropped = len(rows) - len(columns["labels"])
    if dropped:
        logger.warning("%d of %d rows have no trained token and are left out.", dropped, len(rows))
    return Dataset.from_dict(columns)


CHARTS = (
    ChartSpec(
        "Loss",
        ("loss", "eval/loss"),
        "nats per token",
        "Both should fall. When the held-out loss rises while the other falls, the model memorises: stop there.",
    ),
    ChartSpec(
        "Token accuracy",
        ("mean_token_accuracy", "eval/mean_token_accuracy"),
        "share of tokens",
        "How often the likeliest token is the right one. It rises as the loss falls.",
    ),
    ChartSpec(
        "Entropy",
        ("entropy", "eval/entropy"),
        "nats per token",
        "How unsure the model is. Near 0 it repeats by heart.",
    ),
    ChartSpec("Learning rate", ("learning_rate",), "step size", "The schedule: up in the warm-up, then down."),
    ChartSpec("Gradient norm", ("grad_norm",), "L2 norm", "Spikes mean a step too large: lower the learning rate."),
)

METHOD = Method(
    slug="sft",
    title="Supervised fine-tuning",
    paradigm=Paradigm.FINE_TUNING,
    branch="Supervised fine-tuning",
    summary="Trains the model to give the answers of your examples.",
    when="You have examples of good answers. The first step of nearly every recipe.",
    paper=Paper("Finetuned Language Models Are Zero-Shot Learners", "2109.01652"),
    objective="Minimises the negative log-likelihood of the trained tokens T, each predicted from the true text before "
    "it. `loss_on` chooses T; with the loss `dft` each term is weighed by the model's own probability of its token.",
    formula="L = -1/|T| Σ_{t ∈ T} log π(y_t | x, y_{<t})",
    watch=(
        "Held-out loss that turns up while training loss falls: the rows are being memorised. Fewer epochs, a lower "
        "learning rate, or more rows.",
        "A loss that barely moves from the first step on: the learning rate is too low, or the model knew it all.",
        "Answers that do not end: rows cut off at max_length hold no end of the turn. The preflight counts them.",
        "What the model could do before: narrow data makes it forget. Mix in general rows, or train an adapter.",
    ),
    formats=FORMATS,
    config=SftConfig,
    run=run,
    charts=CHARTS,
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "max_length", "adapter.type", "loss_on"),
)
