"""What the methods that learn from preferred pairs or rated answers have in common."""

from polm_core.blocks import DATA, WritingConfig, setting
from polm_core.method import ChartSpec


class PreferenceConfig(WritingConfig):
    """Settings of every method that learns which answers are better."""

    chat_template: bool = setting(True, group=DATA)
    """Put plain-text prompts and answers into the model's chat turns; off trains on the bare text."""


GRADIENT_NORM = ChartSpec(
    "Gradient norm", ("grad_norm",), "L2 norm", "Spikes mean a step too large: lower the learning rate."
)
LOG_PROBABILITIES = ChartSpec(
    "Log-probabilities",
    ("logps/chosen", "logps/rejected"),
    "nats per answer",
    "How likely the answers are. Both falling far means the model unlearns to write at all.",
)

BOTH_FALL = (
    "Log-probabilities of the chosen answers that fall along with the rejected ones: the margin grows while the model "
    "unlearns both. Raise beta, lower the learning rate, or add a term that keeps the chosen answers likely."
)
ACCURACY_FIRST = (
    "Accuracy on held-out pairs. A margin that grows while it stands still means sharper answers, not better ones."
)
LONGER = "Length of the answers to held-out prompts: chosen ones are often longer, and length is what is learned."
