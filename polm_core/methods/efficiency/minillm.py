"""MiniLLM: the model minimises its reverse KL divergence from a teacher, over whole answers of its own."""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import torch

    from polm_core.training.distilling import Read


class MiniLlmConfig(TaughtConfig):
    """Settings of MiniLLM."""

    learning_rate: float = setting(5e-6, group=MAIN, source="MiniLLM, arXiv 2306.08543", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    length_normalised: bool = setting(True, group=MAIN, source="MiniLLM, arXiv 2306.08543, section 2.2")
    """Take the mean over the tokens that follow in place of their sum, so that short answers are not preferred."""


def run(config: MiniLlmConfig, context: RunContext) -> dict[str, float]:
    """Train and return the final metrics."""
    return train_with_teacher(config, context, lambda read: reverse_divergence(read, mean=config.length_normalised))


def reverse_divergence(read: "Read", *, mean: bool) -> "torch.Tensor":
    """The loss whose gradient is that of the reverse KL divergence over answers, by its two parts.

    At each token the divergence of the next one is taken over all tokens there are; what the token leads to is
    rewarded by how much likelier the teacher finds what follows, in all or in the `mean` of the tokens.
    """
    import torch

    from polm_core.training.distilling import divergence

    own, theirs = read.said
    rewards = torch.zeros(read.trained.shape, dtype=own.dtype, device=own.device)
    rewards[read.trained] = (theirs - own).detach()
    # What comes after each place of a line, without the place itself.
    following = rewards.flip(1).cumsum(1).flip(1) - rewards
    if mean:
        counts = read.trained.to(own.dtype)
        following = following / (counts.flip(1).cumsum(1).flip(1) - counts).clamp(min=1)
    return divergence(read.student, read.teacher) - (following[read.trained] * own).mean()


METHOD = Method(
    slug="minillm",
    title="MiniLLM",
    paradigm=Paradigm.EFFICIENCY,
    branch=BRANCH,
    summary="Teaches a small model to say only what a larger one finds likely, by its own whole answers.",
    when="The model is much smaller than its teacher and cannot learn all that it might say: better to say part of it "
    "well. Give it a model that answers already.",
    paper=Paper("MiniLLM: Knowledge Distillation of Large Language Models", "2306.08543"),
    objective="Minimises the reverse KL divergence of the model from its teacher over answers that the model writes, "
    "by policy gradient: the divergence at each token itself, and the odds that the teacher gives to all that follows. "
    "The paper's mixing of the teacher into the answers is left out, as trl does.",
    formula="L = 1/|T| Σ_t KL(π(·|x, y_{<t}) || p_T(·|x, y_{<t})) - R_{t+1} · log π(y_t|x, y_{<t})\n"
    "R_{t+1} = 1/(|y| - t) Σ_{s > t} log(p_T(y_s|x, y_{<s}) / π(y_s|x, y_{<s}))\n"
    "y drawn from π(·|x)",
    watch=(
        "Answers that grow alike or short: the reverse divergence rewards keeping to little. Keep length_normalised, "
        "or take distill with a beta below 1.",
        "A held-out distance that stalls or rises while that on the model's own answers falls: the rows' answers are "
        "not what the model says now. That is what the method does; the samples show whether it is good.",
        OTHER_TEMPLATE,
        "A loss that swings: it is a policy gradient. Larger batches are steadier.",
    ),
    formats=FORMATS,
    config=MiniLlmConfig,
    run=run,
    charts=charts("Swings, and may be below 0: it says little about progress. Read the distance."),
    main_fields=MAIN_FIELDS,
    teacher=Teacher.SAME_TOKENIZER,
)
