"""RLAIF: pairs of the model's own answers are labelled by a judge in people's place, and learned from by DPO."""

import math
from collections.abc import Sequence

from polm_core.blocks import DATA, MAIN, setting
from polm_core.context import RunContext
from polm_core.method import ChartSpec, Method, Paper, Paradigm
from polm_core.methods.alignment.feedback import (
    EMPTY_ANSWER,
    EQUAL_REWARDS,
    EVALUATED_PARTS,
    EVALUATED_REWARD,
    FORMATS,
    KEPT,
    NO_JUDGEMENT,
    OWN_JUDGEMENT,
    FeedbackConfig,
    Start,
    left,
    prefer,
    start,
    tell_of_rows,
    write_answers,
)
from polm_core.methods.alignment.online import WRITING_SPEED
from polm_core.methods.alignment.preference import GRADIENT_NORM
from polm_core.training.made import make_rows
from polm_core.training.rewards import judged, weighted
from polm_core.training.rows import Row
from polm_core.training.sampling import Pace, answers_to


class RlaifConfig(FeedbackConfig):
    """Settings of RLAIF. The rewards are what tells the better answer from the worse: a judge or a reward model, with
    verifiers beside it or alone. Answers to held-out prompts are measured by the same."""

    learning_rate: float = setting(1e-6, group=MAIN, source="DPO, arXiv 2305.18290, appendix B", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    num_generations: int = setting(2, group=MAIN, unit="answers", source="RLAIF, arXiv 2309.00267", ge=2, le=64)
    """Answers to each prompt; the best and the worst of them are its pair."""

    min_margin: float = setting(0.0, group=DATA, unit="reward", step=0.1, ge=0, le=1000)
    """How much more the better answer of a pair has to earn: pairs that are closer are left out, as are equal ones."""

    @property
    def sequences_per_row(self) -> int:
        return 2

    def rollouts(self, steps: int, prompts: int) -> int:
        return math.ceil(prompts * self.num_generations / self.batch_size)


def run(config: RlaifConfig, context: RunContext) -> dict[str, float]:
    """Write answers, label them in pairs, then train on the pairs and return the final metrics."""
    begun = start(config, context)
    context.phase("labelling")
    labeller = Labeller(config, context, begun)
    made = make_rows(context, config, begun.prompts.train, labeller.label, batch_size=config.batch_size)
    pairs = left(made, "prompts")
    margins = [row["chosen_reward"] - row["rejected_reward"] for row in pairs]
    tell_of_rows(
        context,
        {
            "made/kept": len(pairs) / len(made),
            "made/margin": sum(margins) / len(margins),
            **labeller.pace.metrics,
        },
    )
    return prefer(config, context, begun, pairs)


class Labeller:
    """Makes a pair of a better and a worse answer from each prompt."""

    def __init__(self, config: RlaifConfig, context: RunContext, begun: Start) -> None:
        self.config = config
        self.context = context
        self.begun = begun
        self.pace = Pace()

    def label(self, place: int, prompts: Sequence[Row]) -> list[Row]:
        """The pairs of some prompts, of which the first stands at `place`. Those that are none say why."""
        count = self.config.num_generations
        rows = [row for row in prompts for _ in range(count)]
        answers = [
            answer.strip()
            for answer in answers_to(
                self.begun.model,
                self.begun.prompts.tokenizer,
                [row["prompt"] for row in rows],
                self.config,
                sampled=True,
                seed=self.config.seed + place * count,
                pace=self.pace,
            )
        ]
        parts = judged(self.begun.prompts.rewards, rows, answers)
        weights = self.config.rewards.weights
        made = []
        for index, row in enumerate(prompts):
            own = slice(index * count, (index + 1) * count)
            write_answers(self.context, place + index, row["prompt"], answers[own], parts[own], weights)
            made.append({**row, **self._pair(answers[own], [weighted(one, weights) for one in parts[own]])})
        return made

    def _pair(self, answers: Sequence[str], rewards: Sequence[float | None]) -> Row:
        """The best and the worst of the answers that say something, or why there are no two such."""
        said = [(reward, answer) for reward, answer in zip(rewards, answers, strict=True) if answer]
        known = [(reward, answer) for reward, answer in said if reward is not None]
        if len(known) < 2:
            return {"problem": EMPTY_ANSWER if len(said) < 2 else NO_JUDGEMENT}
        (low, rejected), (high, chosen) = min(known), max(known)
        if high - low <= self.config.min_margin:
            return {"problem": EQUAL_REWARDS}
        return {"chosen": chosen, "rejected": rejected, "chosen_reward": high, "rejected_reward": low}


METHOD = Method(
    slug="rlaif",
    title="RLAIF",
    paradigm=Paradigm.ALIGNMENT,
    branch="Reinforcement learning from AI feedback",
    summary="Writes answers, has a judge say which is better, and learns to prefer those, with no person in between.",
    when="You have prompts, nobody to compare answers, and a judge or a reward model that can.",
    paper=Paper("RLAIF vs. RLHF: Scaling Reinforcement Learning from Human Feedback with AI Feedback", "2309.00267"),
    objective="Maximises, by DPO, the preference for the answer that its judge ranks highest over the one it ranks "
    "lowest, of several that the model itself wrote to each prompt before training.",
    formula="L = -log σ(beta · log(π(y_w|x) / π_ref(y_w|x)) - beta · log(π(y_l|x) / π_ref(y_l|x)))\n"
    "y_w, y_l = the best and the worst of num_generations answers by R\n"
    "R = Σ_m weight_m · r_m(x, y)",
    watch=(
        OWN_JUDGEMENT,
        "Few rows to train on: the judge cannot tell the answers apart. Raise num_generations or temperature.",
        "A judge that likes long answers: watch their length in the samples, and add the length reward.",
    ),
    formats=FORMATS,
    config=RlaifConfig,
    run=run,
    charts=(
        EVALUATED_REWARD,
        EVALUATED_PARTS,
        KEPT,
        ChartSpec(
            "Margin of the pairs",
            ("made/margin",),
            "reward",
            "How much more the better answers earn than the worse. Small margins are labels of little worth: raise "
            "num_generations, temperature or min_margin.",
        ),
        ChartSpec(
            "Reward margin",
            ("rewards/margins",),
            "reward",
            "How much more the model prefers the better answer than it did at the start. It should rise.",
        ),
        ChartSpec(
            "Reward accuracy",
            ("rewards/accuracies",),
            "share of pairs",
            "Share of pairs whose better answer is preferred. 0.5 is chance.",
        ),
        ChartSpec("Loss", ("loss",), "nats per pair", "Starts at 0.69, which is chance, and falls."),
        WRITING_SPEED,
        GRADIENT_NORM,
    ),
    main_fields=(
        "max_steps",
        "epochs",
        "batch_size",
        "learning_rate",
        "num_generations",
        "beta",
        "adapter.type",
    ),
)
