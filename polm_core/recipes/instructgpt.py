"""Reinforcement learning from human feedback in its three steps, as InstructGPT and ChatGPT were made."""

from polm_core.formats import Format
from polm_core.method import Paper
from polm_core.recipes.recipe import DatasetSlot, ModelSlot, Recipe, Stage

# Nothing but what people prefer counts.
_PREFERRED = {"rewards": {"math": 0.0, "reward_model": 1.0}}

RECIPE = Recipe(
    slug="instructgpt",
    title="InstructGPT",
    summary="RLHF as ChatGPT did it: imitate demonstrations, learn what people prefer, then learn to be preferred.",
    when="You have answers to imitate, pairs of answers that people have compared, and prompts.",
    paper=Paper("Training Language Models to Follow Instructions with Human Feedback", "2203.02155"),
    models=(ModelSlot("base", "Base model", "What is to follow instructions. Both models are made from it."),),
    datasets=(
        DatasetSlot(
            "demonstrations",
            "Demonstrations",
            "Prompts with answers as they should be, to imitate.",
            (Format.CONVERSATION, Format.PROMPT_COMPLETION),
        ),
        DatasetSlot(
            "comparisons", "Comparisons", "Prompts with a better and a worse answer each.", (Format.PREFERENCE,)
        ),
        DatasetSlot(
            "prompts",
            "Prompts",
            "What the model answers while it learns to be preferred; answers that rows hold are not used.",
            (Format.PROMPT, Format.PROMPT_ANSWER),
        ),
    ),
    stages=(
        Stage(
            name="sft",
            title="Supervised fine-tuning",
            summary="The base model imitates the demonstrations.",
            methods={"sft": {}},
            data="demonstrations",
            start="base",
        ),
        Stage(
            name="reward",
            title="Reward model",
            summary="A copy of the fine-tuned model learns to score answers from the comparisons.",
            methods={"reward-model": {}},
            data="comparisons",
            start="sft",
        ),
        Stage(
            name="policy",
            title="Reinforcement learning",
            summary="The fine-tuned model answers the prompts and learns from the scores of the reward model.",
            methods={"ppo": _PREFERRED, "rloo": _PREFERRED, "grpo": _PREFERRED},
            data="prompts",
            start="sft",
            uses={"reward_model": "reward"},
        ),
    ),
)
