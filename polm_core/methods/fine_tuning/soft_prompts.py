"""Adaptive fine-tuning: supervised fine-tuning of virtual tokens before the text, as rows of their own."""

from typing import Any

from polm_core.method import Method, Paper, preset
from polm_core.methods.fine_tuning import sft

_MAIN = ("max_steps", "epochs", "batch_size", "learning_rate", "adapter.virtual_tokens", "max_length")
_CONTEXT = "Virtual tokens take up context: raise max_length along with them, or rows are cut."


def _soft_prompt(
    slug: str,
    title: str,
    summary: str,
    when: str,
    paper: Paper,
    *,
    over: str,
    formula: str,
    watch: tuple[str, ...],
    **defaults: Any,
) -> Method:
    return preset(
        sft.METHOD,
        slug=slug,
        title=title,
        branch="Adaptive fine-tuning",
        objective=f"The loss of supervised fine-tuning, minimised over {over}",
        formula=formula,
        watch=(*watch, _CONTEXT),
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
    over="the embeddings P of the virtual tokens before the text. Every weight of the model stays as it is.",
    formula="L = -1/|T| Σ_{t ∈ T} log π(y_t | P, x, y_{<t})\nP ∈ R^{virtual_tokens × width}",
    watch=(
        "A loss that hardly moves: the learning rate is far above that of other methods, 0.03 to 0.3. Small models may "
        "not get there at all: take prefix-tuning or lora.",
        "Runs of other seeds: results differ more than with other methods. Try two or three.",
    ),
    learning_rate=3e-2,
    adapter={"type": "prompt", "virtual_tokens": 20},
)

PREFIX_TUNING = _soft_prompt(
    "prefix-tuning",
    "Prefix tuning",
    "Learns virtual keys and values that every layer attends to.",
    "Prompt tuning is too weak, and the weights must stay as they are.",
    Paper("Prefix-Tuning: Optimizing Continuous Prompts for Generation", "2101.00190"),
    over="keys and values P_k, P_v that stand before those of the text in every layer.",
    formula="Attention(q, [P_k; K], [P_v; V])\nP_k, P_v ∈ R^{virtual_tokens × width} in each layer",
    watch=(
        "Spiking loss: prefixes are sensitive to the learning rate. Lower it tenfold, or take p-tuning.",
        "More virtual tokens stop helping at some point and then harm: the paper's tasks peaked between 10 and 200.",
    ),
    learning_rate=1e-2,
    adapter={"type": "prefix", "virtual_tokens": 20},
)

P_TUNING = _soft_prompt(
    "p-tuning",
    "P-tuning",
    "Learns virtual tokens through a small network, which steadies the training.",
    "Prompt tuning is unsteady; what is kept in the end is as small.",
    Paper("GPT Understands, Too", "2103.10385"),
    over="embeddings of virtual tokens and a small network through which they go. The network is "
    "needed in training alone: what it gives is kept.",
    formula="L = -1/|T| Σ_{t ∈ T} log π(y_t | MLP(P), x, y_{<t})\nP ∈ R^{virtual_tokens × width}",
    watch=(
        "A loss that levels off above lora's: more virtual tokens, or a method that reaches into the layers.",
        "The learning rate is that of a network, far below the 0.03 of prompt-tuning.",
    ),
    learning_rate=1e-3,
    adapter={"type": "p-tuning", "virtual_tokens": 20},
)

METHODS: tuple[Method, ...] = (PROMPT_TUNING, PREFIX_TUNING, P_TUNING)
