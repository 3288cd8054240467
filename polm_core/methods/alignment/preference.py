"""What the methods that learn from preferred pairs or rated answers have in common."""

from polm_core.blocks import DATA, WritingConfig, setting
from polm_core.method import ChartSpec


class PreferenceConfig(WritingConfig):
    """Settings of every method that learns which answers are better."""

    chat_template: bool = setting(True, group=DATA)
    """Put plain-text prompts and answers into the model's chat turns; off trains on the bare text."""


GRADIENT_NORM = ChartSpec("Gradient norm", ("grad_norm",), "", "Spikes mean a step too large: lower the learning rate.")
LOG_PROBABILITIES = ChartSpec(
    "Log-probabilities",
    ("logps/chosen", "logps/rejected"),
    "nats",
    "How likely the answers are. Both falling far means the model unlearns to write at all.",
)
