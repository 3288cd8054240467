"""What the rows of a version are made of when no file was uploaded: other rows, or answers that a run's model wrote."""

import uuid
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from polm_core.formats import Format


class AnswersDerivation(BaseModel):
    """Answers of a run, chosen by hand (`samples`), or by rule among all that the model learned from.

    As prompts with completions: each chosen answer, or by rule the best to each prompt whose reward is at least
    `least_reward`. As preferences: the best against the worst answer to each prompt, whose rewards are at least
    `least_margin` apart. `run_name` and `model` are what they were called then.
    """

    model_config = ConfigDict(extra="forbid")
    kind: Literal["answers"] = "answers"
    run: uuid.UUID
    run_name: str = ""
    model: str = ""
    format: Literal[Format.PROMPT_COMPLETION, Format.PREFERENCE]
    samples: list[int] | None = None
    least_reward: float | None = Field(default=None, allow_inf_nan=False)
    least_margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class ConversionDerivation(BaseModel):
    """The rows of `made_from` in another format."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["conversion"] = "conversion"
    source: Format
    format: Format


Derivation = AnswersDerivation | ConversionDerivation


def derivation_of(value: dict[str, object]) -> Derivation | None:
    """The derivation as a version holds it; None for an upload."""
    if not value:
        return None
    return (AnswersDerivation if value.get("kind") == "answers" else ConversionDerivation).model_validate(value)
