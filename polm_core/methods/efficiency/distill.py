"""On-policy distillation (GKD): the model learns what its teacher would say next, also within its own answers."""

from polm_core.blocks import MAIN, setting
from polm_core.context import RunContext
from polm_core.method import Method, Paper, Paradigm, Teacher
from polm_core.methods.efficiency.teaching import (
    BRANCH,
    FORMATS,
    MAIN_FIELDS,
    OTHER_TEMPLATE,
    TaughtConfig,
    charts,
    train_with_teacher,
)


class DistillConfig(TaughtConfig):
    """Settings of on-policy distillation."""

    on_policy: float = setting(0.5, group=MAIN, unit="share of steps", source="trl's GKD", step=0.1, ge=0, le=1)
    """Share of the steps that learn from answers which the model writes itself; the others learn from the rows' own
    answers. 1 never looks at those, 0 is distillation on a fixed dataset."""

    beta: float = setting(0.5, group=MAIN, source="trl's GKD", step=0.1, ge=0, le=1)
    """Which divergence is minimised: 0 the forward one, which covers all that the teacher might say; 1 the reverse one,
    which keeps to what it likes most; between them the Jensen-Shannon divergence, its teacher weighed by beta."""

    @property
    def share_on_policy(self) -> float:
        return self.on_policy


def run(config: DistillConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    from trl.experimental.gkd import GKDTrainer

    return train_with_teacher(
        config,
        context,
        lambda read: GKDTrainer.generalized_jsd_loss(read.student, read.teacher, beta=config.beta),
    )


METHOD = Method(
    slug="distill",
    title="On-policy distillation",
    paradigm=Paradigm.EFFICIENCY,
    branch=BRANCH,
    summary="Teaches a small model what a larger one would say next, in the rows' answers and in its own.",
    when="You have a larger model of the same family that does well, and want a smaller one that comes near it. It "
    "learns from every token's odds, so it needs fewer rows than imitation.",
    paper=Paper("On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", "2306.13649"),
    objective="Minimises the divergence of the model from its teacher at every token of an answer: the row's, or at a "
    "share on_policy of the steps one that the model has just written. So it is corrected where it goes astray, and "
    "not only on the path of good answers.",
    formula="L = 1/|T| Σ_{t ∈ T} D(p_T(·|x, y_{<t}), π(·|x, y_{<t}))\n"
    "D = beta · KL(p_T || m) + (1 - beta) · KL(π || m), m = beta · p_T + (1 - beta) · π\n"
    "y = the row's answer, or with probability on_policy drawn from π(·|x)",
    watch=(
        "A distance that falls on the steps' answers and not on held-out ones: the rows are too few, or too alike.",
        "Held-out loss that rises while the distance falls: the teacher is worse at this data than the rows are. Lower "
        "on_policy does not help; take another teacher, or sft.",
        OTHER_TEMPLATE,
        "A weak start: answers of a model that cannot answer teach little. Train it on the rows first, or lower "
        "on_policy.",
    ),
    formats=FORMATS,
    config=DistillConfig,
    run=run,
    charts=charts(
        "The divergence that is minimised. It swings, as some steps learn from the model's own answers: read the "
        "held-out curves."
    ),
    main_fields=(*MAIN_FIELDS[:-1], "on_policy", MAIN_FIELDS[-1]),
    teacher=Teacher.SAME_TOKENIZER,
)
