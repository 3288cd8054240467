"""The charts that methods have in common which learn from answers of their own."""

from polm_core.method import ChartSpec
from polm_core.rewards.config import REWARD_NAMES
from polm_core.training.sampling import GENERATED

REWARD = ChartSpec(
    "Reward",
    ("reward", "eval/reward"),
    "reward",
    "The mean weighted reward of the answers. It should rise, and on held-out prompts too.",
)
REWARD_PARTS = ChartSpec(
    "Parts of the reward",
    tuple(f"reward/{name}" for name in REWARD_NAMES),
    "reward",
    "Each reward on its own, before its weight. One that falls while the sum rises is being traded away.",
)
REWARD_SPREAD = ChartSpec(
    "Spread",
    ("reward_std",),
    "reward",
    "How much the rewards of a step differ. Near 0 no answer is better than another.",
)
NO_SIGNAL = ChartSpec(
    "Prompts without signal",
    ("frac_reward_zero_std",),
    "share of prompts",
    "Prompts whose answers all get the same reward. At 1 there is nothing to learn.",
)
NOT_JUDGED = ChartSpec(
    "Not judged",
    ("reward/reward_model/not_judged", "reward/judge/not_judged"),
    "share of answers",
    "Answers that a model could not judge, which count by their other rewards alone. It should stay near 0.",
)
COMPLETIONS = ChartSpec(
    "Length of the answers",
    ("completions/mean_length", "completions/min_length", "completions/max_length"),
    "tokens",
    "Steady growth without a better reward is padding. At max_completion_length answers are cut off.",
)
CUT_OFF = ChartSpec(
    "Cut off",
    ("completions/clipped_ratio",),
    "share of answers",
    "Answers that reach max_completion_length. What would have come after is never rewarded: above 0.5, raise it.",
)
WRITING_SPEED = ChartSpec(
    "Speed of writing",
    (GENERATED,),
    "tokens per second",
    "Tokens that are written a second, of all answers of a batch. Larger batches are faster; a batch takes as long as "
    "its longest answer.",
)
DIVERGENCE = ChartSpec(
    "Divergence",
    ("kl", "eval/kl"),
    "nats per token",
    "How far the model is from where it started. Steep growth means it games the reward: raise beta.",
    bound=1.0,
)
ENTROPY = ChartSpec(
    "Entropy",
    ("entropy",),
    "nats per token",
    "How varied the answers are. Near 0 they are all alike, and nothing more is found out.",
)

HACKED = (
    "A reward that rises while answers get worse: it is being gamed. Read the samples, and add a reward that notices."
)
NO_PROGRESS = (
    "Prompts without signal: all answers right or all wrong teach nothing. Take prompts that the model gets right "
    "sometimes, raise the temperature, or draw more answers."
)
CUT_ANSWERS = "Answers that are cut off at max_completion_length: what comes after is never rewarded."
