"""What every method does before its trainer: read the rows or prompts, load the tokenizer, bring the model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polm_core.blocks import BareConfig, RunConfig, TrainConfig
from polm_core.context import ModelSpec, RunContext
from polm_core.formats import Format
from polm_core.rewards.config import AskingConfig
from polm_core.training.adapters import Task, gives_rewards, judges_steps, new_adapter
from polm_core.training.loading import (
    check_quantised,
    compute_dtype,
    is_quantised,
    load_model,
    load_reward_model,
    load_step_judge,
    load_tokenizer,
    load_writer,
    move,
    training_device,
)
from polm_core.training.rewards import RewardFunction, check_rewards, check_tasks, reward_functions
from polm_core.training.rollouts import check_prompts, prompt_rows
from polm_core.training.rows import Row, Split, load_split


class Model(NamedTuple):
    """The model to train; `adapter` is the peft configuration of the new adapter that the trainer is to put on it."""

    model: Any
    adapter: Any | None


def read_data(config: RunConfig, context: RunContext, formats: Sequence[Format]) -> tuple[Split, Any]:
    """The rows of the run and the model's tokenizer. Seeds every random choice that follows."""
    from transformers import set_seed

    set_seed(config.seed)
    context.phase("reading the data")
    split = load_split(context.spec, formats, eval_rows=config.eval_rows, seed=config.seed)
    return split, load_tokenizer(context.spec.model)


class Prompts(NamedTuple):
    """The prompts of a run as trainers take them, and the rewards that answers to them get."""

    split: Split
    tokenizer: Any
    train: list[Row]
    held_out: list[Row]
    rewards: list[RewardFunction]


def read_prompts(config: AskingConfig, context: RunContext, formats: Sequence[Format]) -> Prompts:
    """As `read_data`, for methods whose model answers; what scores the answers is loaded.

    Raises what `check_rewards`, `check_tasks`, `check_prompts` and `reward_functions` do.
    """
    split, tokenizer = read_data(config, context, formats)
    check_rewards(config.rewards, context.spec, split.format)
    check_tasks(config.rewards, split.train)
    prompts = prompt_rows(tokenizer, split.train, config)
    check_prompts(len(prompts), config)
    held_out = prompt_rows(tokenizer, split.held_out, config)
    return Prompts(split, tokenizer, prompts, held_out, reward_functions(config, context.spec))


def bring_model(config: TrainConfig, context: RunContext) -> Model:
    """Load what the run starts from. An adapter it goes on with is on the model already and needs no new one."""
    return _bring(config, context, load_model, "CAUSAL_LM", is_own=lambda folder: True)


def bring_writer(config: RunConfig, context: RunContext, model: ModelSpec | None = None) -> Any:
    """The model, the run's own when none is given, ready to write, with whatever adapter it has, in the precision that
    it computes in."""
    context.check()
    context.phase("loading the model")
    loaded = load_writer(model or context.spec.model)
    # Quantised weights have a precision of their own.
    return ready_to_write(loaded if is_quantised(loaded) else loaded.to(compute_dtype(config)), config, context)


def bring_reward_model(config: TrainConfig, context: RunContext) -> Model:
    """The same for a model that scores; a language model's adapter is part of it by now, so a new one goes on top."""
    return _bring(config, context, load_reward_model, "SEQ_CLS", is_own=gives_rewards)


def bring_step_judge(config: TrainConfig, context: RunContext) -> Model:
    """The same for a model that judges the steps of an answer."""
    return _bring(config, context, load_step_judge, "TOKEN_CLS", is_own=judges_steps)


def _bring(
    config: TrainConfig,
    context: RunContext,
    load: Callable[[ModelSpec, TrainConfig], Any],
    task: Task,
    is_own: Callable[[Path], bool],
) -> Model:
    """`is_own` tells whether an adapter is one that the method trains on with."""
    context.check()
    context.phase("loading the model")
    check_quantised(context.spec.model, config)
    model = load(context.spec.model, config)
    context.check()
    start = context.spec.model.adapter
    continues = start is not None and not config.adapter.trains_whole_model and is_own(start)
    return Model(model, None if continues else new_adapter(config.adapter, model, task))


def ready_to_write(model: Any, config: BareConfig, context: RunContext) -> Any:
    """The model on the run's device, to be read or written with; each of its passes is a sign of life."""
    from polm_core.training.loop import tell_of_every_pass

    model = move(model, training_device(config)).eval()
    tell_of_every_pass(model, context)
    return model
