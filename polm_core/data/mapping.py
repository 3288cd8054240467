"""The mapping from a file's columns to the roles of a format. Pure description: `apply` carries it out."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from polm_core.errors import DataError
from polm_core.formats import Format

Speaker = Literal["system", "user", "assistant", "tool", "tool-call"]

ROLES: dict[str, str] = {
    "messages": "the conversation: a list of messages in any dialect, or its JSON",
    "images": "the images: the name of a file in the zip, or a list of names",
    "tools": "tool definitions: a list, or its JSON",
    "system": "the system prompt",
    "prompt": "what is asked: text, a transcript or messages",
    "input": "what the instruction is about; added below the prompt",
    "history": "earlier turns: a list of [question, answer] pairs",
    "completion": "the answer: text, a transcript or messages",
    "text": "the text",
    "chosen": "the better answer, alone or with the whole conversation before it",
    "rejected": "the worse answer, in the same shape as the better one",
    "response_a": "the first of two answers",
    "response_b": "the second of two answers",
    "winner": "which of the two answers is better",
    "label": "whether the answer is good: true or false, thumbs, or a number with a threshold",
    "answer": "the final answer alone, or a solution to extract it from",
    "solution": "the worked solution",
    "completions": "the steps of a solution: a list of texts",
    "labels": "for each step, whether it is right",
    "calls": "the tool calls that answer: a list of {name, arguments}, or its JSON",
    "tries": "the steps with several tries each and the one that was chosen, as PRM800K has them",
    "marked": "a question and its solution, the end of each step marked, as Math-Shepherd has them",
    "marks": "the same text with + or - in place of the marks",
    "subject": "whom or what the fact is about, as it stands in the prompt",
    "target": "what is to follow the prompt from now on",
    "paraphrases": "other prompts with the same answer: a list of texts",
    "neighbours": "prompts whose answer must stay: a list of texts, or of {prompt, target}",
    "before": "what follows the prompt until now, and neighbours that have no answer of their own",
    "title": "what the document is called",
    "source": "where the document is from: a path, an address",
}
"""The roles a column can play, with what such a column holds."""


@dataclass(frozen=True)
class Shape:
    """One way to make up a format: the roles that must be mapped and those that may be."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


SHAPES: dict[Format, tuple[Shape, ...]] = {
    Format.CONVERSATION: (
        Shape(("messages",), ("system", "tools")),
        Shape(("prompt", "completion"), ("input", "history", "system", "tools")),
        Shape(("prompt", "calls"), ("input", "system", "tools")),
    ),
    Format.PROMPT_COMPLETION: (Shape(("prompt", "completion"), ("input", "system")),),
    Format.TEXT: (Shape(("text",)),),
    Format.PREFERENCE: (
        Shape(("chosen", "rejected"), ("prompt", "input", "system")),
        Shape(("response_a", "response_b", "winner"), ("prompt", "input", "system")),
    ),
    Format.RATING: (
        Shape(("prompt", "completion", "label"), ("input", "system")),
        Shape(("messages", "label"), ("system",)),
    ),
    Format.PROMPT: (Shape(("prompt",), ("input", "system")),),
    Format.PROMPT_ANSWER: (Shape(("prompt", "answer"), ("solution", "input", "system")),),
    Format.STEPWISE: (
        Shape(("prompt", "completions", "labels"), ("input",)),
        Shape(("prompt", "tries"), ("input",)),
        Shape(("marked", "marks")),
    ),
    Format.EDIT: (Shape(("prompt", "subject", "target"), ("paraphrases", "neighbours", "before")),),
    Format.IMAGE_CONVERSATION: (
        Shape(("images", "messages"), ("system",)),
        Shape(("images", "prompt", "completion"), ("input", "system")),
    ),
    Format.DOCUMENTS: (Shape(("text",), ("title", "source")),),
}
"""The formats an upload can be mapped to, and how."""


class MappingOptions(BaseModel):
    """How values are read, where the columns alone do not say it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    roles: dict[str, Speaker] = Field(default_factory=dict, max_length=100)
    """Role tags of this file that are not the usual ones, and the speaker each stands for."""

    labels: dict[str, bool] = Field(default_factory=dict, max_length=100)
    """Label values of this file that are not the usual ones, and whether each is good. Upper case does not matter."""

    label_threshold: float | None = Field(default=None, allow_inf_nan=False)
    """For numeric labels: from this number on, an answer is good."""

    answer_extractor: Literal["none", "hash-marks", "boxed"] = "none"
    """Where the final answer stands: it is the whole column, it follows `####`, or it is in the last `\\boxed{}`."""

    chat: bool = True
    """Texts become messages, to which the model's chat template is applied; off, they are used as they stand."""

    strip_prompt: bool = False
    """The answers begin with the prompt, which is cut off."""


class Mapping(BaseModel):
    """Which column plays which role, for one target format.

    Columns are named by path: `question`, or `data.question` and `turns.0.text` for nested ones.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    format: Format
    """The format the rows are to have."""

    columns: dict[str, str] = Field(min_length=1, max_length=len(ROLES))
    """Role to column path."""

    options: MappingOptions = Field(default_factory=MappingOptions)
    """How values are read."""

    @model_validator(mode="after")
    def _roles_fit_the_format(self) -> Self:
        shapes = SHAPES[self.format]
        given = set(self.columns)
        if not any(set(shape.required) <= given <= {*shape.required, *shape.optional} for shape in shapes):
            raise ValueError(f"{self.format} takes {_described(shapes)}; given: {', '.join(sorted(given))}")
        return self

    def check(self, columns: Collection[str]) -> None:
        """Raise `DataError` unless every mapped path is among `columns`, naming the nearest ones."""
        fields = {}
        for role, path in self.columns.items():
            if path not in columns:
                near = difflib.get_close_matches(path, columns, n=3, cutoff=0.5) or sorted(columns)[:10]
                fields[f"mapping.columns.{role}"] = [f"no column '{path}'; there is {', '.join(near) or 'none'}"]
        if fields:
            raise DataError(
                "; ".join(f"{name.rpartition('.')[2]}: {problems[0]}" for name, problems in fields.items()),
                code="data.mapping",
                advice="Map every role to a column of the file.",
                fields=fields,
            )


def _described(shapes: tuple[Shape, ...]) -> str:
    parts = []
    for shape in shapes:
        optional = f" (optional: {', '.join(shape.optional)})" if shape.optional else ""
        parts.append(", ".join(shape.required) + optional)
    return "; or ".join(parts)


def roles_of(format: Format) -> dict[str, bool]:
    """The roles a mapping to `format` can fill, and whether every way of filling it needs them."""
    shapes = SHAPES.get(format, ())
    roles = {role: False for shape in shapes for role in (*shape.required, *shape.optional)}
    return {role: all(role in shape.required for shape in shapes) for role in roles}
