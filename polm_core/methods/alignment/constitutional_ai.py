"""Constitutional AI: the model criticises its own answers by written principles, revises them, and learns from that."""

import math
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from polm_core.blocks import DATA, MAIN, setting
from polm_core.context import RunContext
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.feedback import (
    EVALUATED_PARTS,
    EVALUATED_REWARD,
    FORMATS,
    KEPT,
    OWN_JUDGEMENT,
    UNCHANGED,
    WORSE,
    FeedbackConfig,
    Start,
    imitate,
    left,
    prefer,
    start,
    tell_of_rows,
    write_answers,
)
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.methods.alignment.revising import Speaker, continued, question_of
from polm_core.training.made import make_rows
from polm_core.training.rewards import judged, weighted
from polm_core.training.rows import Row

CONSTITUTION = "constitution"
PRINCIPLES = [
    "Be helpful: answer what was asked, fully and to the point.",
    "Be honest: claim nothing that is not true or that you cannot know, and say so when you are not sure.",
    "Be harmless: help with nothing that is illegal, violent, hateful or dangerous, and say why in a friendly way.",
    "Be respectful: do not preach, and do not talk down to whoever asks.",
    "Be clear: use plain words, and leave out what the answer does not need.",
]

_CRITIQUE = "Criticise your last answer. Say in a sentence where it does not keep to this principle: {principle}"
# Small models answer what was said last, so the question is said again.
_REVISE = "{principle} Keep to that and answer again, with the new answer alone: {question}"


class ConstitutionalConfig(FeedbackConfig):
    """Settings of constitutional AI. The rewards are what answers are measured by: those to held-out prompts, and
    revisions against first answers. Choose what the principles ask for, as far as it can be measured."""

    # The answer, its critique and the revision.
    answers_in_a_text: ClassVar[int] = 3

    learning_rate: float = setting(1e-5, group=MAIN, gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes, pairs a tenth of what
    revisions take."""

    principles: list[str] = setting(PRINCIPLES, group=CONSTITUTION, media="text/plain", min_length=1, max_length=50)
    """The constitution: what answers are to be, one principle a line. Each round of a prompt takes one of them by
    chance."""

    rounds: int = setting(1, group=CONSTITUTION, unit="rounds", ge=1, le=10)
    """How often an answer is criticised and written again."""

    train_on: Literal["revisions", "pairs"] = setting(
        "revisions", group=MAIN, source="the supervised stage of Constitutional AI, arXiv 2212.08073"
    )
    """`revisions` imitates the revised answers; `pairs` prefers each to the first answer, by DPO."""

    keep: Literal["all", "better"] = setting("all", group=DATA, source="Constitutional AI, arXiv 2212.08073")
    """`all` learns from every revision; `better` from those alone that earn more than the first answer, for models
    whose revisions cannot be relied on."""

    @field_validator("principles", mode="before")
    @classmethod
    def _as_lines(cls, value: Any) -> Any:
        """Accept one text with a principle on each line."""
        lines = value.splitlines() if isinstance(value, str) else value
        return [line.strip() for line in lines if str(line).strip()] if isinstance(lines, list) else lines

    @field_validator("principles")
    @classmethod
    def _check_principles(cls, principles: list[str]) -> list[str]:
        if any(len(principle) > 2000 for principle in principles):
            raise ValueError("must be principles of at most 2,000 characters each")
        return principles

    @property
    def sequences_per_row(self) -> int:
        return 2 if self.train_on == "pairs" else 1

    def rollouts(self, steps: int, prompts: int) -> int:
        return math.ceil(prompts / self.batch_size) * (1 + 2 * self.rounds)


def run(config: ConstitutionalConfig, context: RunContext) -> dict[str, float]:
    """Answer, criticise and revise, then train on the revisions and return the final metrics."""
    begun = start(config, context)
    context.phase("criticising and revising")
    reviser = Reviser(config, context, begun)
    made = make_rows(context, config, begun.prompts.train, reviser.revise, batch_size=config.batch_size)
    rows = left(made, "answers")
    tell_of_rows(
        context,
        {
            "made/kept": len(rows) / len(made),
            **_mean("made/reward/first", made, "first_reward"),
            **_mean("made/reward/revision", made, "reward"),
            **reviser.speaker.pace.metrics,
        },
    )
    if config.train_on == "revisions":
        return imitate(config, context, begun, [_pick(row, completion="revision") for row in rows])
    return prefer(config, context, begun, [_pick(row, chosen="revision", rejected="first") for row in rows])


def _pick(row: Row, **columns: str) -> Row:
    return {"prompt": row["prompt"], **{name: row[column] for name, column in columns.items()}}


def _mean(key: str, rows: Sequence[Row], column: str) -> dict[str, float]:
    values = [row[column] for row in rows if row.get(column) is not None]
    return {key: fmean(values)} if values else {}


class Reviser:
    """Makes a row with the first answer, the critiques and the revision from each prompt."""

    def __init__(self, config: ConstitutionalConfig, context: RunContext, begun: Start) -> None:
        self.config = config
        self.context = context
        self.begun = begun
        self.speaker = Speaker(config, begun)

    def revise(self, place: int, prompts: Sequence[Row]) -> list[Row]:
        """The rows of some prompts, of which the first stands at `place`. Those that cannot be trained on say why."""
        rows = [{**row, "critiques": [], "principles": []} for row in prompts]
        self.speaker.say(rows, "first", [row["prompt"] for row in rows], place, 0)
        for row in rows:
            row["revision"] = row.get("first", "")
        for number in range(self.config.rounds):
            self._revise_once(rows, place, number)
        self._judge(rows, place)
        return rows

    def _revise_once(self, rows: list[Row], place: int, number: int) -> None:
        for index, row in enumerate(rows, place):
            draw = random.Random(f"{self.config.seed} {index} {number}")  # noqa: S311
            row["principles"].append(draw.choice(self.config.principles))
            row["asked"] = [row["revision"], _CRITIQUE.format(principle=row["principles"][-1])]
        self.speaker.say(
            rows, "critique", [continued(row["prompt"], row["asked"]) for row in rows], place, 2 * number + 1
        )
        for row in rows:
            if "problem" not in row:
                row["critiques"].append(row.pop("critique"))
                request = _REVISE.format(principle=row["principles"][-1], question=question_of(row["prompt"]))
                row["asked"] += [row["critiques"][-1], request]
        self.speaker.say(
            rows, "revision", [continued(row["prompt"], row["asked"]) for row in rows], place, 2 * number + 2
        )
        for row in rows:
            del row["asked"]

    def _judge(self, rows: list[Row], place: int) -> None:
        """Reward both answers, and mark revisions that there is nothing to learn from."""
        weights = self.config.rewards.weights
        whole = [(index, row) for index, row in enumerate(rows, place) if "problem" not in row]
        for column, reward in (("first", "first_reward"), ("revision", "reward")):
            found = judged(self.begun.prompts.rewards, [row for _, row in whole], [row[column] for _, row in whole])
            for (_, row), parts in zip(whole, found, strict=True):
                row[f"{column}_parts"], row[reward] = parts, weighted(parts, weights)
        for index, row in whole:
            both = [row.pop("first_parts"), row.pop("revision_parts")]
            notes = ["First answer", _note(row)]
            write_answers(self.context, index, row["prompt"], [row["first"], row["revision"]], both, weights, notes)
            if problem := self._fault(row):
                row["problem"] = problem

    def _fault(self, row: Row) -> str | None:
        if row["revision"] == row["first"] and self.config.train_on == "pairs":
            return UNCHANGED
        if self.config.keep == "better" and not _is_above(row["reward"], row["first_reward"]):
            return WORSE
        return None


def _is_above(reward: float | None, other: float | None) -> bool:
    return reward is not None and other is not None and reward > other


def _note(row: Row) -> str:
    rounds = zip(row["principles"], row["critiques"], strict=True)
    return "Revision\n" + "\n".join(f"Principle: {principle}\nCritique: {critique}" for principle, critique in rounds)


METHOD = Method(
    slug="constitutional-ai",
    title="Constitutional AI",
    paradigm=Paradigm.ALIGNMENT,
    branch="Reinforcement learning from AI feedback",
    summary="Has the model criticise and revise its own answers by written principles, and trains it on these.",
    when="You can write down what good answers are like, have prompts and no answers, and the model follows "
    "instructions well enough to revise.",
    paper=Paper("Constitutional AI: Harmlessness from AI Feedback", "2212.08073"),
    objective="Minimises the negative log-likelihood of revisions that the model itself wrote, after it had criticised "
    "its first answer by a principle; or, trained on pairs, DPO's loss of each revision over its first answer.",
    formula="L = -Σ_t log π(y_t|x, y_<t)\ny = the revision of the answer to x, after as many critiques as rounds",
    watch=(
        OWN_JUDGEMENT,
        "Revisions that earn no more than first answers: the model cannot revise. Set keep to better, or take a "
        "stronger one.",
        "Answers that turn preachy or evasive: a constitution of prohibitions alone teaches to refuse. Ask for help "
        "as well.",
    ),
    formats=FORMATS,
    config=ConstitutionalConfig,
    run=run,
    charts=(
        EVALUATED_REWARD,
        EVALUATED_PARTS,
        KEPT,
        ChartSpec(
            "Revisions",
            ("made/reward/first", "made/reward/revision"),
            "reward",
            "The mean reward of first answers and of their revisions. Revisions that earn no more have nothing to "
            "teach: write other principles, or keep the better ones.",
        ),
        ChartSpec(
            "Loss",
            ("loss",),
            "nats per token or pair",
            "Falls as the revisions are learned; for pairs it starts at 0.69, which is chance.",
        ),
        ChartSpec(
            "Reward margin",
            ("rewards/margins",),
            "reward",
            "When trained on pairs: how much more the model prefers revisions to first answers than it did.",
        ),
        WRITING_SPEED,
        GRADIENT_NORM,
    ),
    main_fields=("max_steps", "epochs", "batch_size", "learning_rate", "train_on", "principles", "adapter.type"),
)
