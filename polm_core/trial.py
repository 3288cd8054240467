"""Rewards tried on answers that are there already: `python -m polm_core.trial job.json`.

The job is a `TrialJob`. Beside it `progress.json` tells how far the trial is; at the end the judged answers are in
`rows.jsonl`, one a line, and `answer.json` holds a `TrialAnswer`.
"""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import StatisticsError, correlation, fmean, pstdev
from typing import Any

from pydantic import BaseModel, Field

from polm_core.context import DatasetSpec, ModelSpec
from polm_core.data.completions import Completion, completions_of
from polm_core.data.values import cleaned
from polm_core.environment import set_environment
from polm_core.errors import DataError, PolmError
from polm_core.rewards.config import OnlineConfig, RewardsConfig
from polm_core.run_dir import write_atomic
from polm_core.training.encoding import as_messages, plain_text
from polm_core.training.rewards import UNJUDGED, RewardFunction, reward_functions, weighted

logger = logging.getLogger(__name__)

_BINS = 20
_BATCH = 16
# What is kept of a text to be read beside its scores.
_SHOWN = 20_000


class TrialJob(BaseModel):
    """The rewards, and what they are tried on: a dataset, or answers in a file, each a `Completion`.

    Of a dataset every `every`-th row is taken, of either at most `most` answers.
    """

    rewards: RewardsConfig
    dataset: DatasetSpec | None = None
    answers: Path | None = None
    every: int = Field(1, ge=1)
    most: int = Field(ge=1)
    reward_model: ModelSpec | None = None
    judge_model: ModelSpec | None = None


class TrialProgress(BaseModel):
    """Judgements that were made, of how many."""

    done: int = 0
    total: int = 0


class RewardStats(BaseModel):
    """How one reward judged: `counts` are answers in bins of equal width from `low` to `high`.

    `problem` says what went wrong where it did. Without a judgement there are no figures.
    """

    name: str
    weight: float
    judged: int
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    counts: list[int] = Field(default_factory=list)
    problem: str = ""


class TrialReport(BaseModel):
    """Each reward on its own and `total`, their weighted sum; `correlations[i][j]` is None where there is none."""

    answers: int
    rewards: list[RewardStats]
    total: RewardStats
    correlations: list[list[float | None]]


class TrialAnswer(BaseModel):
    """The report, or `PolmError.as_dict()`."""

    report: TrialReport | None = None
    error: dict[str, Any] | None = None


class TrialRow(BaseModel):
    """One answer with what each reward gave it, before its weight.

    `disagreement` is how far apart the rewards are on it, from 0 to 1, each measured between its own extremes.
    """

    prompt: str
    completion: str
    reference: str | None
    scores: dict[str, float | None]
    reward: float | None
    disagreement: float


Tell = Callable[[TrialProgress], None]


def try_rewards(job: TrialJob, tell: Tell) -> tuple[TrialReport, list[TrialRow]]:
    """Judge the answers by every reward. Raises what loading a model does, and `DataError` without an answer."""
    answers = list(islice(_answers(job), job.most))
    if not answers:
        raise DataError(
            "There is no answer to judge.",
            code="data.empty",
            advice="Take a dataset of prompts with answers, or a run that has written samples.",
        )
    functions = reward_functions(OnlineConfig(rewards=job.rewards), job)
    progress = TrialProgress(total=len(functions) * len(answers))
    tell(progress)
    weights, columns, problems = job.rewards.weights, {}, {}
    for name, function in zip(weights, functions, strict=True):
        columns[name], problems[name] = _judge(function, answers, progress, tell)
    rows = _rows(answers, columns, weights)
    stats = [_stats(name, weight, columns[name], problems[name]) for name, weight in weights.items()]
    report = TrialReport(
        answers=len(rows),
        rewards=stats,
        total=_stats("reward", 1.0, [row.reward for row in rows], ""),
        correlations=[[_correlation(columns[one], columns[other]) for other in weights] for one in weights],
    )
    return report, rows


def _answers(job: TrialJob) -> Iterator[Completion]:
    path = job.dataset.path if job.dataset is not None else job.answers
    if path is None:
        return
    with path.open(encoding="utf-8") as lines:
        for line in islice(lines, 0, None, job.every):
            row = json.loads(line)
            yield from completions_of(row, job.dataset.format) if job.dataset is not None else [Completion(**row)]


def _judge(
    function: RewardFunction, answers: Sequence[Completion], progress: TrialProgress, tell: Tell
) -> tuple[list[float | None], str]:
    """What one reward gives each answer, and what went wrong; answers that it fails on are not judged."""
    given: list[float | None] = []
    problem = ""
    for start in range(0, len(answers), _BATCH):
        batch = answers[start : start + _BATCH]
        try:
            given += function(
                prompts=[as_messages(one.prompt, "user") for one in batch],
                completions=[as_messages(one.completion, "assistant") for one in batch],
                answer=[one.reference for one in batch],
                task=[one.task for one in batch],
            )
        except PolmError as error:
            if error.code not in UNJUDGED:
                raise
            problem = error.message
            given += [None] * len(batch)
        progress.done += len(batch)
        tell(progress)
    return given, problem


def _rows(
    answers: Sequence[Completion], columns: dict[str, list[float | None]], weights: dict[str, float]
) -> list[TrialRow]:
    scales = {name: _scale(column, weights[name]) for name, column in columns.items()}
    rows = []
    for index, answer in enumerate(answers):
        scores = {name: column[index] for name, column in columns.items()}
        placed = [place(score) for name, score in scores.items() if score is not None and (place := scales[name])]
        rows.append(
            TrialRow(
                prompt=cleaned(plain_text(answer.prompt)[:_SHOWN]),
                completion=cleaned(plain_text(answer.completion)[:_SHOWN]),
                reference=cleaned(answer.reference[:_SHOWN]) if answer.reference is not None else None,
                scores=scores,
                reward=weighted(scores, weights),
                disagreement=max(placed) - min(placed) if placed else 0.0,
            )
        )
    return rows


def _scale(column: Sequence[float | None], weight: float) -> Callable[[float], float] | None:
    """Where a score stands between the lowest and the highest, 0 to 1; what is punished counts the other way round.

    None for a reward that gives all the same, and so disagrees with nobody.
    """
    known = [score for score in column if score is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if high == low:
        return None

    def place(score: float) -> float:
        share = (score - low) / (high - low)
        return share if weight > 0 else 1 - share

    return place


def _stats(name: str, weight: float, column: Sequence[float | None], problem: str) -> RewardStats:
    known = [score for score in column if score is not None]
    stats = RewardStats(name=name, weight=weight, judged=len(known), problem=problem)
    if known:
        stats.mean, stats.std, stats.low, stats.high = fmean(known), pstdev(known), min(known), max(known)
        width = (stats.high - stats.low) / _BINS or 1.0
        stats.counts = [0] * _BINS
        for score in known:
            stats.counts[min(_BINS - 1, int((score - stats.low) / width))] += 1
    return stats


def _correlation(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Pearson's, over the answers that both judged; None where one of them does not vary."""
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    try:
        found = correlation([a for a, _ in both], [b for _, b in both])
    except StatisticsError:
        return None
    return found if math.isfinite(found) else None


def main(job_path: Path) -> None:
    """Carry out the job in the file and write the answer beside it."""
    set_environment()
    folder = job_path.parent
    job = TrialJob.model_validate_json(job_path.read_bytes())
    try:
        report, rows = try_rewards(
            job, lambda progress: write_atomic(folder / "progress.json", progress.model_dump_json())
        )
        with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(row.model_dump_json() + "\n" for row in rows)
        answer = TrialAnswer(report=report)
    except PolmError as error:
        answer = TrialAnswer(error=error.as_dict())
    write_atomic(folder / "answer.json", answer.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
