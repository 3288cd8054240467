"""Test-time scaling: nothing is trained; how much is won by answering each prompt N times and choosing is measured."""

import logging
import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Literal

from polm_core.blocks import HARDWARE, MAIN, SCHEDULE, OneProcessConfig, setting
from polm_core.context import InterruptedRun, RunContext
from polm_core.errors import DataError
from polm_core.formats import Format
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.feedback import write_answers
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.methods.reasoning.voting import (
    Drawn,
    any_right,
    best_right,
    counts_up_to,
    vote_right,
    with_band,
)
from polm_core.rewards.config import REWARDS, ROLLOUTS, AskingConfig
from polm_core.rewards.verifiers import VERIFIERS, final_answer
from polm_core.training.made import make_rows, rows_made
from polm_core.training.rewards import LEARNED, RewardFunction, judged, weighted
from polm_core.training.rows import Row
from polm_core.training.sampling import Pace, answers_to

logger = logging.getLogger(__name__)

FORMATS = (Format.PROMPT_ANSWER,)
# So many of the answers are kept among the run's samples; all of them are in its rows.
_SHOWN = 2000
_X = "answers a prompt (N)"


class ScalingConfig(AskingConfig, OneProcessConfig):
    """Settings of test-time scaling. The rewards are what chooses among the answers: a reward model or a judge as it
    would in use. One that compares with the row's answer knows that, and is the best that any choice could do."""

    num_samples: int = setting(
        16, group=MAIN, unit="answers", source="self-consistency, arXiv 2203.11171, uses 40", ge=1, le=1024
    )
    """Answers to each prompt: the largest N that is measured. Smaller ones are measured on some of the same answers."""

    batch_size: int = setting(32, group=MAIN, unit="answers", ge=1, le=4096)
    """Answers that are written at once, and judged: more are faster, until memory runs out."""

    verify_by: Literal["math", "exact"] = setting("math", group=MAIN)
    """How an answer is known to be right, and the same as another: `math` compares its last number or formula with the
    row's answer, `exact` its whole text after `</think>`."""

    vote_weight: Literal["reward", "exp"] = setting(
        "reward", group=REWARDS, source="best-of-N weighted, arXiv 2206.02336"
    )
    """What a vote counts for in the weighted vote: `reward` its reward, nothing when that is negative; `exp` e to the
    power of it, for reward models, whose scores have no zero."""

    temperature: float = setting(
        0.7, group=ROLLOUTS, source="self-consistency, arXiv 2203.11171", step=0.1, gt=0, le=10
    )
    """Randomness of the answers: lower ones are alike, and a choice among them wins little."""

    max_completion_length: int = setting(256, group=MAIN, unit="tokens", ge=1, le=32_768)
    """Longest answer; what is not finished by then is cut off."""

    eval_rows: int = setting(100, group=SCHEDULE, unit="rows", ge=1, le=100_000)
    """Most held-out rows whose prompts are answered: the more there are, the narrower the bands."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Processes of the run. One, for the answers are written by one."""

    @property
    def answers_to_each(self) -> int:
        return self.num_samples


def run(config: ScalingConfig, context: RunContext) -> dict[str, float]:
    """Answer the prompts, or those that are left, and return the accuracies of the largest N."""
    from polm_core.training.setup import bring_writer, read_prompts

    prompts = read_prompts(config, context, FORMATS)
    rows = _verifiable(prompts.held_out if prompts.split.held_out else prompts.train, config)
    model = bring_writer(config, context)
    context.phase("answering")
    context.progress(total_steps=len(rows))
    sampler = Sampler(config, context, model, prompts.tokenizer, prompts.rewards, len(rows))
    at_once = max(1, config.batch_size // config.num_samples)
    try:
        made = make_rows(context, config, rows, sampler.sample, batch_size=at_once)
    except InterruptedRun:
        _tell(config, context, rows_made(context), sampler.pace)
        raise
    _tell(config, context, made, sampler.pace)
    context.progress(step=len(rows))
    context.phase("done")
    return dict(context.latest)


def _verifiable(rows: Sequence[Row], config: ScalingConfig) -> list[Row]:
    """The rows whose answer can be compared with. Raises `DataError` when there is none."""
    verify = VERIFIERS[config.verify_by]
    left = [row for row in rows if verify("", row["answer"], config.rewards) is not None]
    if len(left) < len(rows):
        logger.warning("%d of %d prompts have an answer that is no mathematics.", len(rows) - len(left), len(rows))
    if not left:
        raise DataError(
            "No held-out prompt is left whose answer can be compared with.",
            code="data.untrained",
            advice="Set verify_by to exact for answers that are no mathematics, or raise max_length.",
        )
    return left


class Sampler:
    """Answers prompts several times each, and verifies and rewards what is said."""

    def __init__(
        self,
        config: ScalingConfig,
        context: RunContext,
        model: Any,
        tokenizer: Any,
        rewards: Sequence[RewardFunction],
        total: int,
    ) -> None:
        self.config = config
        self.context = context
        self.model = model
        self.tokenizer = tokenizer
        self.rewards = rewards
        self.total = total
        self.judges_steps = _judges_steps(config, context)
        self.pace = Pace()

    def sample(self, place: int, prompts: Sequence[Row]) -> list[Row]:
        """A row for each of some prompts, of which the first stands at `place`, with all answers to it."""
        config, count = self.config, self.config.num_samples
        rows = [row for row in prompts for _ in range(count)]
        texts = answers_to(
            self.model,
            self.tokenizer,
            [row["prompt"] for row in rows],
            config,
            sampled=True,
            seed=config.seed + place * count,
            pace=self.pace,
        )
        verify, weights = VERIFIERS[config.verify_by], config.rewards.weights
        parts = judged(self.rewards, rows, texts)
        answers = [
            {
                "text": text.strip(),
                "is_right": verify(text, row["answer"], config.rewards) == 1.0,
                "says": final_answer(text, config.verify_by),
                "reward": weighted(one, weights),
                "steps": one[LEARNED] if self.judges_steps else None,
            }
            for row, text, one in zip(rows, texts, parts, strict=True)
        ]
        made = []
        for index, row in enumerate(prompts):
            own = slice(index * count, (index + 1) * count)
            if (place + index) * count < _SHOWN:
                said = [text.strip() for text in texts[own]]
                notes = ["Right" if answer["is_right"] else "Wrong" for answer in answers[own]]
                write_answers(self.context, place + index, row["prompt"], said, parts[own], weights, notes)
            made.append({**row, "answers": answers[own]})
        self.context.progress(step=place + len(prompts), total_steps=self.total)
        return made


Choice = Callable[[Sequence[Drawn], int, str], float]


def _judges_steps(config: ScalingConfig, context: RunContext) -> bool:
    """Whether what scores the answers is a process reward model."""
    from polm_core.training.loading import is_step_judge

    scorer = context.spec.reward_model
    return scorer is not None and LEARNED in config.rewards.weights and is_step_judge(scorer)


def _choices(config: ScalingConfig, *, judges_steps: bool) -> dict[str, Choice]:
    """What is measured, by the last part of its metric: the chance to be right among so many answers to a prompt."""

    def weigh(answer: Drawn) -> float:
        reward = answer.reward or 0.0
        return math.exp(min(reward, 500.0)) if config.vote_weight == "exp" else max(0.0, reward)

    by_steps: dict[str, Choice] = {
        "prm": lambda answers, count, seed: vote_right(answers, count, lambda answer: answer.steps or 0.0, seed)
    }
    return (by_steps if judges_steps else {}) | {
        "majority": lambda answers, count, seed: vote_right(answers, count, lambda _: 1.0, seed),
        "weighted": lambda answers, count, seed: vote_right(answers, count, weigh, seed),
        "best": lambda answers, count, _: best_right(answers, count),
        "any": lambda answers, count, _: any_right(answers, count),
    }


def _tell(config: ScalingConfig, context: RunContext, made: Sequence[Row], pace: Pace) -> None:
    """Log the accuracy of each choice at each N, with its band, on the prompts that were answered."""
    if not made:
        return
    context.phase("counting")
    prompts = [
        [Drawn(*itemgetter("is_right", "says", "reward", "steps")(answer)) for answer in row["answers"]] for row in made
    ]
    choices = _choices(config, judges_steps=_judges_steps(config, context))
    for count in counts_up_to(config.num_samples):
        found: dict[str, float] = {"prompts": float(len(prompts))}
        for name, choose in choices.items():
            rights = [choose(one, count, f"{config.seed} {place} {count}") for place, one in enumerate(prompts)]
            point = with_band(rights, config.seed)
            key = f"accuracy/{name}"
            found |= {key: point.mean, f"{key}/low": point.low, f"{key}/high": point.high}
            context.sign_of_life()
        context.log_metrics(count, found | pace.metrics)
        logger.info("N = %d: majority %.3f, best %.3f", count, found["accuracy/majority"], found["accuracy/best"])


METHOD = Method(
    slug="test-time-scaling",
    title="Test-time scaling",
    paradigm=Paradigm.REASONING,
    branch="Test-time scaling",
    summary="Answers each held-out prompt N times, and measures how much more often a vote or the best one is right.",
    when="You want to know what more computing at answering would win, before or in place of training. Trains nothing.",
    paper=Paper("Scaling LLM Test-Time Compute Optimally Can Be More Effective than Scaling Parameters", "2408.03314"),
    objective="Optimises nothing: it estimates the share of prompts that a choice among N answers gets right, in "
    "expectation over the sets of N among num_samples answers: exactly for the best one by reward and for any, and "
    "for votes over all sets where those are at most 100, else over 100 that are drawn.",
    formula="accuracy_N = 1/|D| Σ_{x ∈ D} E_S[right(choice(S))], S = N of num_samples drawn answers y_i\n"
    "majority = argmax_a Σ_{i ∈ S} 1[says(y_i) = a]\n"
    "weighted = argmax_a Σ_{i ∈ S} weight(R(y_i)) · 1[says(y_i) = a]\n"
    "prm = argmax_a Σ_{i ∈ S} step_scores(y_i) · 1[says(y_i) = a]\n"
    "best = argmax_{i ∈ S} R(y_i), any = whether some i ∈ S is right\n"
    "R = Σ_m weight_m · r_m(x, y)",
    watch=(
        "Rewards that know the row's answer: then the best one is right whenever any is. To learn what a choice is "
        "worth in use, take a reward model, a process reward model or a judge.",
        "A process reward model judges lines: an answer in a single line is one step, and a long one has many, whose "
        "product is small. Take min where lengths differ.",
        "Bands that overlap: the difference may be chance. Raise eval_rows.",
        "A vote that falls with N: the most common answer is wrong, and more of it does not help. Train instead.",
        "Answers that are cut off at max_completion_length say nothing that could be voted for.",
    ),
    formats=FORMATS,
    config=ScalingConfig,
    run=run,
    charts=(
        ChartSpec(
            "Accuracy against N",
            ("accuracy/majority", "accuracy/weighted", "accuracy/prm", "accuracy/best", "accuracy/any"),
            "share of prompts",
            "How often a choice among N answers is right. All begin with one answer's own accuracy; any right one is "
            "what a perfect choice would reach. With a process reward model, prm is the vote weighted by what it gives "
            "the steps, whatever other rewards know. A line that has gone flat wins nothing by more answers. The bands "
            "are 95 % by bootstrap over prompts.",
            x=_X,
            band=True,
        ),
        ChartSpec(
            "Majority vote",
            ("accuracy/majority",),
            "share of prompts",
            "The vote alone, which needs neither rewards nor the right answers: what anybody could have in use.",
            x=_X,
            band=True,
        ),
        WRITING_SPEED,
    ),
    main_fields=(
        "num_samples",
        "batch_size",
        "max_completion_length",
        "temperature",
        "verify_by",
        "eval_rows",
    ),
    makes_checkpoints=False,
)
