"""What the rows of a version are made of where no file was uploaded: other rows, answers of a run's model, a task."""

import uuid
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from polm_core.data.choose import Choice
from polm_core.formats import Format
from polm_core.gym.tasks import TaskChoice


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


class ChoiceDerivation(BaseModel):
    """Those of the `rows` rows of `made_from` that `choice` takes."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["choice"] = "choice"
    format: Format
    rows: int
    choice: Choice


class MixturePart(BaseModel):
    """`take` of the `rows` rows of a version; `name` is what it was called then."""

    model_config = ConfigDict(extra="forbid")
    version: uuid.UUID
    name: str
    rows: int
    take: int
    weight: float


class MixtureDerivation(BaseModel):
    """Rows of several versions, drawn and mixed by chance."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["mixture"] = "mixture"
    format: Format
    parts: list[MixturePart]
    seed: int


class TaskDerivation(BaseModel):
    """Rows that a task of reasoning-gym makes up: the same for the same choice and `version` of that library."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["task"] = "task"
    format: Literal[Format.PROMPT_ANSWER] = Format.PROMPT_ANSWER
    task: str
    level: int | None = None
    size: int
    seed: int
    version: str

    @property
    def choice(self) -> TaskChoice:
        """What is to be made. Raises `ValidationError` for a task that is no longer offered."""
        return TaskChoice(task=self.task, level=self.level, size=self.size, seed=self.seed)


Derivation = AnswersDerivation | ConversionDerivation | ChoiceDerivation | MixtureDerivation | TaskDerivation
_DERIVATION: TypeAdapter[Derivation] = TypeAdapter(Annotated[Derivation, Field(discriminator="kind")])


def derivation_of(value: dict[str, object]) -> Derivation | None:
    """The derivation as a version holds it; None for an upload."""
    return _DERIVATION.validate_python(value) if value else None
