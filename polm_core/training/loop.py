"""Running a trainer to its end, whatever that end is."""

import logging
import shutil
from functools import cache
from typing import Any

from polm_core.blocks import AdapterType, TrainConfig
from polm_core.context import RunContext
from polm_core.errors import ConfigError
from polm_core.run_dir import verify_checkpoint
from polm_core.training.arguments import draft_dir
from polm_core.training.reporting import AlreadyComplete, RunCallback, Stage
from polm_core.training.rows import Split
from polm_core.training.sampling import WriteSamples, answering

logger = logging.getLogger(__name__)


def train(
    trainer: Any,
    context: RunContext,
    config: TrainConfig,
    split: Split,
    write_samples: WriteSamples | None = None,
    stage: Stage = Stage(),  # noqa: B008 - a tuple of constants
) -> dict[str, float]:
    """Train to the last step, or to where the run is asked to end, and return the newest value of each metric.

    A new run with held-out rows is evaluated before its first step too. At each evaluation the model answers held-out
    prompts, or does what `write_samples` does in place of that. Of a run with several trainers, `stage` says which of
    them this is.
    """
    from transformers import PrinterCallback

    _widen_adapter(trainer.model)
    evaluates = bool(trainer.eval_dataset)
    checkpoint = resume_path(context, after=stage.before)
    # What the stage before ended with, it has evaluated.
    trainer.args.eval_on_start = evaluates and checkpoint is None and not stage.before
    trainer.remove_callback(PrinterCallback)
    if config.adapter.type is AdapterType.P_TUNING:
        from polm_core.training.prompt_encoder import PromptEncoderCallback

        trainer.add_callback(PromptEncoderCallback(checkpoint))
    writes = write_samples or answering(context, config, split)
    trainer.add_callback(RunCallback(context, config, writes, evaluates, stage))
    tell_of_every_pass(trainer.model, context)
    _know_numbered_cpus()
    context.check()
    context.phase(stage.phase)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except AlreadyComplete:
        logger.info("The checkpoint is that of the last step: there is nothing left to train.")
    finally:
        if context.is_main:
            shutil.rmtree(draft_dir(context.run_dir), ignore_errors=True)
    if context.ending or not stage.after:
        context.phase("done")
    return dict(context.latest)


def tell_of_every_pass(model: Any, context: RunContext) -> None:
    """Give a sign of life at each forward pass: a whole step, an evaluation or an answer may take minutes.

    Every pass goes through the input embeddings, also where peft or generation goes around the model's own call.
    """
    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else model
    embeddings.register_forward_pre_hook(lambda *_: context.sign_of_life())


@cache
def _know_numbered_cpus() -> None:
    """Have torch load what is meant for `cpu:0`, where a trainer of several processes wants its optimizer's state."""
    from torch.serialization import register_package

    register_package(
        50, lambda storage: None, lambda storage, place: storage if str(place).startswith("cpu:") else None
    )


def _widen_adapter(model: Any) -> None:
    """Train adapters in fp32, as peft makes them.

    trl puts those over 4-bit weights into bf16, which loses small updates and which peft undoes on a resume.
    """
    if hasattr(model, "peft_config"):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def resume_path(context: RunContext, *, after: int = 0) -> str | None:
    """The checkpoint to go on from, if it was taken later than step `after`.

    Raises `ConfigError` when it is damaged, of another method, or only weights.
    """
    return str(context.spec.resume) if resumed_step(context) > after else None


def resumed_step(context: RunContext) -> int:
    """The step of the checkpoint to go on from, 0 without one. Raises what `resume_path` does."""
    if context.spec.resume is None:
        return 0
    manifest = verify_checkpoint(context.spec.resume)
    if manifest.method != context.spec.method:
        raise ConfigError(
            f"The checkpoint was made by {manifest.method}, not {context.spec.method}.",
            fields={"resume": ["must be a checkpoint of this run"]},
            advice="Start a new run from the checkpoint's model instead.",
        )
    if "trainer_state.json" not in manifest.trainer_state:
        raise ConfigError(
            "The checkpoint holds weights alone, so the run cannot go on from it.",
            fields={"resume": ["must hold the trainer's state"]},
            advice="Start a new run from the checkpoint's model instead.",
        )
    return manifest.step
