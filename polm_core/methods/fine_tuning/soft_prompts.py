"""Adaptive fine-tuning: supervised fine-tuning of virtual tokens before the text, as rows of their own."""

from typing import Any

from polm_core.method import Method, Paper, preset
from polm_core.methods.fine_tuning import sft

_MAIN = ("max_steps", "epochs", "batch_size", "learning_rate", "adapter.virtual_tokens", "max_length")


def _soft_prompt(slug: str, title: str, summary: str, when: str, paper: Paper, **defaults: Any) -> Method:
    return preset(
        sft.METHOD,
        slug=slug,
        title=title,
        branch="Adaptive fine-tuning",
        summary=summary,
        when=when,
        paper=paper,
        defaults=defaults,
        main_fields=_MAIN,
    )


PROMPT_TUNING = _soft_prompt(
    "prompt-tuning",
    "Prompt tuning",
    "Learns a few virtual tokens that stand before every prompt; the model stays as it is.",
    "Very many tasks share one large model: a task costs some kilobytes. Weak on small models.",
    Paper("The Power of Scale for Parameter-Efficient Prompt Tuning", "2104.08691"),
    learning_rate=3e-2,
    adapter={"type": "prompt", "virtual_tokens": 20},
)

PREFIX_TUNING = _soft_prompt(
    "prefix-tuning",
    "Prefix tuning",
    "Learns virtual keys and values that every layer attends to.",
    "Prompt tuning is too weak, and the weights must stay as they are.",
    Paper("Prefix-Tuning: Optimizing Continuous Prompts for Generation", "2101.00190"),
    learning_rate=1e-2,
    adapter={"type": "prefix", "virtual_tokens": 20},
)

P_TUNING = _soft_prompt(
    "p-tuning",
    "P-tuning",
    "Learns virtual tokens through a small network, which steadies the training.",
    "Prompt tuning is unsteady; what is kept in the end is as small.",
    Paper("GPT Understands, Too", "2103.10385"),
    learning_rate=1e-3,
    adapter={"type": "p-tuning", "virtual_tokens": 20},
)

METHODS: tuple[Method, ...] = (PROMPT_TUNING, PREFIX_TUNING, P_TUNING)
