"""Relatives of DPO that differ in the loss: the same method with other defaults, each from its paper."""

from typing import Any

from polm_core.method import Method, Paper, preset
from polm_core.methods.alignment import dpo


def _relative(slug: str, title: str, summary: str, when: str, paper: Paper, **defaults: Any) -> Method:
    return preset(dpo.METHOD, slug=slug, title=title, summary=summary, when=when, paper=paper, defaults=defaults)


IPO = _relative(
    "ipo",
    "IPO",
    "DPO that aims at a fixed margin instead of an ever larger one.",
    "Few or clear-cut pairs, on which DPO overfits.",
    Paper("A General Theoretical Paradigm to Understand Learning from Human Preferences", "2310.12036"),
    loss=["ipo"],
)

SLIC = _relative(
    "slic",
    "SLiC (hinge)",
    "Pushes pairs apart up to a margin and leaves those that are there alone.",
    "You want pairs that are already right to be left as they are.",
    Paper("SLiC-HF: Sequence Likelihood Calibration with Human Feedback", "2305.10425"),
    loss=["hinge"],
)

ROBUST_DPO = _relative(
    "robust-dpo",
    "Robust DPO",
    "DPO that allows for pairs labelled the wrong way round.",
    "Labels are noisy: crowd votes, or an automatic judge.",
    Paper("Provably Robust DPO: Aligning Language Models with Noisy Feedback", "2403.00409"),
    loss=["robust"],
    label_smoothing=0.1,
)

APO = _relative(
    "apo",
    "APO-zero",
    "Raises chosen answers and lowers rejected ones, each for itself.",
    "Chosen answers are better than what the model writes itself.",
    Paper("Anchored Preference Optimization and Contrastive Revisions", "2408.06266"),
    loss=["apo_zero"],
)

EXO = _relative(
    "exo",
    "EXO",
    "Fits the preference distribution in the reverse direction, towards its best answers.",
    "DPO spreads over mediocre answers and you want the best ones.",
    Paper("Towards Efficient and Exact Optimization of Language Model Alignment", "2402.00856"),
    loss=["exo_pair"],
    label_smoothing=1e-3,
)

SPPO = _relative(
    "sppo",
    "SPPO (hard labels)",
    "Moves each answer's log-ratio to a fixed target, as a player of a preference game would.",
    "Preferences are not transitive, or DPO lets the chosen answers' likelihood sink.",
    Paper("Self-Play Preference Optimization for Language Model Alignment", "2405.00675"),
    loss=["sppo_hard"],
    learning_rate=5e-7,
)

DISCOPOP = _relative(
    "discopop",
    "DiscoPOP",
    "A loss between logistic and exponential that was found by a language model.",
    "DPO has plateaued and you want another loss to compare with.",
    Paper("Discovering Preference Optimization Algorithms with and for Large Language Models", "2406.08414"),
    loss=["discopop"],
    # The paper's 0.05 lowers margins on small models; at 1 the loss trains steadily.
    discopop_tau=1.0,
)

WPO = _relative(
    "wpo",
    "WPO",
    "DPO that weighs pairs by how likely the model itself would write them.",
    "The pairs were written by other models.",
    Paper("WPO: Enhancing RLHF with Weighted Preference Optimization", "2406.11827"),
    weighting=True,
)

LD_DPO = _relative(
    "ld-dpo",
    "LD-DPO",
    "DPO that counts length less, so that answers do not grow long.",
    "Chosen answers are mostly the longer ones.",
    Paper("Length Desensitization in Direct Preference Optimization", "2409.06411"),
    length_weight=0.5,
)

METHODS: tuple[Method, ...] = (IPO, SLIC, ROBUST_DPO, APO, EXO, SPPO, DISCOPOP, WPO, LD_DPO)
