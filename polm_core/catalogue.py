"""Every method the studio offers, as one explicit table, and the survey's map that it is part of; and what measures
models, as another."""

from typing import NamedTuple

from polm_core.errors import ConfigError
from polm_core.evaluation import accuracy, harness, loss, probes, win_rate
from polm_core.method import Method, Paradigm, near
from polm_core.methods.alignment import (
    bco,
    constitutional_ai,
    cpo,
    dpo,
    dpo_presets,
    kto,
    nash_md,
    online_dpo,
    orpo,
    ppo,
    reward_model,
    rlaif,
    rloo,
    xpo,
)
from polm_core.methods.efficiency import adapters, distill, gold, minillm, prune, quantize, select_data, seq_kd
from polm_core.methods.fine_tuning import reft, sft, soft_prompts
from polm_core.methods.integration import continued_pretraining, knowledge_edit, merge, rag, vlm_sft
from polm_core.methods.reasoning import grpo, grpo_presets, prm, rejection_sampling, self_refine, test_time_scaling

METHODS: tuple[Method, ...] = (
    sft.METHOD,
    *soft_prompts.METHODS,
    reft.METHOD,
    reward_model.METHOD,
    ppo.METHOD,
    rloo.METHOD,
    online_dpo.METHOD,
    nash_md.METHOD,
    xpo.METHOD,
    dpo.METHOD,
    *dpo_presets.METHODS,
    kto.METHOD,
    bco.METHOD,
    orpo.METHOD,
    *cpo.METHODS,
    rlaif.METHOD,
    constitutional_ai.METHOD,
    grpo.METHOD,
    *grpo_presets.METHODS,
    prm.METHOD,
    rejection_sampling.METHOD,
    self_refine.METHOD,
    test_time_scaling.METHOD,
    quantize.METHOD,
    prune.METHOD,
    *adapters.METHODS,
    distill.METHOD,
    seq_kd.METHOD,
    minillm.METHOD,
    gold.METHOD,
    select_data.METHOD,
    *vlm_sft.METHODS,
    continued_pretraining.METHOD,
    knowledge_edit.METHOD,
    rag.METHOD,
    merge.METHOD,
)

EVALUATIONS: tuple[Method, ...] = (
    loss.METHOD,
    accuracy.METHOD,
    win_rate.METHOD,
    probes.METHOD,
    harness.METHOD,
)

_BY_SLUG = {method.slug: method for method in (*METHODS, *EVALUATIONS)}
# The methods whose checkpoints score text and write none.
WRITELESS = tuple(method.slug for method in METHODS if not method.writes)


class Branch(NamedTuple):
    """A branch of the survey's map, whether the catalogue has a method in it or not."""

    paradigm: Paradigm
    title: str
    summary: str


TAXONOMY: tuple[Branch, ...] = (
    Branch(Paradigm.FINE_TUNING, "Supervised fine-tuning", "Imitate examples of good answers."),
    Branch(Paradigm.FINE_TUNING, "Adaptive fine-tuning", "Learn instructions or soft prompts that steer a model."),
    Branch(Paradigm.FINE_TUNING, "Reinforced fine-tuning", "Warm up on examples, then reward right answers."),
    Branch(Paradigm.ALIGNMENT, "Reinforcement learning from human feedback", "Learn a reward from people and seek it."),
    Branch(Paradigm.ALIGNMENT, "Reinforcement learning from AI feedback", "Let a model judge in people's place."),
    Branch(Paradigm.ALIGNMENT, "Direct preference optimisation", "Learn from preferred pairs without a reward model."),
    Branch(Paradigm.REASONING, "Self-refinement", "Criticise one's own answers and write them better."),
    Branch(Paradigm.REASONING, "Reinforcement learning for reasoning", "Reward chains of thought that end right."),
    Branch(Paradigm.REASONING, "Test-time scaling", "Answer several times, and choose, in place of training."),
    Branch(Paradigm.EFFICIENCY, "Model compression", "Quantise or prune a model to make it smaller."),
    Branch(
        Paradigm.EFFICIENCY,
        "Parameter-efficient fine-tuning: reparameterised",
        "Train low-rank matrices in place of the weights.",
    ),
    Branch(Paradigm.EFFICIENCY, "Parameter-efficient fine-tuning: additive", "Train small layers or prompts put in."),
    Branch(Paradigm.EFFICIENCY, "Parameter-efficient fine-tuning: selective", "Train few of the model's own weights."),
    Branch(Paradigm.EFFICIENCY, "Knowledge distillation", "Teach a small model with a large one."),
    Branch(Paradigm.INTEGRATION, "Multimodal integration", "Connect images or sound to a language model."),
    Branch(Paradigm.INTEGRATION, "Domain adaptation", "Bring in a domain's language, facts or documents."),
    Branch(Paradigm.INTEGRATION, "Model merging", "Combine the weights of several models into one."),
)


def find(slug: str) -> Method | None:
    """The method or evaluation called `slug`; None for one that there is no longer."""
    return _BY_SLUG.get(slug)


def get(slug: str) -> Method:
    """The same. Raises `ConfigError` naming near matches when there is none."""
    found = find(slug)
    if found is None:
        problem = f"is not a method of the catalogue.{near(slug, list(_BY_SLUG))}"
        raise ConfigError(f"{slug!r} {problem}", code="config.method", fields={"method": [problem]})
    return found
