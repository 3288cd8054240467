"""What the methods share that learn from pairs of their own answers: settings and charts."""

from typing import ClassVar

from pydantic import field_validator

from polm_core.blocks import MAIN, setting
from polm_core.formats import Format
from polm_core.method import ChartSpec
from polm_core.rewards.config import OnlineConfig

FORMATS = (Format.PROMPT_ANSWER, Format.PROMPT)


class PairsConfig(OnlineConfig):
    """Settings of methods that hold two answers to a prompt against each other."""

    compares_with_reference: ClassVar[bool] = True
    held_out_answers: ClassVar[int] = 2

    batch_size: int = setting(8, group=MAIN, unit="answers", source="trl", ge=2, le=4096)
    """Answers in one forward pass on one device, an even number as they are learned from in pairs: lower it when memory
    runs out, and raise gradient_accumulation_steps."""

    learning_rate: float = setting(5e-7, group=MAIN, source="trl", gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    num_generations: int = setting(2, group=MAIN, unit="answers", source="arXiv 2402.04792", ge=2, le=1024)
    """Answers to each prompt, an even number: each two of them are a pair. It divides the answers of a step: batch_size
    x gradient_accumulation_steps x processes."""

    beta: float = setting(0.1, group=MAIN, source="trl", step=0.01, gt=0, le=100)
    """How strongly the model is held to where it started: lower values let it go further for a reward."""

    @field_validator("batch_size", "num_generations")
    @classmethod
    def _check_even(cls, answers: int) -> int:
        if answers % 2:
            raise ValueError(f"must be even, as answers are learned from in pairs, not {answers}")
        return answers


TIES = ChartSpec(
    "Ties",
    ("pairs/tied", "eval/pairs/tied"),
    "share of pairs",
    "Pairs whose answers got the same reward, of which neither is preferred. At 1 there is nothing to learn.",
)
MARGIN = ChartSpec(
    "Margin",
    ("rewards/margins", "eval/rewards/margins"),
    "nats x beta",
    "How much more the model has come to favour the better answer of a pair than it did at the start. It should rise.",
)
WINS = ChartSpec(
    "Preferred",
    ("rewards/probabilities", "eval/rewards/probabilities"),
    "probability",
    "How likely the model's answer is preferred to the one it is held against, by their rewards. It starts at about "
    "0.5 and should rise.",
)
TOO_MANY_TIES = (
    "Ties: pairs whose answers earn the same teach nothing. Take prompts that the model gets right sometimes, raise "
    "the temperature, or grade rewards more finely."
)
TOO_FAR = "Divergence: rewards won far from the reference rarely mean better answers. Raise beta."
LOSS_OF_PAIRS = ChartSpec(
    "Loss",
    ("loss", "eval/loss"),
    "loss per pair",
    "Ties count 0, so it moves with their share: read the margin instead.",
)
MAIN_FIELDS = (
    "max_steps",
    "batch_size",
    "learning_rate",
    "num_generations",
    "max_completion_length",
    "beta",
    "adapter.type",
)
