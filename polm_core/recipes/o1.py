"""Thinking longer pays: steps are judged, the model learns to reason, and answers several times in use.

How o1 was made is not published. This is the line of work that it is taken for (arXiv 2503.06072): a process reward
model, reinforcement learning with it, and a choice among answers that it makes in use.
"""

from polm_core.formats import Format
from polm_core.method import Paper
from polm_core.recipes.recipe import LAPTOP, DatasetSlot, ModelSlot, Recipe, Stage

_STEPS = "Let's Verify Step by Step, arXiv 2305.20050"
# Right answers count most: a small process reward model is soon taken in by the model that learns from it.
_GUIDED = {
    "rewards": {"math": 1.0, "reward_model": 0.2, "step_scores": "min"},
    "max_steps": 20,
    "batch_size": 16,
    "max_completion_length": 96,
    "eval_rows": 20,
}

RECIPE = Recipe(
    slug="o1",
    title="o1",
    summary="A process reward model guides reinforcement learning, and then weighs the votes among many answers.",
    when="You have solutions whose steps are marked right or wrong, and problems whose answers can be checked.",
    paper=Paper("OpenAI o1 System Card", "2412.16720"),
    models=(ModelSlot("base", "Base model", "What is to reason. The judge of steps is made from it, too."),),
    datasets=(
        DatasetSlot("steps", "Judged steps", "Solutions whose steps are marked right or wrong.", (Format.STEPWISE,)),
        DatasetSlot(
            "problems",
            "Problems",
            "Problems with the answer alone: the model finds the way. Tasks of reasoning-gym will do.",
            (Format.PROMPT_ANSWER,),
        ),
    ),
    stages=(
        Stage(
            name="prm",
            title="Process reward model",
            summary="A copy of the base model learns to judge each step of a solution.",
            methods={"prm": {"max_steps": 40, "eval_rows": 20}},
            data="steps",
            start="base",
            sources=dict.fromkeys(("max_steps", "eval_rows"), LAPTOP),
        ),
        Stage(
            name="policy",
            title="Reinforcement learning",
            summary="The base model answers the problems, and learns from right answers and well-judged steps.",
            methods={"grpo": _GUIDED, "rloo": _GUIDED},
            data="problems",
            start="base",
            uses={"reward_model": "prm"},
            sources=dict.fromkeys(("max_steps", "batch_size", "max_completion_length", "eval_rows"), LAPTOP),
        ),
        Stage(
            name="scaling",
            title="Test-time scaling",
            summary="It answers held-out problems many times, and the judge of steps weighs the votes.",
            methods={
                "test-time-scaling": {
                    "rewards": {"math": 0.0, "reward_model": 1.0},
                    "num_samples": 8,
                    "max_completion_length": 96,
                    "eval_rows": 30,
                }
            },
            data="problems",
            start="policy",
            uses={"reward_model": "prm"},
            sources={
                **dict.fromkeys(("num_samples", "max_completion_length", "eval_rows"), LAPTOP),
                **dict.fromkeys(("rewards.math", "rewards.reward_model"), _STEPS),
            },
        ),
    ),
)
