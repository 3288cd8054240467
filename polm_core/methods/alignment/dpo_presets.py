"""Relatives of DPO that differ in the loss: the same method with other defaults, each from its paper."""

from typing import Any

from polm_core.method import Method, Paper, preset
from polm_core.methods.alignment import dpo
from polm_core.methods.alignment.preference import ACCURACY_FIRST, BOTH_FALL

# How far a pair is from where the reference has it, and each of its answers alone.
_PAIR = "h = log(π(y_w|x) / π_ref(y_w|x)) - log(π(y_l|x) / π_ref(y_l|x))"
_EACH = "h(y) = log(π(y|x) / π_ref(y|x))"


def _relative(
    slug: str,
    title: str,
    summary: str,
    when: str,
    paper: Paper,
    *,
    objective: str,
    formula: str,
    watch: tuple[str, ...],
    loss_reads: str,
    **defaults: Any,
) -> Method:
    return preset(
        dpo.METHOD,
        slug=slug,
        title=title,
        objective=objective,
        formula=formula,
        watch=watch,
        charts=dpo.charts(loss_reads),
        summary=summary,
        when=when,
        paper=paper,
        defaults=defaults,
    )


IPO = _relative(
    "ipo",
    "IPO",
    "DPO that aims at a fixed margin instead of an ever larger one.",
    "Few or clear-cut pairs, on which DPO overfits.",
    Paper("A General Theoretical Paradigm to Understand Learning from Human Preferences", "2310.12036"),
    objective="Minimises the squared distance of each pair's margin from a target that beta sets, so that the margin "
    "stops growing there, however sure the labels look. Log-probabilities are means over an answer's tokens.",
    formula=f"L = (h - 1/(2 beta))²\n{_PAIR}\nlog π averaged over the tokens of an answer",
    watch=(
        "A margin that never levels off: the target is 1/(2 beta) nats a token, 5 at beta = 0.1. Raise beta to bring "
        "it nearer.",
        "A large loss at the start is no fault: it is 1/(4 beta²), 25 at beta = 0.1.",
        ACCURACY_FIRST,
    ),
    loss_reads="Starts at 1/(4 beta²), 25 at beta = 0.1, and falls towards 0 as margins reach their target.",
    loss=["ipo"],
)

SLIC = _relative(
    "slic",
    "SLiC (hinge)",
    "Pushes pairs apart up to a margin and leaves those that are there alone.",
    "You want pairs that are already right to be left as they are.",
    Paper("SLiC-HF: Sequence Likelihood Calibration with Human Feedback", "2305.10425"),
    objective="Minimises the hinge loss of the margin: a pair that is apart by 1/beta or more has no loss and no "
    "gradient. Here the margin is measured from the reference, as DPO does.",
    formula=f"L = max(0, 1 - beta · h)\n{_PAIR}",
    watch=(
        "A loss of 0: every pair is past the margin, and nothing more is learned. Stop, or lower beta.",
        BOTH_FALL,
        ACCURACY_FIRST,
    ),
    loss_reads="Starts at 1 and falls to 0, where every pair is apart by the margin.",
    loss=["hinge"],
)

ROBUST_DPO = _relative(
    "robust-dpo",
    "Robust DPO",
    "DPO that allows for pairs labelled the wrong way round.",
    "Labels are noisy: crowd votes, or an automatic judge.",
    Paper("Provably Robust DPO: Aligning Language Models with Noisy Feedback", "2403.00409"),
    objective="Minimises an unbiased estimate of the DPO loss on clean labels, when the share ε = label_smoothing of "
    "the pairs is labelled the wrong way round.",
    formula=f"L = (-(1-ε) log σ(beta · h) + ε log σ(-beta · h)) / (1 - 2ε)\n{_PAIR}",
    watch=(
        "A loss below 0 is no fault: the estimate of a pair that is far apart is negative.",
        "Margins that run away: the loss has no floor. Label smoothing above the true share of errors makes it worse.",
        BOTH_FALL,
    ),
    loss_reads="Starts at 0.69, which is chance, and falls; pairs that are far apart take it below 0.",
    loss=["robust"],
    label_smoothing=0.1,
)

APO = _relative(
    "apo",
    "APO-zero",
    "Raises chosen answers and lowers rejected ones, each for itself.",
    "Chosen answers are better than what the model writes itself.",
    Paper("Anchored Preference Optimization and Contrastive Revisions", "2408.06266"),
    objective="Raises the reward of each chosen answer and lowers that of each rejected one, both anchored at the "
    "reference, where DPO looks at their difference alone.",
    formula=f"L = 1 - σ(beta · h(y_w)) + σ(beta · h(y_l))\n{_EACH}",
    watch=(
        "Rewards of the chosen answers: they should rise above 0. When they fall, the answers are no better than what "
        "the model writes: take the loss apo_down.",
        "Rewards that level off: σ is flat far from 0, so lost pairs are given up on. Raise beta or start from sft.",
        ACCURACY_FIRST,
    ),
    loss_reads="Starts at 1 and falls towards 0.",
    loss=["apo_zero"],
)

EXO = _relative(
    "exo",
    "EXO",
    "Fits the preference distribution in the reverse direction, towards its best answers.",
    "DPO spreads over mediocre answers and you want the best ones.",
    Paper("Towards Efficient and Exact Optimization of Language Model Alignment", "2402.00856"),
    objective="Minimises the KL divergence from the model's own preference within each pair to that of the labels, "
    "smoothed by ε = label_smoothing: the reverse of the direction that DPO takes, as RLHF has it.",
    formula=f"L = p log(p / (1-ε)) + (1-p) log((1-p) / ε)\np = σ(beta · h)\n{_PAIR}",
    watch=(
        "A loss of several nats at the start is no fault: a small ε makes the wrong answer very costly.",
        BOTH_FALL,
        ACCURACY_FIRST,
    ),
    loss_reads="Starts at 2.8 for a label_smoothing of 0.001, and falls towards 0.",
    loss=["exo_pair"],
    label_smoothing=1e-3,
)

SPPO = _relative(
    "sppo",
    "SPPO (hard labels)",
    "Moves each answer's log-ratio to a fixed target, as a player of a preference game would.",
    "Preferences are not transitive, or DPO lets the chosen answers' likelihood sink.",
    Paper("Self-Play Preference Optimization for Language Model Alignment", "2405.00675"),
    objective="Brings the log-ratio of each chosen answer to 1/(2 beta) and that of each rejected one to -1/(2 beta), "
    "one step of self-play towards the equilibrium of the preference game, with the labels as its outcome.",
    formula=f"L = (h(y_w) - 1/(2 beta))² + (h(y_l) + 1/(2 beta))²\n{_EACH}",
    watch=(
        "Rewards: chosen should rise to 1/2 and rejected fall to -1/2, as rewards are shown times beta.",
        "A large loss at the start is no fault: it is 1/(2 beta²), 50 at beta = 0.1.",
        "Steps that are too large: squared log-ratios of long answers have large gradients. Watch the gradient norm.",
    ),
    loss_reads="Starts at 1/(2 beta²), 50 at beta = 0.1, and falls.",
    loss=["sppo_hard"],
    learning_rate=5e-7,
)

DISCOPOP = _relative(
    "discopop",
    "DiscoPOP",
    "A loss between logistic and exponential that was found by a language model.",
    "DPO has plateaued and you want another loss to compare with.",
    Paper("Discovering Preference Optimization Algorithms with and for Large Language Models", "2406.08414"),
    objective="Minimises a blend of the logistic and the exponential loss of the margin; how far apart a pair is "
    "decides how much of each, and discopop_tau how abruptly.",
    formula=f"L = (1-m) · (-log σ(z)) + m · exp(-z)\nm = σ(z / discopop_tau)\nz = beta · h\n{_PAIR}",
    watch=(
        "Margins that fall: with the paper's discopop_tau of 0.05 the loss is not convex near 0. Larger values are "
        "steadier.",
        BOTH_FALL,
        ACCURACY_FIRST,
    ),
    loss_reads="Starts at 0.85, which is chance, and falls.",
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
    objective="Minimises the DPO loss with each pair weighed by how likely the model itself would write its two "
    "answers, so that pairs of other models count as if they were its own.",
    formula="L = -w(y_w) w(y_l) log σ(beta · h)\n"
    f"{_PAIR}\n"
    "w(y) how likely y's tokens are beside those that the model would draw",
    watch=(
        "A loss near 0 from the start: the pairs are so unlike the model that they hardly count. Fine-tune on the "
        "chosen answers first.",
        BOTH_FALL,
        ACCURACY_FIRST,
    ),
    loss_reads="Starts the lower the more unlike the model's own the answers are, and falls. Read the margin with it.",
    weighting=True,
)

LD_DPO = _relative(
    "ld-dpo",
    "LD-DPO",
    "DPO that counts length less, so that answers do not grow long.",
    "Chosen answers are mostly the longer ones.",
    Paper("Length Desensitization in Direct Preference Optimization", "2409.06411"),
    objective="Minimises the DPO loss where tokens past the length of the shorter answer count length_weight times, so "
    "that being longer is worth less.",
    formula=f"L = -log σ(beta · h)\n{_PAIR}\nlog π(y|x) = Σ_{{t ≤ l}} log π(y_t) + length_weight · Σ_{{t > l}} log "
    f"π(y_t)\n"
    "l = min(|y_w|, |y_l|)",
    watch=(
        "Length of the answers to held-out prompts: when it still grows, lower length_weight.",
        "Cut-off thoughts: a low weight says little about how long answers end.",
        BOTH_FALL,
    ),
    loss_reads="Starts at 0.69, which is chance, and falls.",
    length_weight=0.5,
)

METHODS: tuple[Method, ...] = (IPO, SLIC, ROBUST_DPO, APO, EXO, SPPO, DISCOPOP, WPO, LD_DPO)
