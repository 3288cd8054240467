"""What the methods share that train on those of the model's own answers that are right."""

from polm_core.blocks import DATA, MAIN, setting
from polm_core.formats import Format
from polm_core.method import ChartSpec
from polm_core.methods.alignment.feedback import OwnRowsConfig
from polm_core.rewards.config import ROLLOUTS

FORMATS = (Format.PROMPT_ANSWER, Format.PROMPT)


class SelfTrainingConfig(OwnRowsConfig):
    """Settings of these methods. The rewards are what tells right answers from wrong ones."""

    learning_rate: float = setting(1e-5, group=MAIN, gt=0, le=1)
    """Peak step size of the optimiser. Adapters take about ten times what full training takes."""

    min_reward: float = setting(1.0, group=DATA, unit="reward", step=0.1, ge=-10_000, le=10_000)
    """An answer is right when its reward, the weighted sum, is at least this."""

    generation_batch_size: int = setting(32, group=ROLLOUTS, unit="answers", ge=1, le=4096)
    """Answers that are written at once: more are faster, until memory runs out."""

    @property
    def answers_at_once(self) -> int:
        return self.generation_batch_size


ACCURACY = ChartSpec(
    "Accuracy",
    ("eval/accuracy",),
    "share of prompts",
    "Held-out prompts whose likeliest answer is right, before training, as it goes on and after it. It should rise: "
    "this is what the run gains.",
)
ENTROPY = ChartSpec(
    "Entropy",
    ("entropy",),
    "nats per token",
    "How varied the answers are. Near 0 they are all alike, and more of them find nothing new.",
)
WRONG_REASON = (
    "Answers that are right for a wrong reason: the model learns those too. Read the samples, and add rewards that "
    "notice."
)
CUT_OFF = "Answers that are cut off at max_completion_length: those are never right."
