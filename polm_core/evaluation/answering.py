"""What evaluations share whose model writes answers: the settings, and the answers that are kept to read."""

from collections.abc import Mapping
from typing import Any

from polm_core.blocks import HARDWARE, MAIN, SCHEDULE, setting
from polm_core.context import RunContext
from polm_core.evaluation.choosing import EvaluationConfig
from polm_core.formats import Format
from polm_core.rewards.config import ROLLOUTS, AskingConfig
from polm_core.training.encoding import as_asked, plain_text
from polm_core.training.rows import Row

FORMATS = (Format.PROMPT_ANSWER, Format.PROMPT)


class AnswersConfig(AskingConfig, EvaluationConfig):
    """Settings of evaluations by the model's answers."""

    sampled: bool = setting(False, group=ROLLOUTS)
    """Draw the answers at random, as in use; off takes the likeliest token each time, so that the same model gives the
    same answers."""

    temperature: float = setting(1.0, group=ROLLOUTS, source="trl", step=0.1, gt=0, le=10)
    """Randomness of sampled answers."""

    batch_size: int = setting(8, group=MAIN, unit="answers", ge=1, le=4096)
    """Answers that are written at once, and judged: more are faster, until memory runs out."""

    max_completion_length: int = setting(256, group=MAIN, unit="tokens", ge=1, le=32_768)
    """Longest answer; what is not finished by then is cut off."""

    eval_rows: int = setting(200, group=SCHEDULE, unit="rows", ge=1, le=100_000)
    """Most rows that are taken, the same ones for the same seed: the more there are, the narrower the interval."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Processes of the run. One, for the model answers in one."""


def keep_answer(
    context: RunContext,
    row: Row,
    text: str,
    note: str,
    *,
    group: int,
    place: int,
    reward: float | None,
    rewards: Mapping[str, float | None],
    by: str = "",
) -> None:
    """Keep an answer to a prompt to read, with what came of it: the one at `place` to the prompt at `group`.

    `by` says who wrote it, when it was not the model of the run.
    """
    more: dict[str, Any] = {"reference": row["answer"]} if "answer" in row else {}
    context.log_sample(
        0,
        plain_text(row["prompt"]),
        text.strip(),
        group=group,
        place=place,
        rewards=dict(rewards),
        reward=reward,
        advantage=None,
        note=note,
        **more,
        **({"by": by} if by else {}),
        **as_asked(row["prompt"]),
    )
