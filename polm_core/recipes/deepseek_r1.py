"""Reasoning by reinforcement learning in stages, and its distillation, as DeepSeek-R1 was made.

Two things are simpler than in the paper. Rejection sampling fine-tunes the model on what it keeps, and the next stage
goes on from there with everyday conversations, where the paper mixes both and begins with the base model again. And the
last reinforcement learning has verified answers alone, where the paper adds reward models for helpfulness.
"""

from polm_core.formats import Format
from polm_core.method import Paper
from polm_core.recipes.recipe import LAPTOP, DatasetSlot, ModelSlot, Recipe, Stage

# Right answers, and thoughts before them.
_VERIFIED = {
    "rewards": {"math": 1.0, "think_tags": 0.5},
    "max_steps": 20,
    "batch_size": 16,
    "max_completion_length": 96,
    "eval_rows": 20,
}
_IMITATION = {"max_steps": 40, "eval_rows": 20}
_SOURCES = dict.fromkeys(
    ("max_steps", "batch_size", "max_completion_length", "eval_rows", "rounds", "num_generations", "keep"), LAPTOP
)

RECIPE = Recipe(
    slug="deepseek-r1",
    title="DeepSeek-R1",
    summary="Reasoning learned from verified answers: a cold start, reinforcement learning, rejection sampling, once "
    "more of both, then a small student.",
    when="You have problems whose answers can be checked, some thought out in full, and everyday conversations.",
    paper=Paper("DeepSeek-R1: Incentivizing Reasoning Capability in LLMs via Reinforcement Learning", "2501.12948"),
    models=(
        ModelSlot("base", "Base model", "What is to reason."),
        ModelSlot("student", "Student", "A smaller model that learns from what the reasoning model writes."),
    ),
    datasets=(
        DatasetSlot(
            "cold_start",
            "Cold start",
            "Problems with thoughts in `<think>` tags and the answer after them, to imitate first.",
            (Format.PROMPT_COMPLETION, Format.CONVERSATION),
        ),
        DatasetSlot(
            "problems",
            "Problems",
            "Problems with the answer alone: the model finds the way. Tasks of reasoning-gym will do.",
            (Format.PROMPT_ANSWER,),
        ),
        DatasetSlot(
            "general",
            "Conversations",
            "Everyday conversations, so that the model does not forget how to hold one.",
            (Format.CONVERSATION, Format.PROMPT_COMPLETION),
        ),
    ),
    stages=(
        Stage(
            name="cold-start",
            title="Cold start",
            summary="The base model imitates problems that are thought out, so that it thinks before it answers.",
            methods={"sft": _IMITATION},
            data="cold_start",
            start="base",
            sources=_SOURCES,
        ),
        Stage(
            name="reasoning",
            title="Reasoning",
            summary="It answers the problems and learns from whether the answers are right.",
            methods={"grpo": _VERIFIED, "rloo": _VERIFIED},
            data="problems",
            start="cold-start",
            sources=_SOURCES,
        ),
        Stage(
            name="sampling",
            title="Rejection sampling",
            summary="It answers the problems several times, and is fine-tuned on the answers that are right.",
            methods={
                "rejection-sampling": {
                    "rounds": 1,
                    "num_generations": 2,
                    "keep": 1,
                    "max_completion_length": 96,
                    "eval_rows": 20,
                }
            },
            data="problems",
            start="reasoning",
            sources=_SOURCES,
        ),
        Stage(
            name="general-sft",
            title="General fine-tuning",
            summary="It imitates everyday conversations.",
            methods={"sft": _IMITATION},
            data="general",
            start="sampling",
            sources=_SOURCES,
        ),
        Stage(
            name="final",
            title="Final reinforcement learning",
            summary="It answers the problems once more and learns from whether the answers are right.",
            methods={"grpo": _VERIFIED, "rloo": _VERIFIED},
            data="problems",
            start="general-sft",
            sources=_SOURCES,
        ),
        Stage(
            name="distillation",
            title="Distillation",
            summary="The student is fine-tuned on the answers that the finished model writes to the problems.",
            methods={"seq-kd": {"max_steps": 40, "max_completion_length": 96, "eval_rows": 20}},
            data="problems",
            start="student",
            uses={"teacher_model": "final"},
            sources=_SOURCES,
        ),
    ),
)
