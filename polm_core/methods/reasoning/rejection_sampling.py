"""Rejection sampling: in each round the model answers, and is fine-tuned on those of its answers that are right."""

import gc
import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from polm_core.blocks import DATA, MAIN, setting
from polm_core.context import RunContext
from polm_core.errors import ModelError
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.feedback import (
    EVALUATED_PARTS,
    EVALUATED_REWARD,
    NO_JUDGEMENT,
    NONE_RIGHT,
    Start,
    imitator,
    left,
    start,
    write_answers,
)
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.methods.reasoning.self_training import (
    ACCURACY,
    CUT_OFF,
    ENTROPY,
    FORMATS,
    WRONG_REASON,
    SelfTrainingConfig,
)
from polm_core.training.made import make_rows
from polm_core.training.rewards import is_right, judged, weighted
from polm_core.training.rows import Row
from polm_core.training.sampling import APART, Pace, answers_to


class RejectionSamplingConfig(SelfTrainingConfig):
    """Settings of rejection sampling. The rewards are what tells right answers from wrong ones."""

    max_steps: int = setting(0, group=MAIN, unit="steps", ge=0, le=10_000_000)
    """Optimiser steps of all rounds together; 0 lets the epochs decide."""

    epochs: float = setting(1.0, group=MAIN, unit="epochs", gt=0, le=1000)
    """Passes over the rows of each round; not used when the steps are given."""

    learning_rate: float = setting(1e-5, group=MAIN, gt=0, le=1)
    """Peak step size of the optimiser; each round has a schedule of its own. Adapters take about ten times what full
    training takes."""

    rounds: int = setting(2, group=MAIN, unit="rounds", ge=1, le=100)
    """How often the model answers all prompts and is trained on what was right."""

    start_from: Literal["base", "last"] = setting("base", group=MAIN, source="STaR, arXiv 2203.14465, and ReST-EM")
    """What a round trains: `base` begins each one with the run's own model again, which keeps it from drifting;
    `last` goes on from the round before."""

    num_generations: int = setting(4, group=MAIN, unit="answers", ge=1, le=1024)
    """Answers to each prompt in a round. More of them solve more prompts, and take longer."""

    keep: int = setting(2, group=DATA, unit="answers", ge=1, le=1024)
    """Most right answers to a prompt that are kept in a round, each text once: without a bound, easy prompts outweigh
    hard ones."""

    @field_validator("rounds")
    @classmethod
    def _check_rounds(cls, rounds: int, info: ValidationInfo) -> int:
        total = info.data.get("max_steps", 0)
        if 0 < total < rounds:
            raise ValueError(f"must be at most max_steps, {total}: each round takes a step or more")
        return rounds

    @property
    def rounds_of_epochs(self) -> int:
        return self.rounds

    def rollouts(self, steps: int, prompts: int) -> int:
        return self.rounds * math.ceil(prompts * self.num_generations / self.generation_batch_size)

    def steps_of_round(self, number: int, rows: int) -> int:
        """Optimiser steps of a round, counted from 0, that has so many rows."""
        if self.max_steps:
            whole, rest = divmod(self.max_steps, self.rounds)
            return whole + (number < rest)
        return math.ceil(self.epochs * math.ceil(rows / (self.batch_size * self.gradient_accumulation_steps)))


def run(config: RejectionSamplingConfig, context: RunContext) -> dict[str, float]:
    """Sample and train in each round, or in what is left of them, and return the final metrics."""
    from transformers import set_seed

    from polm_core.training.loop import resumed_step, train
    from polm_core.training.reporting import Stage
    from polm_core.training.setup import bring_model
    from polm_core.training.warm_up import put_weights, trained_weights

    begun, done = start(config, context, FORMATS), resumed_step(context)
    trainer: Any = None
    before = 0
    for number in range(config.rounds):
        writer = begun.model if trainer is None else trainer.model.eval()
        rows = answers_of_round(config, context, begun._replace(model=writer), number, before, done)
        steps = config.steps_of_round(number, len(rows))
        if before + steps < done:
            before += steps
            continue
        learned, tokens = {}, 0
        if trainer is not None:
            learned = trained_weights(writer) if config.start_from == "last" else {}
            tokens = trainer.state.num_input_tokens_seen
            # What the last round held must be gone before there is room for the next.
            trainer = writer = None
            begun = begun._replace(model=None)
            gc.collect()
            begun = Start(begun.prompts, *bring_model(config, context))
        # A new adapter begins the same, whatever was drawn before.
        set_seed(config.seed + number)
        trainer = imitator(config, context, begun, rows, right_from=config.min_reward, max_steps=steps)
        put_weights(trainer.model, learned)
        after = config.max_steps - before - steps if config.max_steps else steps * (config.rounds - number - 1)
        stage = Stage(f"training, {_named(number, config)}", before=before, after=after, tokens=tokens)
        train(trainer, context, config, begun.prompts.split, stage=stage)
        if context.ending is not None:
            break
        before += steps
    return dict(context.latest)


def answers_of_round(
    config: RejectionSamplingConfig, context: RunContext, begun: Start, number: int, before: int, done: int
) -> list[Row]:
    """The right answers to all prompts, as rows to train on. The run has trained `done` steps, and the round begins
    after `before`. Raises `DataError` when there are none."""
    context.phase(f"answering, {_named(number, config)}")
    sampler = Sampler(config, context, begun, number, before)
    made = make_rows(
        context,
        config,
        begun.prompts.train,
        # What the run has trained on it cannot make anew: it has learned since.
        _lost if before < done else sampler.sample,
        batch_size=max(1, config.generation_batch_size // config.num_generations),
        turn=number,
    )
    solved = left(made, f"prompts of {_named(number, config)}")
    rows = [{"prompt": row["prompt"], "completion": answer} for row in solved for answer in row["kept"]]
    if before >= done:
        right = sum(row["right"] for row in made)
        context.log_metrics(
            before,
            {
                "made/solved": len(solved) / len(made),
                "made/right": right / (len(made) * config.num_generations),
                "made/rows": float(len(rows)),
                **sampler.pace.metrics,
            },
        )
    return rows


def _named(number: int, config: RejectionSamplingConfig) -> str:
    return f"round {number + 1} of {config.rounds}"


def _lost(place: int, prompts: Sequence[Row]) -> list[Row]:
    raise ModelError(
        "The rows that the run was trained on are not beside its checkpoint, so it cannot go on from it.",
        code="checkpoint.rows",
        advice="Start a new run from the checkpoint's model instead.",
    )


class Sampler:
    """Answers prompts several times each, and keeps what is right."""

    def __init__(
        self, config: RejectionSamplingConfig, context: RunContext, begun: Start, number: int, step: int
    ) -> None:
        self.config = config
        self.context = context
        self.begun = begun
        self.number = number
        self.step = step
        self.pace = Pace()

    def sample(self, place: int, prompts: Sequence[Row]) -> list[Row]:
        """A row for each of some prompts, of which the first stands at `place`: the right answers to it, or why there
        are none."""
        count, weights = self.config.num_generations, self.config.rewards.weights
        rows = [row for row in prompts for _ in range(count)]
        answers = [
            answer.strip()
            for answer in answers_to(
                self.begun.model,
                self.begun.prompts.tokenizer,
                [row["prompt"] for row in rows],
                self.config,
                sampled=True,
                seed=self.config.seed + place * count + self.number * APART,
                pace=self.pace,
            )
        ]
        parts = judged(self.begun.prompts.rewards, rows, answers)
        made = []
        for index, row in enumerate(prompts):
            own = slice(index * count, (index + 1) * count)
            write_answers(self.context, place + index, row["prompt"], answers[own], parts[own], weights, step=self.step)
            earned = [weighted(one, weights) for one in parts[own]]
            made.append({**row, "round": self.number, **self._kept(answers[own], earned)})
        return made

    def _kept(self, answers: Sequence[str], rewards: Sequence[float | None]) -> Row:
        right = [
            answer
            for answer, reward in zip(answers, rewards, strict=True)
            if answer and is_right(reward, self.config.min_reward)
        ]
        if not right:
            judged_none = all(reward is None for reward in rewards)
            return {"kept": [], "right": 0, "problem": NO_JUDGEMENT if judged_none else NONE_RIGHT}
        # The first ones as they were drawn, so that none is favoured for what it is like.
        different: dict[str, str] = {}
        for answer in right:
            different.setdefault(" ".join(answer.split()), answer)
        return {"kept": list(different.values())[: self.config.keep], "right": len(right)}


METHOD = Method(
    slug="rejection-sampling",
    title="Rejection sampling",
    paradigm=Paradigm.REASONING,
    branch="Self-refinement",
    summary="Answers each prompt several times, keeps the answers that are right, and learns from these, in rounds.",
    when="Answers can be checked, and the model gets some right: the simplest and steadiest way to learn from that.",
    paper=Paper("Beyond Human Data: Scaling Self-Training for Problem-Solving with Language Models", "2312.06585"),
    objective="Minimises, in each round, the negative log-likelihood of those of the model's own answers that earn "
    "min_reward or more, at most keep of them a prompt: an expectation-maximisation of the chance to be right.",
    formula="L = -1/|D| Σ_{(x, y) ∈ D} Σ_t log π(y_t|x, y_<t)\n"
    "D = up to keep different y for each x, of num_generations y ~ π_round(·|x) with R(x, y) ≥ min_reward\n"
    "R = Σ_m weight_m · r_m(x, y)",
    watch=(
        "Prompts with a right answer: when hardly any has one there is little to learn from, and when all have one "
        "there is nothing new. Take prompts between the two.",
        WRONG_REASON,
        "Answers that grow alike from round to round: right ones crowd out others. Few rounds, a higher temperature, "
        "and start_from base help.",
        CUT_OFF,
    ),
    formats=FORMATS,
    config=RejectionSamplingConfig,
    run=run,
    charts=(
        ACCURACY,
        EVALUATED_REWARD,
        ChartSpec(
            "Right answers",
            ("made/solved", "made/right"),
            "share",
            "The prompts with a right answer, and the answers that are right, as each round begins. Both should rise "
            "from round to round.",
        ),
        ChartSpec(
            "Rows of a round",
            ("made/rows",),
            "rows",
            "The different right answers that a round trains on. A round on few rows learns them by heart.",
        ),
        EVALUATED_PARTS,
        ChartSpec(
            "Loss",
            ("loss",),
            "nats per token",
            "Falls within a round; it is low from the start, as the answers are the model's own. A round that starts "
            "from base begins as high as the first.",
        ),
        ENTROPY,
        WRITING_SPEED,
        GRADIENT_NORM,
    ),
    main_fields=(
        "rounds",
        "max_steps",
        "epochs",
        "learning_rate",
        "num_generations",
        "max_completion_length",
        "adapter.type",
    ),
)
