"""Win rate: how often a model's answer is preferred to that of another."""

import logging
from collections.abc import Iterator, Sequence
from typing import Self

from pydantic import field_validator, model_validator

from polm_core.blocks import setting
from polm_core.context import RunContext
from polm_core.errors import ModelError
from polm_core.evaluation.answering import FORMATS, AnswersConfig, keep_answer
from polm_core.evaluation.choosing import rows_to_measure
from polm_core.evaluation.intervals import Scores
from polm_core.evaluation.results import Figure, figure, growing, row_keys
from polm_core.method import EVALUATION, ChartSpec, Method, Paper, Teacher
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.rewards.config import REWARDS, RewardsConfig
from polm_core.rewards.judge import Judge
from polm_core.rewards.verifiers import final_part
from polm_core.training.encoding import plain_text
from polm_core.training.made import make_rows
from polm_core.training.rewards import JUDGED, SILENT, RewardFunction, judged, weighted
from polm_core.training.rows import Row
from polm_core.training.sampling import Pace, answers_to

logger = logging.getLogger(__name__)

_TIE = 1e-6
_NOTES = {1.0: "Won", 0.5: "Tie", 0.0: "Lost", None: "Not judged"}


class PreferenceConfig(RewardsConfig):
    """What says which of two answers is better: a judge, which reads both, in both orders; or rewards, of which the
    higher sum wins."""

    math: float = setting(0.0, group=REWARDS, unit="weight", step=0.1, ge=-100, le=100)
    """Weight of being right in mathematics, where rows have an answer: 1 when the last number or formula of the text
    equals it, however it is written, 0 when not."""

    judge: float = setting(1.0, group=REWARDS, unit="weight", step=0.1, ge=-100, le=100)
    """Any weight has a language model say which of the two answers is better; others have to be 0 then."""

    @field_validator("judge")
    @classmethod
    def _check_alone(cls, judge: float) -> float:
        if judge < 0:
            raise ValueError("must not be negative: the judge says which answer is better")
        return judge

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if self.judge and len(self.weights) > 1:
            others = " and ".join(name for name in self.weights if name != JUDGED)
            raise ValueError(f"must give the judge alone a weight, or none to it: set {others} to 0, or judge")
        return self


class WinRateConfig(AnswersConfig):
    """Settings of the evaluation by win rate."""

    rewards: PreferenceConfig = setting(PreferenceConfig(), group=REWARDS)
    """What says which of two answers is better."""


def run(config: WinRateConfig, context: RunContext) -> dict[str, float]:
    """Have both models answer the prompts, or those that are left, and return how often this one wins."""
    from polm_core.training.loading import load_tokenizer
    from polm_core.training.rewards import check_rewards, check_tasks
    from polm_core.training.rollouts import check_prompts, prompt_rows
    from polm_core.training.setup import bring_writer, read_data
    from polm_core.training.teachers import bring_teacher, check_teacher

    split, tokenizer = read_data(config, context, FORMATS)
    check_rewards(config.rewards, context.spec, split.format)
    check_tasks(config.rewards, split.train)
    train, held_out = (prompt_rows(tokenizer, rows, config) for rows in (split.train, split.held_out))
    check_prompts(len(train) + len(held_out), config)
    rows = rows_to_measure(config, train, held_out)
    opponent = check_teacher(Teacher.OPPONENT, context.spec, tokenizer)
    referee = Referee(config, context)
    writers = [
        (bring_writer(config, context), tokenizer),
        (bring_teacher(opponent, config, context, what="opponent"), load_tokenizer(opponent)),
    ]
    keys, pace = row_keys(rows), Pace()
    context.phase("answering")
    context.progress(total_steps=len(rows))

    def play(place: int, some: Sequence[Row]) -> list[Row]:
        asked = [row["prompt"] for row in some]
        own, theirs = (
            answers_to(model, reads, asked, config, sampled=config.sampled, seed=config.seed + place, pace=pace)
            for model, reads in writers
        )
        wins = referee.wins(some, own, theirs)
        for index, (row, win) in enumerate(zip(some, wins, strict=True)):
            for side, text, score, by in ((0, own, win, ""), (1, theirs, _turned(win), opponent.name)):
                keep_answer(
                    context,
                    row,
                    text[index],
                    _NOTES[score],
                    group=place + index,
                    place=side,
                    reward=score,
                    rewards={"win": score},
                    by=by,
                )
        context.progress(step=place + len(some))
        return [{"key": keys[place + index], "win": win} for index, win in enumerate(wins)]

    made = make_rows(context, config, rows, play, batch_size=config.batch_size)
    context.progress(step=len(rows))
    measured = [row for row in made if row["win"] is not None]
    if len(measured) < len(made):
        logger.warning("%d of %d pairs of answers were not judged.", len(made) - len(measured), len(made))
    if not measured:
        raise _silent("its replies are no numbers")
    growing(context, measured, _figures)
    context.log_metrics(len(measured), pace.metrics)
    return dict(context.latest)


class Referee:
    """Says which of two answers is better, by the judge or by the rewards of the settings; what it takes is loaded."""

    def __init__(self, config: WinRateConfig, context: RunContext) -> None:
        from polm_core.training.judging import bring_judge
        from polm_core.training.rewards import reward_functions

        context.phase("loading what judges")
        rewards = config.rewards
        self.weights = rewards.weights
        self.judge: Judge | None = None
        self.functions: list[RewardFunction] = []
        self.has_judged = False
        if JUDGED in self.weights:
            self.judge = bring_judge(
                rewards.judge_by,
                context.spec.judge_model,
                rewards.judge_rubric,
                config=config,
                batch_size=config.batch_size,
            )
        else:
            self.functions = reward_functions(config, context.spec)

    def wins(self, rows: Sequence[Row], own: Sequence[str], theirs: Sequence[str]) -> list[float | None]:
        """1 for each answer of `own` that is better, 0 for those that are worse, a half for ties; None where nothing
        was judged. Raises `ModelError` when the judge has no usable reply from the start."""
        if self.judge is None:
            return self._by_rewards(rows, own, theirs)
        found = self._by_judge(self.judge, rows, own, theirs)
        self.has_judged = self.has_judged or any(win is not None for win in found)
        return found

    def _by_judge(
        self, judge: Judge, rows: Sequence[Row], own: Sequence[str], theirs: Sequence[str]
    ) -> list[float | None]:
        said = [(final_part(first), final_part(second)) for first, second in zip(own, theirs, strict=True)]
        # Who says nothing loses unasked.
        found: list[float | None] = [(1 + bool(first) - bool(second)) / 2 for first, second in said]
        asked = [index for index, (first, second) in enumerate(said) if first and second and first != second]
        replies = judge.wins([(plain_text(rows[index]["prompt"]), *said[index]) for index in asked])
        if asked and not self.has_judged and all(reply is None for reply in replies):
            raise _silent(judge.problem or "its replies are no numbers")
        for index, reply in zip(asked, replies, strict=True):
            found[index] = reply
        return found

    def _by_rewards(self, rows: Sequence[Row], own: Sequence[str], theirs: Sequence[str]) -> list[float | None]:
        def earned(texts: Sequence[str]) -> list[float | None]:
            return [weighted(parts, self.weights) for parts in judged(self.functions, rows, texts)]

        return [_held_against(first, second) for first, second in zip(earned(own), earned(theirs), strict=True)]


def _held_against(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    return 0.5 if abs(one - other) <= _TIE else float(one > other)


def _turned(win: float | None) -> float | None:
    return None if win is None else 1 - win


def _silent(problem: str) -> ModelError:
    return ModelError(
        f"The judge gave no usable judgement on any pair of answers: {problem}.",
        code=SILENT,
        advice="See that the judge can be reached and does as it is asked, with the reward workbench; or take another "
        "one, or a reward model.",
    )


def _figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """The share of wins, a tie counting as half of one, and of it the wins and the ties alone."""
    keys = [row["key"] for row in rows]
    yield figure("win_rate", Scores(keys, [row["win"] for row in rows]), "higher")
    for metric, score in (("wins", 1.0), ("ties", 0.5)):
        share = figure(metric, Scores(keys, [float(row["win"] == score) for row in rows]), "")
        yield share.alone()


METHOD = Method(
    slug="eval-winrate",
    title="Win rate",
    paradigm=None,
    branch=EVALUATION.title,
    summary="Has the model and another answer the same prompts, and a judge say which answer is better: the share won.",
    when="There are no right answers to compare with, and what counts is whether people would like the answers better "
    "than those of the model it was trained from.",
    paper=Paper("Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", "2306.05685"),
    objective="Optimises nothing: it estimates how likely an answer to a prompt like those of the dataset is "
    "preferred, ties counting a half. The judge reads both answers in both orders, and what only the order decides is "
    "a tie. The interval is the bootstrap's over prompts; where it leaves out 0.5, one of the two is better "
    "by this judge.",
    formula="win rate = 1/|D| Σ_{x ∈ D} win(y, y'), y of the model, y' of teacher_model\n"
    "win = 1 for y better than y', 0 for worse, 1/2 for ties",
    watch=(
        "Judges like long answers, and those of their own family: read some in the run's samples.",
        "Ties at most prompts: the answers are alike, or the judge goes by the order. Take a stronger judge.",
        "A reward model that the model was trained on: it is no judge of what it taught.",
    ),
    formats=FORMATS,
    config=WinRateConfig,
    run=run,
    charts=(
        ChartSpec(
            "Win rate",
            ("win_rate",),
            "share of prompts",
            "The estimate as prompts are added. Above 0.5 the model is preferred; where the band holds 0.5 there are "
            "too few prompts to tell. The band is 95 % by bootstrap over prompts.",
            x="prompts",
            band=True,
        ),
        ChartSpec(
            "Wins and ties",
            ("wins", "ties"),
            "share of prompts",
            "The prompts that were won outright, and those that were not decided.",
            x="prompts",
            band=True,
        ),
        WRITING_SPEED,
    ),
    main_fields=("measure_on", "eval_rows", "max_completion_length", "batch_size", "sampled", "rewards.judge_by"),
    makes_checkpoints=False,
    teacher=Teacher.OPPONENT,
)
