"""A model that goes on from its own answer: what it is asked about that, and what it says then."""

from collections.abc import Sequence
from typing import Any

from polm_core.methods.alignment.feedback import EMPTY_ANSWER, NO_ROOM, OwnRowsConfig, Start
from polm_core.training.encoding import Messages
from polm_core.training.rows import Row
from polm_core.training.sampling import APART, Pace, answers_to, render_prompts


class Speaker:
    """Has the model say something in many conversations at once."""

    def __init__(self, config: OwnRowsConfig, begun: Start) -> None:
        self.config = config
        self.begun = begun
        self.room = _room(begun.model, config)
        self.pace = Pace()

    def say(self, rows: list[Row], column: str, texts: Sequence[str | Messages], place: int, turn: int) -> None:
        """Have the model go on from each text, and put what it says into the rows that have no problem yet."""
        fitting = [(row, text) for row, text in zip(rows, texts, strict=True) if self._fits(row, text)]
        said = answers_to(
            self.begun.model,
            self.begun.prompts.tokenizer,
            [text for _, text in fitting],
            self.config,
            sampled=True,
            seed=self.config.seed + place + turn * APART,
            pace=self.pace,
        )
        for (row, _), text in zip(fitting, said, strict=True):
            row[column] = text.strip()
            if not row[column]:
                row["problem"] = EMPTY_ANSWER

    def _fits(self, row: Row, text: str | Messages) -> bool:
        if "problem" not in row:
            (rendered,) = render_prompts(self.begun.prompts.tokenizer, [text])
            if len(self.begun.prompts.tokenizer(rendered, add_special_tokens=False)["input_ids"]) > self.room:
                row["problem"] = NO_ROOM
        return "problem" not in row


def continued(prompt: str | Messages, said: Sequence[str]) -> str | Messages:
    """The prompt with what was said after it: the model's answers and what it was asked about them, in turn."""
    if isinstance(prompt, str):
        return "\n\n".join([prompt, *said, ""])
    roles = ("assistant", "user")
    return [*prompt, *({"role": roles[index % 2], "content": text} for index, text in enumerate(said))]


def question_of(prompt: str | Messages) -> str:
    """What the prompt asks at its end."""
    return prompt if isinstance(prompt, str) else str(prompt[-1].get("content") or "")


def _room(model: Any, config: OwnRowsConfig) -> float:
    """Tokens that the model can read and still write an answer after."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return positions - config.max_completion_length if positions else float("inf")
