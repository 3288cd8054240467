"""The one callback: decides when a run is logged, evaluated and saved, and writes all of it into the run directory."""

import logging
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from polm_core.blocks import TrainConfig
from polm_core.context import PREEMPTED, Ending, RunContext, finite, numbers
from polm_core.run_dir import PROMPT_ENCODER, UNUSED_ANSWERS, VALUE_MODEL, WARMED_UP, Manifest
from polm_core.training.sampling import WriteSamples

logger = logging.getLogger(__name__)

# What the trainer logs about its own speed, which progress and the system metrics tell already.
_NOT_METRICS = {
    "epoch",
    "model_preparation_time",
    "num_input_tokens_seen",
    "num_tokens",
    "runtime",
    "samples_per_second",
    "steps_per_second",
    "total_flos",
}
# trl's name of a part of the reward; what preference methods call `rewards/chosen` is none.
_REWARD_PART = re.compile(r"rewards/([^/]+)/(mean|std|not_judged)")
# `running.json` is the mean that bco shifts its rewards by.
_TRAINER_STATE = (
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "trainer_state.json",
    "running.json",
    PROMPT_ENCODER,
    WARMED_UP,
    VALUE_MODEL,
)
# One file for each process.
_TRAINER_STATES = ("rng_state*.pth", UNUSED_ANSWERS.format("*"))
_ADAPTER_CONFIG = "adapter_config.json"


class AlreadyComplete(Exception):
    """The checkpoint that a run resumes from is that of its last step."""


class Stage(NamedTuple):
    """Where a trainer's steps stand in a run that has several trainers, one after the other: so many steps come
    `before` them, on so many `tokens`, and so many `after`. Steps are counted through in all that is written."""

    phase: str = "training"
    before: int = 0
    after: int = 0
    tokens: int = 0


class RunCallback(TrainerCallback):
    """Writes metrics, samples, progress and checkpoints, and ends the run when that is asked."""

    def __init__(
        self,
        context: RunContext,
        config: TrainConfig,
        write_samples: WriteSamples | None,
        evaluates: bool,
        stage: Stage,
    ) -> None:
        self.context = context
        self.config = config
        self.write_samples = write_samples
        self.evaluates = evaluates
        self.stage = stage
        self.meter = _Meter()
        self.began = 0.0
        self.first_step = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            raise AlreadyComplete
        if state.global_step == 0:
            state.num_input_tokens_seen = self.stage.tokens
        self.meter.restart(state.num_input_tokens_seen)
        self.began, self.first_step = time.monotonic(), state.global_step
        step, total = self.stage.before + state.global_step, self.stage.before + state.max_steps + self.stage.after
        self.context.progress(step=step, total_steps=total)
        self.context.phase("evaluating" if args.eval_on_start else self.stage.phase)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.meter.begin_step()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.meter.end_step()
        step, last = self.stage.before + state.global_step, state.global_step >= state.max_steps
        ending = None if last else _agreed(self.context)
        control.should_training_stop = last or ending is not None
        control.should_log = control.should_training_stop or _due(step, self.config.logging_steps)
        control.should_save = control.should_training_stop or _due(step, self.config.save_steps)
        # Whoever preempts a run waits only briefly, so there is no evaluation then.
        control.should_evaluate = (
            self.evaluates and ending != PREEMPTED and (last or _due(step, self.config.eval_steps))
        )
        self.context.progress(
            step=step,
            tokens=int(state.num_input_tokens_seen),
            samples=_samples(state, kwargs["train_dataloader"]),
            epoch=state.epoch,
            seconds_per_step=(time.monotonic() - self.began) / (state.global_step - self.first_step),
        )
        if control.should_evaluate:
            self.context.phase("evaluating")

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any, **kwargs: Any
    ) -> None:
        # The trainer keeps every log line for its own state file, which would grow with the run.
        state.log_history.clear()
        values = metric_values(logs)
        if not values:
            return
        step = self.stage.before + state.global_step
        if self.context.is_main:
            total = self.stage.before + state.max_steps + self.stage.after
            logger.info("step %d of %d: %s", step, total, _readable(values))
        if "learning_rate" in values:
            values |= {"epoch": state.epoch, "num_tokens": float(state.num_input_tokens_seen)}
            values["samples"] = float(_samples(state, kwargs["train_dataloader"]))
            values |= self.meter.read(state.num_input_tokens_seen)
        self.context.log_metrics(step, values)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.write_samples is not None and self.context.is_main:
            self.context.phase("answering held-out prompts")
            self.write_samples(kwargs["model"], kwargs["processing_class"], self.stage.before + state.global_step)
        self.context.phase("saving" if control.should_save else self.stage.phase)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        _wait_for_others()
        if self.context.is_main:
            self.context.phase("saving")
            draft = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            complete_checkpoint(self.context, draft, self.stage.before + state.global_step, self.config.task)
            self.context.phase(self.stage.phase)


def metric_values(logs: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a trainer's log line under our names: trl's own, with `eval/` before those of an evaluation.

    The line a trainer logs at its very end sums up its speed alone and gives nothing.
    """
    values = {}
    for key, value in numbers(logs).items():
        prefix, _, rest = key.partition("_")
        name = rest if prefix == "eval" else key
        if prefix != "train" and name not in _NOT_METRICS:
            if part := _REWARD_PART.fullmatch(name):
                name = f"reward/{part[1]}" if part[2] == "mean" else f"reward/{part[1]}/{part[2]}"
            values[f"eval/{name}" if prefix == "eval" else name] = value
    return values


def complete_checkpoint(context: RunContext, draft: Path, step: int, task: str) -> None:
    """Move a checkpoint that the trainer wrote to its place and seal it with its manifest."""
    (draft / "training_args.bin").unlink(missing_ok=True)
    (draft / "README.md").unlink(missing_ok=True)
    for frozen in [path.parent for path in draft.glob(f"*/{_ADAPTER_CONFIG}")]:
        shutil.rmtree(frozen)
    place = context.run_dir.checkpoint(step)
    if place.exists():
        shutil.rmtree(place)
    draft.rename(place)
    if context.run_dir.made.is_file():
        shutil.copy(context.run_dir.made, place)
    state = [name for name in _TRAINER_STATE if (place / name).is_file()]
    state += sorted(path.name for pattern in _TRAINER_STATES for path in place.glob(pattern))
    manifest = Manifest(
        step=step,
        kind="adapter" if (place / _ADAPTER_CONFIG).is_file() else "model",
        method=context.spec.method,
        base_model=context.spec.model.name,
        task=task,
        metrics=finite(context.latest),
        trainer_state=state,
    )
    try:
        context.run_dir.seal_checkpoint(manifest)
    except OSError:  # a full disk: what cannot be completed must not stay in the way
        shutil.rmtree(place, ignore_errors=True)
        raise


def _agreed(context: RunContext) -> Ending | None:
    """Whether the run is to end; in a run of several processes the first one decides for all at the same step."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return context.poll()
    answer = [context.poll() if context.is_main else None]
    distributed.broadcast_object_list(answer, src=0)
    context.ending = answer[0]
    return context.ending


def _wait_for_others() -> None:
    """In a run of several processes each writes its part of a checkpoint: go on when all have."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


class _Meter:
    """Speed and memory of this process, over the training steps since the last reading."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._tokens = 0
        self._seconds = 0.0
        self._steps = 0
        self._began = 0.0

    def restart(self, tokens: int) -> None:
        self._tokens, self._seconds, self._steps = tokens, 0.0, 0

    def begin_step(self) -> None:
        self._began = time.perf_counter()

    def end_step(self) -> None:
        self._seconds += time.perf_counter() - self._began
        self._steps += 1

    def read(self, tokens: int) -> dict[str, float]:
        values = {
            "system/rss_bytes": float(self._process.memory_info().rss),
            "system/cpu_percent": self._process.cpu_percent(),
            **_gpu_memory(),
        }
        if self._steps and self._seconds:
            values["system/seconds_per_step"] = self._seconds / self._steps
            values["system/tokens_per_second"] = (tokens - self._tokens) / self._seconds
        self.restart(tokens)
        return values


def _gpu_memory() -> dict[str, float]:
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"system/gpu_memory_bytes": float(torch.cuda.max_memory_allocated())}


def _samples(state: TrainerState, dataloader: Any) -> int:
    """Rows that have been trained on; each counts as often as it was."""
    return round(state.epoch * len(dataloader.dataset))


def _readable(values: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in values.items())


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
