"""What every method does before its trainer: read the rows, load the tokenizer, bring the model."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from polm_core.blocks import AdapterType, TrainConfig
from polm_core.context import RunContext
from polm_core.formats import Format
from polm_core.training.adapters import peft_config
from polm_core.training.loading import load_model, load_tokenizer
from polm_core.training.rows import Split, load_split


class Model(NamedTuple):
    """The model to train; `adapter` is the peft configuration of the new adapter that the trainer is to put on it."""

    model: Any
    adapter: Any | None


def read_data(config: TrainConfig, context: RunContext, formats: Sequence[Format]) -> tuple[Split, Any]:
    """The rows of the run and the model's tokenizer. Seeds every random choice that follows."""
    from transformers import set_seed

    set_seed(config.seed)
    context.phase("reading the data")
    split = load_split(context.spec, formats, eval_rows=config.eval_rows, seed=config.seed)
    return split, load_tokenizer(context.spec.model)


def bring_model(config: TrainConfig, context: RunContext) -> Model:
    """Load what the run starts from. An adapter it goes on with is on the model already and needs no new one."""
    context.check()
    context.phase("loading the model")
    model = load_model(context.spec.model, config)
    context.check()
    continues = context.spec.model.adapter is not None and config.adapter.type is not AdapterType.NONE
    return Model(model, None if continues else peft_config(config.adapter, model))
