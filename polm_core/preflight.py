"""What would happen if a run were started: how its rows fare, what it needs, and what stands in its way.

`python -m polm_core.preflight spec.yaml out.json` writes the report; only the tokenizer is loaded, never the weights.
"""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from polm_core import catalogue
from polm_core.blocks import AdapterType, RunConfig, TrainConfig
from polm_core.context import RunSpec, load_spec
from polm_core.environment import set_environment
from polm_core.errors import PolmError
from polm_core.estimate import (
    Answers,
    ModelShape,
    Workload,
    estimate,
    estimate_answers,
    machine_flops,
    missing_targets,
    model_shape,
)
from polm_core.formats import Format
from polm_core.method import Method
from polm_core.methods.efficiency.teaching import TaughtConfig
from polm_core.methods.integration.vlm_sft import VisionConfig
from polm_core.preflight_report import Bar, Entry, Example, Report, Token, TokenStats
from polm_core.rewards.config import AskingConfig, OnlineConfig, PromptedConfig, PromptedTrainConfig
from polm_core.run_dir import write_atomic
from polm_core.training.adapters import no_biases
from polm_core.training.encoding import Encoded, as_prompts, encode_prompts, encode_rows, encode_steps
from polm_core.training.loading import (
    check_scorer,
    check_start,
    check_writer,
    compute_precision,
    has_accelerator,
    load_tokenizer,
)
from polm_core.training.preferences import EMPTY, EQUAL, encoded_rows, fault, needed, needed_ratings
from polm_core.training.rewards import JUDGED, LEARNED, check_rewards, check_tasks, unverified
from polm_core.training.rollouts import check_prompts, needed_prompts
from polm_core.training.rows import Row, Split, asked, fingerprint, load_split
from polm_core.training.teachers import check_teacher
from polm_core.training.vision import encode_image_rows, load_processor, with_parts

# Rows that are tokenised; of a larger dataset as many are taken, evenly spread, and the counts are scaled up.
MEASURED_ROWS = 20_000
# Rows whose own answers are verified: a formula can take a second.
_VERIFIED_ROWS = 100
_HISTOGRAM_BARS = 20
_EXAMPLE_TOKENS = 512
_NOTABLE_SHARE = 0.05
_FEW_HELD_OUT = 5
_TIGHT = 0.8


def preflight(spec: RunSpec) -> Report:
    """Check a run. Never raises for what a person can put right: that is among the report's `blocking`."""
    report = Report()
    try:
        method = catalogue.get(spec.method)
        config = cast(RunConfig, method.parse(spec.config))
        precision = compute_precision(config)
        split = load_split(spec, method.formats, eval_rows=config.eval_rows, seed=config.seed)
        tokenizer = load_tokenizer(spec.model)
        processor = (
            load_processor(spec.model, config.vision_tower, config.image_size)
            if isinstance(config, VisionConfig)
            else None
        )
        if isinstance(config, TrainConfig):
            check_start(spec.model, config)
        else:
            check_writer(spec.model)
        shape = model_shape(spec.model)
        if isinstance(config, VisionConfig):
            shape = with_parts(shape, spec.model, config.vision_tower, config.image_size, config.train)
        others = _Others(
            _check_rewards(config, spec, split),
            model_shape(check_teacher(method.teacher, spec, tokenizer)) if method.teacher else None,
        )
        _count_rows(report, split, keeps_back=spec.eval_dataset is None)
        _check_weights(config, shape)
        if not isinstance(config, TrainConfig):
            split = split._replace(train=asked(split))
        split = _without_faults(report, split)
        _verify_answers(report, config, split)
        view = _View(processor or tokenizer, split, config)
        _measure(report, view)
        _estimate(report, view, shape, others)
        _warn(report, view, shape, precision)
        report.warnings += _unused_settings(method, config)
    except PolmError as error:
        report.blocking.append(Entry(code=error.code, message=error.message, remedy=error.advice))
    return report


class _Others(NamedTuple):
    """The sizes of the models that a run takes besides the one in training: those that score answers, and a teacher."""

    scorers: Sequence[ModelShape]
    teacher: ModelShape | None

    @property
    def scorer_weights(self) -> int:
        return sum(scorer.parameters for scorer in self.scorers)


class _View:
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
        self._loss_on = settings.get("loss_on", "answers")
        self._wrap = settings.get("chat_template", True)

    def images(self, row: Row) -> list[str]:
        """The names of the images of a row."""
        return [Path(path).name for path in row["images"]] if self.split.format is Format.IMAGE_CONVERSATION else []

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


def _count_rows(report: Report, split: Split, *, keeps_back: bool) -> None:
    trained = [fingerprint(row) for row in split.train]
    held_out = {fingerprint(row) for row in split.held_out}
    # Rows that were kept back are the dataset's own; those of an evaluation set are not.
    report.rows_total = len(split.train) + (len(split.held_out) if keeps_back else 0)
    report.held_out_rows = len(split.held_out)
    report.duplicate_rows = len(trained) - len(set(trained))
    report.leaked_rows = sum(mark in held_out for mark in trained)


def _check_weights(config: RunConfig, shape: ModelShape) -> None:
    if isinstance(config, TrainConfig) and config.adapter.type is AdapterType.BITFIT and not shape.biases:
        raise no_biases()


def _check_rewards(config: RunConfig, spec: RunSpec, split: Split) -> list[ModelShape]:
    """The sizes of the models that answers are scored with. Raises for rewards that cannot be had."""
    if not isinstance(config, AskingConfig):
        return []
    rewards, found = config.rewards, []
    check_rewards(rewards, spec, split.format)
    check_tasks(rewards, split.train)
    if spec.reward_model is not None and LEARNED in rewards.weights:
        check_scorer(spec.reward_model)
        found.append(model_shape(spec.reward_model))
    if spec.judge_model is not None and JUDGED in rewards.weights and rewards.judge_by == "model":
        check_writer(spec.judge_model)
        found.append(model_shape(spec.judge_model))
    return found


def _without_faults(report: Report, split: Split) -> Split:
    """Rows without those that say or ask nothing, which the run leaves out too; they are counted."""
    if split.format in (Format.PROMPT, Format.PROMPT_ANSWER):
        asking = needed_prompts(split.train)
        report.empty_prompts = len(split.train) - len(asking)
        return split._replace(train=asking)
    if split.format not in (Format.PREFERENCE, Format.RATING):
        return split
    found = Counter(fault(row) for row in split.train)
    report.equal_pairs, report.empty_answers = found[EQUAL], found[EMPTY]
    return split._replace(train=(needed if split.format is Format.PREFERENCE else needed_ratings)(split.train))


def _verify_answers(report: Report, config: RunConfig, split: Split) -> None:
    """Tell of rewards that do not recognise the dataset's own answers: no answer of the model could earn them."""
    if not isinstance(config, AskingConfig) or split.format is not Format.PROMPT_ANSWER or not split.train:
        return
    rows = split.train[:: max(1, len(split.train) // _VERIFIED_ROWS)][:_VERIFIED_ROWS]
    for name, count in unverified(config.rewards, rows).items():
        nothing_else = count == len(rows) and list(config.rewards.weights) == [name]
        if count > len(rows) * _NOTABLE_SHARE:
            (report.blocking if nothing_else else report.warnings).append(
                Entry(
                    code="rewards.unverified",
                    message=f"The reward {name} does not recognise the dataset's own answer in {count} of {len(rows)} "
                    "rows: there, no answer could earn it.",
                    remedy="Try the reward on the dataset in the reward workbench; exact compares words, math numbers.",
                )
            )


def _measure(report: Report, view: _View) -> None:
    """Count tokens, cut rows and rows without a trained token, over at most `MEASURED_ROWS` rows."""
    rows = view.split.train
    stride = -(-len(rows) // MEASURED_ROWS)
    lengths: list[int] = []
    truncated = untrained = 0
    for sequences in view.sequences(rows[::stride]):
        if not lengths:
            shown = [_shown_tokens(encoded) for encoded in sequences]
            report.first_example = Example(
                tokens=shown[0], rejected=shown[1] if view.is_pairs else [], images=view.images(rows[0])
            )
        lengths.append(sum(len(item.input_ids) for item in sequences))
        truncated += view.cuts and not view.config.drops_long_rows and view.is_long(sequences)
        untrained += not view.keeps(sequences)
    scale = len(rows) / len(lengths)
    report.truncated_rows, report.untrained_rows = round(truncated * scale), round(untrained * scale)
    report.rows_used = len(rows) - report.untrained_rows
    report.tokens = _token_stats(lengths, scale)
    if stride > 1:
        report.warnings.append(
            Entry(code="data.sampled", message=f"Tokens were counted on {len(lengths):,} rows and scaled up.")
        )


def _shown_tokens(encoded: Encoded) -> list[Token]:
    """The tokens as texts that join to what the model sees; a token without a place of its own shows nothing."""
    tokens, done = [], 0
    for (_, end), trained in list(zip(encoded.offsets, encoded.trained, strict=True))[:_EXAMPLE_TOKENS]:
        tokens.append(Token(text=encoded.text[done : max(done, end)], trained=trained))
        done = max(done, end)
    return tokens


def _token_stats(lengths: list[int], scale: float) -> TokenStats:
    ordered = sorted(lengths)
    shortest, longest = ordered[0], ordered[-1]
    width = -(-(longest - shortest + 1) // _HISTOGRAM_BARS)
    counts = Counter((length - shortest) // width for length in ordered)
    return TokenStats(
        mean=sum(ordered) / len(ordered),
        p50=ordered[len(ordered) // 2],
        p95=ordered[len(ordered) * 95 // 100],
        max=longest,
        histogram=[
            Bar(upto=shortest + (bar + 1) * width - 1, count=round(counts[bar] * scale))
            for bar in range((longest - shortest) // width + 1)
        ],
    )


def _estimate(report: Report, view: _View, shape: ModelShape, others: _Others) -> None:
    config = view.config
    device, report.memory_available = _machine(config)
    flops = machine_flops(device)
    if isinstance(config, TrainConfig):
        work = _workload(report, view, config, others)
        needed = estimate(shape, config, work, flops=flops)
    else:
        report.steps = report.rows_used
        answers = Answers(report.rows_used, report.tokens.p95, scorer_weights=others.scorer_weights)
        if isinstance(config, AskingConfig):
            answers = answers._replace(
                number=report.rows_used * config.answers_to_each,
                tokens=config.max_completion_length,
                at_once=config.answers_at_once,
            )
        needed = estimate_answers(shape, answers, flops=flops)
    report.memory_bytes, report.disk_bytes, report.seconds = needed
    share = report.memory_bytes / max(1, report.memory_available)
    report.fit = "over" if share > 1 else "tight" if share > _TIGHT else "fits"


def _workload(report: Report, view: _View, config: TrainConfig, others: _Others) -> Workload:
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


def _machine(config: RunConfig) -> tuple[str, int]:
    """The device the run would compute on, and how many bytes are free there."""
    import psutil
    import torch

    if has_accelerator(config):
        device = str(torch.accelerator.current_accelerator())
        return device, torch.cuda.mem_get_info()[0] if device.startswith("cuda") else psutil.virtual_memory().available
    return "cpu", psutil.virtual_memory().available


def _warn(report: Report, view: _View, shape: ModelShape, precision: str) -> None:
    """Turn the counts into advice."""
    config = view.config
    if isinstance(config, PromptedConfig):
        check_prompts(report.rows_used, config)
    elif report.rows_used == 0:
        report.blocking.append(
            Entry(
                code="data.untrained",
                message=f"No row has a trained token within its first {view.config.max_length} tokens.",
                remedy="Raise max_length, or check that rows end with an answer of the assistant.",
            )
        )
    if isinstance(config, TrainConfig) and (missing := missing_targets(shape, config.adapter)):
        layers = ", ".join(sorted({name.rpartition(".")[2] for name, _, _ in shape.linear}))
        report.blocking.append(
            Entry(
                code="config.invalid",
                message=f"No layer of the model is called {' or '.join(missing)}.",
                remedy=f"Set adapter.target_modules to all-linear, or to some of {layers}.",
            )
        )
    report.warnings += [entry for applies, entry in _advice(report, view, shape, precision) if applies]


def _advice(report: Report, view: _View, shape: ModelShape, precision: str) -> Iterator[tuple[bool, Entry]]:
    config, tokens = view.config, report.tokens
    trains = isinstance(config, TrainConfig)

    def entry(code: str, message: str, remedy: str) -> Entry:
        return Entry(code=code, message=message, remedy=remedy)

    yield (
        report.fit != "fits",
        entry(
            "resource.memory",
            f"The run needs about {_gigabytes(report.memory_bytes)}; {_gigabytes(report.memory_available)} are free.",
            "Lower batch_size or max_length, or train an adapter." if trains else "Write fewer answers at once.",
        ),
    )
    yield (
        report.duplicate_rows > 0,
        entry("data.duplicates", f"{report.duplicate_rows:,} rows repeat others.", "Remove them to weigh rows alike."),
    )
    yield (
        trains and report.leaked_rows > 0,
        entry(
            "data.leaked",
            f"{report.leaked_rows:,} training rows are also held out, so the evaluation flatters.",
            "Take an evaluation set that shares no row with the dataset.",
        ),
    )
    yield (
        report.truncated_rows > report.rows_total * _NOTABLE_SHARE,
        entry(
            "data.truncated",
            f"{report.truncated_rows:,} rows are cut at {config.max_length} tokens; the longest has {tokens.max}.",
            "Raise max_length if the ends matter.",
        ),
    )
    yield (
        0 < report.untrained_rows < report.rows_used + report.untrained_rows,
        entry(
            "data.untrained_rows",
            f"{report.untrained_rows:,} rows are over {config.max_length} tokens and are left out."
            if config.drops_long_rows
            else f"{report.untrained_rows:,} rows have no trained token and are left out.",
            "Raise max_length."
            if config.drops_long_rows
            else "Raise max_length, or check that they end with an answer.",
        ),
    )
    yield (
        report.equal_pairs > 0,
        entry(
            "data.equal_pairs", f"{report.equal_pairs:,} pairs have two equal answers and are left out.", "Remove them."
        ),
    )
    yield (
        report.empty_answers > 0,
        entry(
            "data.empty_answers", f"{report.empty_answers:,} rows have an empty answer and are left out.", "Fill them."
        ),
    )
    yield (
        report.empty_prompts > 0,
        entry("data.empty_prompts", f"{report.empty_prompts:,} prompts are empty and are left out.", "Fill them."),
    )
    yield (
        trains and report.held_out_rows < _FEW_HELD_OUT,
        entry(
            "data.few_held_out",
            f"{report.held_out_rows} rows are held out, too few to tell whether the model learns or memorises.",
            "Add rows, or give an evaluation set.",
        ),
    )
    answer, times = 0, 0
    if isinstance(config, TaughtConfig):
        answer, times = config.max_completion_length, 1
    elif isinstance(config, PromptedConfig):
        answer, times = config.max_completion_length * config.answers_in_a_text, config.answers_in_a_text
    together = {0: " is", 1: " and max_completion_length are"}.get(times, f" and {times} x max_completion_length are")
    yield (
        0 < shape.positions < config.max_length + answer,
        entry(
            "model.positions",
            f"max_length{together} {config.max_length + answer} and the model was made for {shape.positions} tokens.",
            f"Set max_length to {max(1, shape.positions - answer)} or less.",
        ),
    )
    yield (
        isinstance(config, TrainConfig) and config.adapter.type is AdapterType.QLORA and precision == "fp32",
        entry("device.qlora", "Without a GPU, 4-bit weights save memory but slow the run.", "Take lora if it fits."),
    )


def _unused_settings(method: Method, config: RunConfig) -> Iterator[Entry]:
    """What was set of the adapter and has no meaning for its type."""
    if not isinstance(config, TrainConfig):
        return
    defaults, chosen = method.default_config()["adapter"], config.adapter.model_dump(mode="json")
    unused = [name for name in chosen if name != "type" and name not in config.adapter.fields_used]
    changed = [name for name in unused if chosen[name] != defaults[name]]
    if changed:
        used = ", ".join(sorted(config.adapter.fields_used)) or "none"
        yield Entry(
            code="config.adapter_unused",
            message=f"adapter.type {config.adapter.type} takes no notice of {', '.join(changed)}.",
            remedy=f"The settings that it uses: {used}.",
        )


def _gigabytes(amount: int) -> str:
    return f"{amount / 1e9:.1f} GB"


def main(source: Path, target: Path) -> int:
    """Check the run that the `config.yaml` at `source` describes and write the report to `target`."""
    set_environment()
    try:
        report = preflight(load_spec(source))
    except PolmError as error:
        report = Report(blocking=[Entry(code=error.code, message=error.message, remedy=error.advice)])
    write_atomic(target, report.model_dump_json(indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
