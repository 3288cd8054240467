"""Relatives of GRPO that differ in what they weigh and clip: the same method with other defaults, from their papers."""

from typing import Any

from polm_core.method import ChartSpec, Method, Paper, preset
from polm_core.methods.alignment.online import CUT_ANSWERS, HACKED, NO_PROGRESS
from polm_core.methods.reasoning import grpo
from polm_core.methods.reasoning.grpo import CLIPPED, CLIPPED_ANSWERS, CLIPPED_TOO_OFTEN, WEIGHT_CUT

_RATIO = "r_t = π(y_t|x) / π_old(y_t|x), π_old = the model that wrote the answers"
_SCALED = "A_i = (R_i - mean R) / std R, over the answers y_i to a prompt"
_CLIPPED = "-min(r_t · A_i, clip(r_t, 1 - clip_low, 1 + clip_high) · A_i)"
_FEWER_STEPS = "4 steps fit small machines; the paper takes 16"


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
    charts: tuple[ChartSpec, ...],
    sources: dict[str, str] | None = None,
    **defaults: Any,
) -> Method:
    # None of these is held to a reference.
    return preset(
        grpo.METHOD,
        slug=slug,
        title=title,
        objective=objective,
        formula=formula,
        watch=(HACKED, NO_PROGRESS, *watch),
        charts=grpo.charts(*charts),
        summary=summary,
        when=when,
        paper=paper,
        defaults={"beta": 0.0, **defaults},
        sources=sources,
    )


DR_GRPO = _relative(
    "dr-grpo",
    "Dr. GRPO",
    "GRPO without the two divisions that favour long wrong answers and very easy or hard prompts.",
    "Answers grow longer under GRPO without getting better.",
    Paper("Understanding R1-Zero-Like Training: A Critical Perspective", "2503.20783"),
    objective="Maximises the expected reward by PPO's clipped objective. The sum over an answer's tokens is divided by "
    "the longest answer allowed in place of its own length, and advantages are not divided by the deviation, which "
    "makes both unbiased.",
    formula=f"L = 1/max_completion_length Σ_t {_CLIPPED}\n"
    f"{_RATIO}\nA_i = R_i - mean R, over the answers y_i to a prompt",
    watch=(
        "The scale of the rewards: it is that of the steps, as advantages are not brought to one size. Change weights "
        "and learning rate together.",
        CUT_ANSWERS,
    ),
    charts=(CLIPPED,),
    loss="dr_grpo",
    scale_rewards="none",
)

DAPO = _relative(
    "dapo",
    "DAPO",
    "GRPO that weighs all tokens alike, lets rare ones grow, and does not learn from answers that were cut off.",
    "Long chains of thought, or a model whose entropy collapses under GRPO.",
    Paper("DAPO: An Open-Source LLM Reinforcement Learning System at Scale", "2503.14476"),
    objective="Maximises the expected reward by PPO's clipped objective, as a mean over all tokens of a step, so that "
    "long answers count by their length. The clip range is wider upwards, for exploration, and answers that were cut "
    "off are left out. Its paper also draws new prompts in place of those without signal, and takes off reward as an "
    "answer nears the limit: neither is done here.",
    formula=f"L = 1/Σ_i |y_i| Σ_i Σ_t {_CLIPPED}\n{_RATIO}\n{_SCALED}",
    watch=(
        "Answers that are cut off: they teach nothing, not even to be shorter. Above half, raise "
        "max_completion_length.",
        "Entropy that keeps rising: lower clip_high.",
        CLIPPED_TOO_OFTEN,
    ),
    charts=(CLIPPED,),
    loss="dapo",
    clip_high=0.28,
    skip_cut_answers=True,
    mini_batches=4,
    sources={"mini_batches": _FEWER_STEPS},
)

GSPO = _relative(
    "gspo",
    "GSPO",
    "GRPO that compares and clips whole answers, as they are what is rewarded.",
    "Mixtures of experts, or long answers, on which GRPO becomes unsteady.",
    Paper("Group Sequence Policy Optimization", "2507.18071"),
    objective="Maximises the expected reward by PPO's clipped objective on whole answers: how likely an answer has "
    "become is the geometric mean over its tokens, held within a very narrow range.",
    formula="L = -min(s_i · A_i, clip(s_i, 1 - clip_low, 1 + clip_high) · A_i)\n"
    "s_i = (π(y_i|x) / π_old(y_i|x))^(1/|y_i|), π_old = the model that wrote the answers\n"
    f"{_SCALED}",
    watch=(
        "Answers that are clipped: more than under GRPO is no fault. When most are, lower the learning rate, above all "
        "with adapters.",
        CUT_ANSWERS,
    ),
    charts=(CLIPPED_ANSWERS,),
    importance="sequence",
    clip_low=3e-4,
    clip_high=4e-4,
    mini_batches=4,
)

BNPO = _relative(
    "bnpo",
    "BNPO",
    "GRPO whose advantages are scaled by a Beta distribution that follows how much the prompts earn.",
    "Rewards are yes or no, or several of that kind, and training is unsteady.",
    Paper("BNPO: Beta Normalization Policy Optimization", "2506.02864"),
    objective="Maximises the expected reward, as a mean over the tokens of a forward pass. Each reward's advantage is "
    "divided by the density of a Beta distribution at the prompt's mean, whose parameters follow from the means of all "
    "prompts so that the gradient varies least; then they are added up by their weights. Weights over 10 are cut.",
    formula=f"L = 1/Σ_i |y_i| Σ_i Σ_t {_CLIPPED}\n{_RATIO}\n"
    "A_i = Σ_m weight_m · (r_m(x, y_i) - p_m) / f(p_m; 1 + a_m/3, 1 + b_m/3), f = the Beta distribution's density\n"
    "p_m = mean r_m over the answers to a prompt; a_m, b_m = the Beta distribution of p_m over the prompts",
    watch=(
        "Few prompts answered at once: the distribution is fitted to them, and to one there is none. Take 8 or more: "
        "raise batch_size, gradient_accumulation_steps or mini_batches.",
        CUT_ANSWERS,
    ),
    charts=(CLIPPED,),
    loss="bnpo",
    scale_rewards="beta",
    mini_batches=4,
    sources={"mini_batches": "8 prompts at once to fit the distribution to"},
)

CISPO = _relative(
    "cispo",
    "CISPO",
    "Cuts the weight of tokens that changed much, and so learns from every token.",
    "Rare words that turn a thought, such as 'wait', are what GRPO clips away.",
    Paper("MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention", "2506.13585"),
    objective="Maximises the log-probability of each token times the advantage of its answer and a weight that makes "
    "up for the change since it was written. Weights are cut at clip_high and not learned through, so no token is left "
    "out, as a mean over all tokens of a step.",
    formula="L = 1/Σ_i |y_i| Σ_i Σ_t -min(r_t, clip_high) · A_i · log π(y_t|x), min(...) taken as a constant\n"
    f"{_RATIO}\n{_SCALED}",
    watch=(
        "Weights that are cut: when many are, the answers are too old. Lower the learning rate or mini_batches.",
        CUT_ANSWERS,
    ),
    charts=(WEIGHT_CUT,),
    loss="cispo",
    clip_high=5.0,
    mini_batches=4,
    sources={"clip_high": "ScaleRL, arXiv 2510.13786", "mini_batches": _FEWER_STEPS},
)

SAPO = _relative(
    "sapo",
    "SAPO",
    "GRPO that fades tokens out as they change, in place of clipping them at once.",
    "Training under GRPO or GSPO is unsteady, or clips much.",
    Paper("Soft Adaptive Policy Optimization", "2511.20347"),
    objective="Maximises the expected reward, where a soft gate takes the place of clipping: a token counts in full "
    "while it is as likely as when it was written, and less and less the further it is from that. In answers that are "
    "worse than the others it fades sooner.",
    formula="L = 1/|y_i| Σ_t -4/τ · σ(τ · (r_t - 1)) · A_i\n"
    "τ = sapo_temperature_pos where A_i > 0, else sapo_temperature_neg\n"
    f"{_RATIO}\n{_SCALED}",
    watch=(
        "Entropy and gradient norm: no chart shows what is faded out. When they jump, raise both temperatures or lower "
        "the learning rate.",
        CUT_ANSWERS,
    ),
    charts=(),
    loss="sapo",
    mini_batches=4,
    sources={"mini_batches": "GSPO, arXiv 2507.18071, which it is compared with"},
)

METHODS: tuple[Method, ...] = (DR_GRPO, DAPO, GSPO, BNPO, CISPO, SAPO)
