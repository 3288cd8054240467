"""What would happen if a run were started: how its rows fare, what it needs, and what stands in its way.

`python -m polm_core.preflight spec.yaml out.json` writes the report; only the tokenizer is loaded, never the
weights. With the number of a row as a third argument it writes that row alone, as the model will see it.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from polm_core import catalogue
from polm_core.blocks import AdapterType, BareConfig, RunConfig, TrainConfig
from polm_core.context import RunSpec, load_spec
from polm_core.environment import set_environment
from polm_core.errors import DataError, PolmError
from polm_core.estimate import (
    ModelShape,
    missing_targets,
    model_shape,
)
from polm_core.formats import Format
from polm_core.method import Method
from polm_core.methods.efficiency.compressing import CompressConfig
from polm_core.methods.efficiency.teaching import TaughtConfig
from polm_core.methods.integration.vlm_sft import VisionConfig
from polm_core.preflight_needs import Others, View, estimate_needs, tell_fit
from polm_core.preflight_report import Entry, Example, Report
from polm_core.preflight_rows import count_rows, measure, rows_of_run
from polm_core.rewards.config import AskingConfig, PromptedConfig
from polm_core.run_dir import write_atomic
from polm_core.training.adapters import no_biases
from polm_core.training.loading import (
    check_scorer,
    check_start,
    check_writer,
    compute_precision,
    load_tokenizer,
)
from polm_core.training.rewards import JUDGED, LEARNED, check_rewards, check_tasks, unverified
from polm_core.training.rollouts import check_prompts
from polm_core.training.rows import Split, load_documents, load_split
from polm_core.training.teachers import check_teacher
from polm_core.training.vision import load_processor, with_parts

# Rows whose own answers are verified: a formula can take a second.
_VERIFIED_ROWS = 100
_NOTABLE_SHARE = 0.05
_FEW_HELD_OUT = 5
# Pairs of which fewer say nothing of a bias, and the share of longer chosen answers that is one.
_FEW_PAIRS, _BIASED_SHARE = 20, 0.75
# Of labels that are good or bad, fewer than this share are few.
_RARE_SHARE = 0.1


def preflight(spec: RunSpec) -> Report:
    """Check a run. Never raises for what a person can put right: that is among the report's `blocking`."""
    report = Report()
    try:
        method = catalogue.get(spec.method)
        config = method.parse(spec.config)
        if method.preflight is not None:
            method.preflight(config, spec, report)
            tell_fit(report, cast(BareConfig, config))
        else:
            _check_rows(report, method, cast(RunConfig, config), spec)
    except PolmError as error:
        report.blocking.append(Entry(code=error.code, message=error.message, remedy=error.advice))
    return report


def _check_rows(report: Report, method: Method, config: RunConfig, spec: RunSpec) -> None:
    """Look at the rows as the model will see them. Raises `PolmError` for what stands in the way."""
    precision = compute_precision(config)
    split = load_split(spec, method.formats, eval_rows=config.eval_rows, seed=config.seed)
    if method.takes_documents:
        load_documents(spec)
    tokenizer = load_tokenizer(spec.model)
    if isinstance(config, TrainConfig):
        check_start(spec.model, config)
    else:
        check_writer(spec.model)
    shape = model_shape(spec.model)
    if isinstance(config, VisionConfig):
        shape = with_parts(shape, spec.model, config.vision_tower, config.image_size, config.train)
    others = Others(
        _check_rewards(config, spec, split),
        model_shape(check_teacher(method.teacher, spec, tokenizer)) if method.teacher else None,
    )
    count_rows(report, split, keeps_back=spec.eval_dataset is None)
    _check_weights(config, spec, shape)
    split = rows_of_run(report, config, split)
    _verify_answers(report, config, split)
    view = View(_reader(config, spec, tokenizer), split, config)
    measure(report, view)
    estimate_needs(report, view, shape, others)
    _warn(report, view, shape, precision)
    report.warnings += _unused_settings(method, config)


def example(spec: RunSpec, row: int) -> Example:
    """The row of that number, counted from 0, of those that the run trains on or asks about, as the model will see it.

    Raises `PolmError` where there is none, and for what stands in the way of looking at it.
    """
    method = catalogue.get(spec.method)
    if method.preflight is not None:
        raise DataError(
            f"{method.title} shows no row but the first.",
            code="data.row",
            advice="Leave row out.",
            fields={"row": ["must be left out"]},
        )
    config = cast(RunConfig, method.parse(spec.config))
    split = load_split(spec, method.formats, eval_rows=config.eval_rows, seed=config.seed)
    split = rows_of_run(Report(), config, split)
    if not 0 <= row < len(split.train):
        raise DataError(
            f"There is no row {row}: the run has {len(split.train):,} rows, counted from 0.",
            code="data.row",
            advice=f"Ask for one from 0 to {len(split.train) - 1}.",
            fields={"row": [f"must be from 0 to {len(split.train) - 1}"]},
        )
    return View(_reader(config, spec, load_tokenizer(spec.model)), split, config).example(row)


def _reader(config: RunConfig, spec: RunSpec, tokenizer: Any) -> Any:
    """What makes tokens of rows: the tokenizer, or where they have images a processor with it."""
    if isinstance(config, VisionConfig):
        return load_processor(spec.model, config.vision_tower, config.image_size)
    return tokenizer


def _check_weights(config: RunConfig, spec: RunSpec, shape: ModelShape) -> None:
    if isinstance(config, CompressConfig):
        config.check_model(spec.model, shape)
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


def _warn(report: Report, view: View, shape: ModelShape, precision: str) -> None:
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


def _advice(report: Report, view: View, shape: ModelShape, precision: str) -> Iterator[tuple[bool, Entry]]:
    config, tokens = view.config, report.tokens
    trains = isinstance(config, TrainConfig)

    def entry(code: str, message: str, remedy: str) -> Entry:
        return Entry(code=code, message=message, remedy=remedy)

    yield (
        report.fit != "fits",
        entry(
            "resource.memory",
            f"The run needs about {_gigabytes(report.memory_bytes)}; {_gigabytes(report.memory_available)} are free.",
            "Lower batch_size or max_length, or train an adapter."
            if trains
            else "Write fewer answers at once."
            if isinstance(config, AskingConfig)
            else "Lower batch_size or max_length, or take a machine with more.",
        ),
    )
    yield (
        report.duplicate_rows > 0,
        entry("data.duplicates", f"{report.duplicate_rows:,} rows repeat others.", "Remove them to weigh rows alike."),
    )
    yield (
        report.near_duplicate_rows > report.rows_total * _NOTABLE_SHARE,
        entry(
            "data.near_duplicates",
            f"{report.near_duplicate_rows:,} rows say almost the same as an earlier one.",
            "Keep one of each kind: repeated texts are learned by heart.",
        ),
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
        trains and report.near_leaked_rows > report.held_out_rows * _NOTABLE_SHARE,
        entry(
            "data.near_leaked",
            f"{report.near_leaked_rows:,} training rows say almost the same as a held-out one, so the evaluation "
            "flatters.",
            "Remove near twins from the dataset, or take an evaluation set from another source.",
        ),
    )
    yield from _judged(report, config)
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


def _judged(report: Report, config: RunConfig) -> Iterator[tuple[bool, Entry]]:
    """Advice on what tells better answers from worse."""
    if (pairs := report.pairs) is not None:
        yield (
            report.rows_used >= _FEW_PAIRS and pairs.chosen_longer >= _BIASED_SHARE,
            Entry(
                code="data.length_bias",
                message=f"In {pairs.chosen_longer:.0%} of the pairs the chosen answer is the longer one, with "
                f"{pairs.chosen_tokens:,.0f} tokens on average against {pairs.rejected_tokens:,.0f}: the model may "
                "learn to write long.",
                remedy="Add pairs whose shorter answer is the better one; simpo weighs answers by their length.",
            ),
        )
    if (good := report.good_share) is not None:
        rare = "good" if good < 0.5 else "bad"
        weights = {"good_weight", "bad_weight"} <= type(config).model_fields.keys()
        yield (
            not _RARE_SHARE <= good <= 1 - _RARE_SHARE,
            Entry(
                code="data.label_balance",
                message=f"{good:.0%} of the labels are good: the {rare} ones are few to learn from.",
                remedy=f"Raise {rare}_weight, so that both sides weigh about the same."
                if weights
                else f"Add {rare} ones.",
            ),
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


def main(source: Path, target: Path, row: Path | None = None) -> int:
    """Check the run that the `config.yaml` at `source` describes and write the report to `target`.

    With the number of a `row` its `Example` alone is written, or as `error` why it cannot be shown.
    """
    set_environment()
    try:
        spec = load_spec(source)
        found = preflight(spec) if row is None else example(spec, int(str(row)))
    except PolmError as error:
        if row is not None:
            write_atomic(target, json.dumps({"error": error.as_dict()}))
            return 0
        found = Report(blocking=[Entry(code=error.code, message=error.message, remedy=error.advice)])
    write_atomic(target, found.model_dump_json(indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4])))
