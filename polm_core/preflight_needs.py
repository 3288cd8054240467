"""How the rows of a run look to its model, and what the run needs of the machine: two parts of preflight."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polm_core.blocks import BareConfig, RunConfig, TrainConfig
from polm_core.estimate import (
    Answers,
    Compression,
    Estimate,
    ModelShape,
    Workload,
    estimate,
    estimate_answers,
    estimate_compression,
    machine_flops,
)
from polm_core.formats import Format
from polm_core.methods.efficiency.compressing import CompressConfig
from polm_core.methods.efficiency.prune import PruneConfig
from polm_core.methods.efficiency.teaching import TaughtConfig
from polm_core.preflight_report import Example, Report, shown_tokens
from polm_core.rewards.config import OnlineConfig, PromptedConfig, PromptedTrainConfig
from polm_core.training.encoding import Encoded, as_prompts, encode_prompts, encode_rows, encode_steps
from polm_core.training.loading import has_accelerator
from polm_core.training.preferences import encoded_rows
from polm_core.training.rows import Row, Split
from polm_core.training.vision import encode_image_rows

_TIGHT = 0.8
# What may hold a text, or turns in its place.
_TURNS = ("prompt", "completion", "chosen", "rejected")


class Others(NamedTuple):
    """The sizes of the models that a run takes besides the one in training: those that score answers, and a teacher."""

    scorers: Sequence[ModelShape]
    teacher: ModelShape | None

    @property
    def scorer_weights(self) -> int:
        return sum(scorer.parameters for scorer in self.scorers)


class View:
    """The rows as the model will see them."""

    def __init__(self, tokenizer: Any, split: Split, config: RunConfig) -> None:
        self.split = split
        self.config = config
        self.is_pairs = split.format is Format.PREFERENCE
        self.is_judged = split.format in (Format.PREFERENCE, Format.RATING)
        self.is_prompts = isinstance(config, PromptedConfig)
        settings = config.model_dump()
        self.cuts = not settings.get("packing", False)
        self.share = settings.get("keep_share", 1.0)
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "tokenizer", tokenizer).added_tokens_decoder
        self._specials = {number: str(token.content) for number, token in added.items() if token.special}
        self._loss_on = settings.get("loss_on", "answers")
        self._wrap = settings.get("chat_template", True)

    def example(self, place: int) -> Example:
        """The row at `place` of those to train on, as the model will see it."""
        rows = self.split.train
        row = rows[place]
        # Where one row holds turns, all are read as such.
        mates = (one for one in rows if any(isinstance(one.get(column), list) for column in _TURNS))
        sequences = next(self.sequences([row, next(mates, row)]))
        limit = self.config.max_length if self.cuts and not self.config.drops_long_rows else None
        shown = [shown_tokens(encoded, limit=limit, specials=self._specials) for encoded in sequences]
        return Example(
            tokens=shown[0],
            rejected=shown[1] if self.is_pairs else [],
            images=[Path(path).name for path in row["images"]] if "images" in row else [],
            row=place,
            rows=len(rows),
            left_out=not self.keeps(sequences),
        )

    def sequences(self, rows: Sequence[Row]) -> Iterator[tuple[Encoded, ...]]:
        """The one sequence of each row or prompt, or both of a pair."""
        if self.split.format is Format.IMAGE_CONVERSATION:
            return encode_image_rows(self._tokenizer, rows)
        if self.is_judged:
            return encoded_rows(self._tokenizer, rows, self.split.format, wrap=self._wrap)
        if self.split.format is Format.STEPWISE:
            return encode_steps(self._tokenizer, rows, wrap=self._wrap)
        if self.is_prompts:
            return encode_prompts(self._tokenizer, as_prompts(rows, wrap=self._wrap))
        return ((encoded,) for encoded in encode_rows(self._tokenizer, rows, self.split.format, self._loss_on))

    def is_long(self, sequences: Sequence[Encoded]) -> bool:
        return any(len(item.input_ids) > self.config.max_length for item in sequences)

    def keeps(self, sequences: Sequence[Encoded]) -> bool:
        """Whether the run trains on a row with these sequences."""
        if self.config.drops_long_rows:
            return not self.is_long(sequences)
        limit = self.config.max_length if self.cuts else None
        return all(any(item.trained[:limit]) for item in sequences)


def estimate_needs(report: Report, view: View, shape: ModelShape, others: Others) -> None:
    """Report the memory, disk and time that the run needs, and its steps."""
    config = view.config
    flops = machine_flops(_machine(config)[0])
    if isinstance(config, TrainConfig):
        work = _workload(report, view, config, others)
        needed = estimate(shape, config, work, flops=flops)
    elif isinstance(config, CompressConfig):
        needed = _estimate_compression(report, view, shape, config, flops)
    else:
        report.steps = report.rows_used
        beside = others.scorer_weights + (others.teacher.parameters if others.teacher else 0)
        answers = Answers(report.rows_used, report.tokens.p95, scorer_weights=beside)
        if isinstance(config, PromptedConfig):
            answers = answers._replace(
                prompt_tokens=report.tokens.p95 + config.added_tokens,
                number=report.rows_used * config.answers_to_each * (2 if others.teacher else 1),
                tokens=config.max_completion_length,
                at_once=config.answers_at_once,
            )
        needed = estimate_answers(shape, answers, flops=flops)
    report.memory_bytes, report.disk_bytes, report.seconds = needed
    tell_fit(report, config)


def tell_fit(report: Report, config: BareConfig) -> None:
    """Report whether the memory that the run needs is free, and on what device it would compute."""
    device, report.memory_available = _machine(config)
    report.device = device.partition(":")[0]
    share = report.memory_bytes / max(1, report.memory_available)
    report.fit = "over" if share > 1 else "tight" if share > _TIGHT else "fits"


def _estimate_compression(
    report: Report, view: View, shape: ModelShape, config: CompressConfig, flops: float
) -> Estimate:
    """What making a model smaller takes, and the training after it where there is any."""
    stats, limit = report.tokens, config.max_length
    work = Compression(
        rows=report.rows_used,
        tokens_per_row=min(stats.mean, limit),
        tokens_of_long_row=min(stats.p95, limit),
        at_once=config.batch_size,
        answer_tokens=config.generation.max_new_tokens if config.generation.samples else 0,
        calibration_rows=config.rows_to_calibrate,
        written_bytes=config.written_bytes(shape),
    )
    needed = estimate_compression(shape, work, flops=flops)
    report.steps = 1
    if isinstance(config, PruneConfig) and config.max_steps:
        after = estimate(
            shape, config.recovery, _workload(report, view, config.recovery, Others([], None)), flops=flops
        )
        report.steps += 1
        return Estimate(max(needed.memory_bytes, after.memory_bytes), after.disk_bytes, needed.seconds + after.seconds)
    return needed


def _workload(report: Report, view: View, config: TrainConfig, others: Others) -> Workload:
    """What training takes; the number of its steps is reported."""
    stats, limit = report.tokens, config.max_length * (2 if view.is_pairs else 1)
    rows = report.rows_used if view.cuts else math.ceil(report.rows_used * stats.mean / limit)
    rows = math.ceil(rows * view.share)
    per_step = config.batch_size * config.gradient_accumulation_steps * config.processes
    answering = config if isinstance(config, PromptedTrainConfig) else None
    writing = config if isinstance(config, PromptedTrainConfig | TaughtConfig) else None
    online = config if isinstance(config, OnlineConfig) else None
    answer, sequences = (answering.max_completion_length, answering.sequences_per_row) if answering else (0, 1)
    steps_of_epoch = (
        report.rows_used // online.prompts_per_rollout * online.steps_per_rollout
        if online
        else math.ceil(rows / per_step)
    )
    before = answering.steps_before_epochs if answering else 0
    rounds = answering.rounds_of_epochs if answering else 1
    report.steps = config.max_steps or before + rounds * math.ceil(config.epochs * steps_of_epoch)
    return Workload(
        tokens_per_row=((min(stats.mean, limit) if view.cuts else limit) + answer) * sequences,
        tokens_of_long_row=((min(stats.p95, limit) if view.cuts else limit) + answer) * sequences,
        steps=report.steps,
        held_out_rows=report.held_out_rows * (online.held_out_answers if online else 1),
        has_reference=config.has_reference,
        needs_logits=view.is_prompts or others.teacher is not None or (view.is_judged and not config.drops_long_rows),
        answer_tokens=writing.max_completion_length if writing else 0,
        rollouts=writing.rollouts(report.steps, report.rows_used) if writing else 0,
        has_value_model=online is not None and online.has_value_model,
        scorer_weights=others.scorer_weights,
        teacher_weights=others.teacher.parameters if others.teacher else 0,
        teacher_writes=others.teacher is not None and answering is not None,
    )


def _machine(config: BareConfig) -> tuple[str, int]:
    """The device the run would compute on, and how many bytes are free there."""
    import psutil
    import torch

    if has_accelerator(config):
        device = str(torch.accelerator.current_accelerator())
        return device, torch.cuda.mem_get_info()[0] if device.startswith("cuda") else psutil.virtual_memory().available
    return "cpu", psutil.virtual_memory().available
