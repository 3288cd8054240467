"""What the rows of a run are like, counted over as many as can be looked at in seconds: a part of preflight."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import cast

from polm_core.blocks import RunConfig, TrainConfig
from polm_core.evaluation.choosing import EvaluationConfig, rows_to_measure
from polm_core.formats import Format
from polm_core.near_duplicates import near_duplicates
from polm_core.preflight_needs import View
from polm_core.preflight_report import Entry, Pairs, Report, token_stats
from polm_core.training.preferences import EMPTY, EQUAL, fault, needed, needed_ratings
from polm_core.training.rollouts import needed_prompts
from polm_core.training.rows import Row, Split, asked, fingerprint

# Rows that are tokenised; of a larger dataset as many are taken, evenly spread, and the counts are scaled up.
MEASURED_ROWS = 20_000


def count_rows(report: Report, split: Split, *, keeps_back: bool) -> None:
    """Count the rows, and those that say what others say."""
    trained = {fingerprint(row): row for row in split.train}
    held_out = {fingerprint(row): row for row in split.held_out}
    # Rows that were kept back are the dataset's own; those of an evaluation set are not.
    report.rows_total = len(split.train) + (len(split.held_out) if keeps_back else 0)
    report.held_out_rows = len(split.held_out)
    report.duplicate_rows = len(split.train) - len(trained)
    report.leaked_rows = sum(fingerprint(row) in held_out for row in split.train) if trained.keys() & held_out else 0
    # Of rows about images the texts are alike by their nature.
    if split.format is not Format.IMAGE_CONVERSATION:
        others = [row for mark, row in trained.items() if mark not in held_out]
        report.near_duplicate_rows, report.near_leaked_rows = near_duplicates(others, list(held_out.values()))


def rows_of_run(report: Report, config: RunConfig, split: Split) -> Split:
    """What the run trains on or asks about, as training rows; those that say nothing are left out and counted."""
    if isinstance(config, EvaluationConfig):
        split = split._replace(train=rows_to_measure(config, split.train, split.held_out))
    elif not isinstance(config, TrainConfig):
        split = split._replace(train=asked(split))
    if split.format in (Format.PROMPT, Format.PROMPT_ANSWER):
        asking = needed_prompts(split.train)
        report.empty_prompts = len(split.train) - len(asking)
        return split._replace(train=asking)
    if split.format not in (Format.PREFERENCE, Format.RATING):
        return split
    found = Counter(fault(row) for row in split.train)
    report.equal_pairs, report.empty_answers = found[EQUAL], found[EMPTY]
    return split._replace(train=(needed if split.format is Format.PREFERENCE else needed_ratings)(split.train))


def measure(report: Report, view: View) -> None:
    """Count tokens, cut rows and rows without a trained token, over at most `MEASURED_ROWS` rows."""
    rows = view.split.train
    stride = -(-len(rows) // MEASURED_ROWS)
    lengths: list[int] = []
    answers: list[list[int]] = []
    truncated = untrained = 0
    for sequences in view.sequences(rows[::stride]):
        lengths.append(sum(len(item.input_ids) for item in sequences))
        answers.append([sum(item.trained) for item in sequences])
        truncated += view.cuts and not view.config.drops_long_rows and view.is_long(sequences)
        untrained += not view.keeps(sequences)
    scale = len(rows) / len(lengths)
    report.truncated_rows, report.untrained_rows = round(truncated * scale), round(untrained * scale)
    report.rows_used = len(rows) - report.untrained_rows
    report.tokens = token_stats(lengths, scale)
    report.first_example = view.example(0)
    if view.is_pairs:
        report.pairs = Pairs(
            chosen_tokens=fmean(chosen for chosen, _ in answers),
            rejected_tokens=fmean(rejected for _, rejected in answers),
            chosen_longer=fmean(chosen > rejected for chosen, rejected in answers),
        )
    report.good_share = _good_share(rows)
    if stride > 1:
        report.warnings.append(
            Entry(code="data.sampled", message=f"Tokens were counted on {len(lengths):,} rows and scaled up.")
        )


def _good_share(rows: Sequence[Row]) -> float | None:
    """How many of the ratings, or of the judged steps, are good; None where nothing is judged."""
    labels: list[bool] = []
    for row in rows:
        labels += cast("list[bool]", row.get("labels", [row["label"]] if "label" in row else []))
    return fmean(map(bool, labels)) if labels else None
