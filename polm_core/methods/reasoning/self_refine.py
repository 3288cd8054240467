"""Self-refine: the model criticises its answers and writes them again, and learns from what the rewards prefer."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal

from polm_core.blocks import DATA, MAIN, setting
from polm_core.context import RunContext
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.feedback import (
    EVALUATED_PARTS,
    EVALUATED_REWARD,
    KEPT,
    NO_BETTER,
    NO_JUDGEMENT,
    NONE_RIGHT,
    Start,
    imitator,
    left,
    start,
    tell_of_rows,
    write_answers,
)
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.methods.alignment.revising import Speaker, continued, question_of
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

REFINING = "refining"
CRITIQUE = "Check your last answer step by step. Say in a sentence or two what is wrong or missing in it, if anything."
REWRITE = "Answer again and keep to that, with the new answer alone:"


class SelfRefineConfig(SelfTrainingConfig):
    """Settings of self-refine. The rewards are what prefers one version of an answer to another: verifiers, a judge or
    a reward model."""

    # The answer, its critique and the next version.
    answers_in_a_text: ClassVar[int] = 3

    rounds: int = setting(
        1, group=MAIN, unit="rounds", source="Self-Refine, arXiv 2303.17651, uses up to 4", ge=1, le=10
    )
    """How often an answer is criticised and written again."""

    keep: Literal["improved", "best"] = setting("best", group=DATA)
    """What is learned from: `best` is the version of each answer that earns most, if it is right by min_reward;
    `improved` is a later version that earns more than the first, right or not."""

    critique_request: str = setting(CRITIQUE, group=REFINING, media="text/plain", min_length=1, max_length=10_000)
    """What the model is asked about its last answer."""

    rewrite_request: str = setting(REWRITE, group=REFINING, media="text/plain", min_length=1, max_length=10_000)
    """What it is asked then; the question follows, as small models answer what was said last."""

    def rollouts(self, steps: int, prompts: int) -> int:
        return math.ceil(prompts / self.generation_batch_size) * (1 + 2 * self.rounds)


def run(config: SelfRefineConfig, context: RunContext) -> dict[str, float]:
    """Answer, criticise and write again, then train on what is kept and return the final metrics."""
    from polm_core.training.loop import train

    begun = start(config, context, FORMATS)
    context.phase("criticising and rewriting")
    refiner = Refiner(config, context, begun)
    prompts = begun.prompts.train
    made = make_rows(context, config, prompts, refiner.refine, batch_size=config.generation_batch_size)
    rows = left(made, "answers")
    tell_of_rows(context, {"made/kept": len(rows) / len(made), **_gains(made), **refiner.speaker.pace.metrics})
    kept = [{"prompt": row["prompt"], "completion": row["kept"]} for row in rows]
    trainer = imitator(config, context, begun, kept, right_from=config.min_reward)
    return train(trainer, context, config, begun.prompts.split)


def _gains(made: Sequence[Row]) -> dict[str, float]:
    """What later versions earn against the first, of the prompts where both are known."""
    both = [(row["rewards"][0], _best(row["rewards"][1:])) for row in made if len(row.get("rewards", ())) > 1]
    known = [(first, later) for first, later in both if first is not None and later is not None]
    if not known:
        return {}
    return {
        "made/reward/first": fmean(first for first, _ in known),
        "made/reward/later": fmean(later for _, later in known),
        "made/improved": fmean(later > first for first, later in known),
    }


def _best(rewards: Sequence[float | None]) -> float | None:
    return max((reward for reward in rewards if reward is not None), default=None)


class Refiner:
    """Makes a row with all versions of an answer, the critiques between them and the version to learn from."""

    def __init__(self, config: SelfRefineConfig, context: RunContext, begun: Start) -> None:
        self.config = config
        self.context = context
        self.begun = begun
        self.speaker = Speaker(config, begun)

    def refine(self, place: int, prompts: Sequence[Row]) -> list[Row]:
        """The rows of some prompts, of which the first stands at `place`. Those that cannot be trained on say why."""
        rows: list[Row] = [{**row, "versions": [], "critiques": []} for row in prompts]
        self._say(rows, "versions", [[] for _ in rows], place, 0)
        for number in range(self.config.rounds):
            asked = [[*row["versions"][-1:], self.config.critique_request] for row in rows]
            self._say(rows, "critiques", asked, place, 2 * number + 1)
            for row, said in zip(rows, asked, strict=True):
                request = f"{self.config.rewrite_request} {question_of(row['prompt'])}"
                said += [*row["critiques"][-1:], request]
            self._say(rows, "versions", asked, place, 2 * number + 2)
        self._judge(rows, place)
        return rows

    def _say(self, rows: list[Row], column: str, said: Sequence[Sequence[str]], place: int, turn: int) -> None:
        """Have the model go on from what was said after each prompt, and add that to the rows' column."""
        texts = [
            continued(row["prompt"], after) if after else row["prompt"] for row, after in zip(rows, said, strict=True)
        ]
        self.speaker.say(rows, "said", texts, place, turn)
        for row in rows:
            if text := row.pop("said", ""):
                row[column].append(text)

    def _judge(self, rows: list[Row], place: int) -> None:
        """Reward every version, and choose the one to learn from or say why there is none."""
        weights = self.config.rewards.weights
        versions = [(row, text) for row in rows for text in row["versions"]]
        found = iter(judged(self.begun.prompts.rewards, [row for row, _ in versions], [text for _, text in versions]))
        for index, row in enumerate(rows, place):
            parts = [next(found) for _ in row["versions"]]
            row["rewards"] = [weighted(one, weights) for one in parts]
            notes = ["First answer", *(f"Rewritten\nCritique: {critique}" for critique in row["critiques"])]
            write_answers(self.context, index, row["prompt"], row["versions"], parts, weights, notes)
            if row["versions"]:
                # A critique that does not fit, say, takes nothing away from what was answered before.
                row.pop("problem", None)
                row |= self._chosen(row["versions"], row["rewards"])

    def _chosen(self, versions: Sequence[str], rewards: Sequence[float | None]) -> Row:
        best = _best(rewards)
        if best is None:
            return {"problem": NO_JUDGEMENT}
        kept = {"kept": versions[rewards.index(best)]}
        if self.config.keep == "best":
            return kept if is_right(best, self.config.min_reward) else {"problem": NONE_RIGHT}
        return kept if rewards[0] is not None and best > rewards[0] else {"problem": NO_BETTER}


METHOD = Method(
    slug="self-refine",
    title="Self-refine",
    paradigm=Paradigm.REASONING,
    branch="Self-refinement",
    summary="Has the model criticise its answers and write them again, and trains it on what the rewards prefer.",
    when="The model can find its own mistakes when asked to, and answers can be checked or judged.",
    paper=Paper("Self-Refine: Iterative Refinement with Self-Feedback", "2303.17651"),
    objective="Minimises the negative log-likelihood of the preferred version of each answer, as the answer to the "
    "prompt alone: what took a critique and a second attempt is to be said at once.",
    formula="L = -1/|D| Σ_{(x, y) ∈ D} Σ_t log π(y_t|x, y_<t)\n"
    "y = argmax R over y_0 ~ π(·|x) and y_{n+1} ~ π(·|x, y_n, critique_n), critique_n ~ π(·|x, y_n)\n"
    "R = Σ_m weight_m · r_m(x, y)",
    watch=(
        "Later versions that earn no more than the first: the model cannot correct itself, and a second attempt is "
        "just another sample. Take rejection-sampling, or a stronger model.",
        "Right answers that a rewrite spoils: small models give in to any critique. Read the samples, and ask for a "
        "milder one.",
        WRONG_REASON,
        CUT_OFF,
    ),
    formats=FORMATS,
    config=SelfRefineConfig,
    run=run,
    charts=(
        ACCURACY,
        EVALUATED_REWARD,
        ChartSpec(
            "What rewriting wins",
            ("made/reward/first", "made/reward/later"),
            "reward",
            "The mean reward of first answers, and of the best later version of each. Later ones should earn more.",
        ),
        ChartSpec(
            "Improved answers",
            ("made/improved",),
            "share of prompts",
            "Answers of which a later version earns more than the first. Near 0 the model cannot correct itself.",
        ),
        KEPT,
        EVALUATED_PARTS,
        ChartSpec("Loss", ("loss",), "nats per token", "Falls as the kept versions are learned."),
        ENTROPY,
        WRITING_SPEED,
        GRADIENT_NORM,
    ),
    main_fields=(
        "max_steps",
        "epochs",
        "learning_rate",
        "rounds",
        "keep",
        "max_completion_length",
        "adapter.type",
    ),
)
