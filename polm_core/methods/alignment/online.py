"""The charts that methods have in common which learn from answers of their own."""

from polm_core.method import ChartSpec
from polm_core.rewards.config import REWARD_NAMES

REWARD = ChartSpec(
    "Reward",
    ("reward", "eval/reward"),
    "reward",
    "The mean weighted reward of the answers. It should rise, and on held-out prompts too.",
)
REWARD_PARTS = ChartSpec(
    "Parts of the reward",
    tuple(f"reward/{name}" for name in REWARD_NAMES),
    "",
    "Each reward on its own, before its weight. One that falls while the sum rises is being traded away.",
)
REWARD_SPREAD = ChartSpec(
    "Spread",
    ("reward_std", "frac_reward_zero_std", "reward/reward_model/not_judged", "reward/judge/not_judged"),
    "",
    "How much rewards differ, and the share of prompts whose answers all get the same. At 1 there is nothing to learn. "
    "Also the share of answers that a model could not judge, which should stay near 0.",
)
COMPLETIONS = ChartSpec(
    "Length of the answers",
    ("completions/mean_length", "completions/min_length", "completions/max_length"),
    "tokens",
    "Steady growth without a better reward is padding. At max_completion_length answers are cut off.",
)
ENTROPY = ChartSpec(
    "Entropy",
    ("entropy",),
    "nats",
    "How varied the answers are. Near 0 they are all alike, and nothing more is found out.",
)
