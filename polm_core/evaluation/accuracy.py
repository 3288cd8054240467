"""Accuracy: how often a model's answer is right, by rewards that verify it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import DATA, setting
from polm_core.context import RunContext
from polm_core.errors import DataError
from polm_core.evaluation.answering import FORMATS, AnswersConfig, keep_answer
from polm_core.evaluation.choosing import rows_to_measure
from polm_core.evaluation.intervals import Scores
from polm_core.evaluation.results import Figure, figure, growing, row_keys
from polm_core.method import EVALUATION, ChartSpec, Method, Paper
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.rewards.config import ROLLOUTS
from polm_core.training.made import make_rows
from polm_core.training.rewards import is_right, judged, weighted
from polm_core.training.rows import Row
from polm_core.training.sampling import Pace, answers_to

logger = logging.getLogger(__name__)


class AccuracyConfig(AnswersConfig):
    """Settings of the evaluation by right answers. The rewards are what verifies them."""

    min_reward: float = setting(1.0, group=DATA, unit="reward", step=0.1, ge=-10_000, le=10_000)
    """The weighted reward from which an answer is right: 1 for one reward that is 1 for right answers."""

    num_samples: int = setting(1, group=ROLLOUTS, unit="answers", ge=1, le=1024)
    """Answers to each prompt, of which the share that is right counts; more than one have to be sampled."""

    @field_validator("num_samples")
    @classmethod
    def _check_drawn(cls, samples: int, info: ValidationInfo) -> int:
        if samples > 1 and not info.data.get("sampled"):
            raise ValueError("must be 1 unless sampled is on: without chance all answers are the same")
        return samples

    @property
    def answers_to_each(self) -> int:
        return self.num_samples


def run(config: AccuracyConfig, context: RunContext) -> dict[str, float]:
    """Answer the prompts, or those that are left, and return how many answers are right."""
    from polm_core.training.setup import bring_writer, read_prompts

    prompts = read_prompts(config, context, FORMATS)
    rows = rows_to_measure(config, prompts.train, prompts.held_out)
    keys = row_keys(rows)
    model = bring_writer(config, context)
    context.phase("answering")
    context.progress(total_steps=len(rows))
    pace, count = Pace(), config.num_samples

    def answer(place: int, some: Sequence[Row]) -> list[Row]:
        asked = [row for row in some for _ in range(count)]
        texts = answers_to(
            model,
            prompts.tokenizer,
            [row["prompt"] for row in asked],
            config,
            sampled=config.sampled,
            seed=config.seed + place * count,
            pace=pace,
        )
        parts = judged(prompts.rewards, asked, texts)
        found = []
        for index, row in enumerate(some):
            own = slice(index * count, (index + 1) * count)
            rewards = _tell(config, context, place + index, row, texts[own], parts[own])
            found.append({"key": keys[place + index], "rewards": rewards})
        context.progress(step=place + len(some))
        return found

    made = make_rows(context, config, rows, answer, batch_size=max(1, config.batch_size // count))
    context.progress(step=len(rows))
    measured = [row for row in made if any(reward is not None for reward in row["rewards"])]
    if len(measured) < len(made):
        logger.warning("%d of %d prompts have no answer that could be judged.", len(made) - len(measured), len(made))
    if not measured:
        raise DataError(
            "None of the answers could be judged.",
            code="data.untrained",
            advice="Take rewards that can judge these rows: math needs rows whose answer is mathematics, exact "
            "compares words; the run's samples show the answers.",
        )
    growing(context, measured, lambda some: _figures(some, config.min_reward))
    context.log_metrics(len(measured), pace.metrics)
    return dict(context.latest)


def _tell(
    config: AccuracyConfig,
    context: RunContext,
    place: int,
    row: Row,
    texts: Sequence[str],
    parts: Sequence[Mapping[str, float | None]],
) -> list[float | None]:
    """Keep the answers to a prompt to read, right or wrong, and return what each earned."""
    rewards = [weighted(one, config.rewards.weights) for one in parts]
    for index, (text, reward) in enumerate(zip(texts, rewards, strict=True)):
        right = {None: "Not judged", True: "Right", False: "Wrong"}[
            None if reward is None else is_right(reward, config.min_reward)
        ]
        keep_answer(context, row, text, right, group=place, place=index, reward=reward, rewards=parts[index])
    return rewards


def _figures(rows: Sequence[Row], least: float) -> Iterator[Figure]:
    """The share of right answers and the mean reward, each prompt's answers counting as one."""
    keys = [row["key"] for row in rows]
    known = [[reward for reward in row["rewards"] if reward is not None] for row in rows]
    right = [fmean(is_right(reward, least) for reward in rewards) for rewards in known]
    yield figure("accuracy", Scores(keys, right), "higher")
    yield figure("reward", Scores(keys, [fmean(rewards) for rewards in known]), "higher").alone()


METHOD = Method(
    slug="eval-accuracy",
    title="Accuracy",
    paradigm=None,
    branch=EVALUATION.title,
    summary="Has the model answer prompts and verifies each answer: the share that is right, with an interval.",
    when="Right answers can be told from wrong ones: mathematics, exact answers, tasks of reasoning-gym, or whatever "
    "rewards you trust.",
    paper=Paper("Adding Error Bars to Evals: A Statistical Approach to Language Model Evaluations", "2411.00640"),
    objective="Optimises nothing: it estimates the share of prompts like those of the dataset that the model gets "
    "right, where an answer is right from min_reward on. The interval is the bootstrap's over prompts.",
    formula="accuracy = 1/|D| Σ_{x ∈ D} 1/n Σ_i 1[R(x, y_i) ≥ min_reward], y_i of num_samples = n answers\n"
    "R = Σ_m weight_m · r_m(x, y)",
    watch=(
        "Answers that are cut off at max_completion_length are wrong as a rule: read some in the run's samples.",
        "Prompts that the model was trained on: take held-out rows, by the seed of the training run.",
        "A judge or a reward model as the reward: then the figure is its opinion, with its blind spots.",
    ),
    formats=FORMATS,
    config=AccuracyConfig,
    run=run,
    charts=(
        ChartSpec(
            "Accuracy",
            ("accuracy",),
            "share of prompts",
            "The estimate as prompts are added. It is good enough when the band is narrower than the differences that "
            "matter to you. The band is 95 % by bootstrap over prompts.",
            x="prompts",
            band=True,
        ),
        ChartSpec(
            "Reward",
            ("reward",),
            "reward",
            "The mean weighted reward. It tells models apart that are seldom right, where rewards are graded.",
            x="prompts",
            band=True,
        ),
        WRITING_SPEED,
    ),
    main_fields=("measure_on", "eval_rows", "max_completion_length", "batch_size", "sampled", "min_reward"),
    makes_checkpoints=False,
)
