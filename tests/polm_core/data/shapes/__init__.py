"""Rows in the shapes of well-known datasets, made up here, with the format they have and what the first becomes."""

from tests.polm_core.data.shapes.answers import ANSWERS
from tests.polm_core.data.shapes.conversations import CONVERSATIONS
from tests.polm_core.data.shapes.edits import EDITS
from tests.polm_core.data.shapes.pairs import PAIRS
from tests.polm_core.data.shapes.shape import Shape, assistant, system, user
from tests.polm_core.data.shapes.texts import TEXTS

__all__ = ["SHAPES", "Shape", "assistant", "system", "user"]

SHAPES = [*CONVERSATIONS, *TEXTS, *PAIRS, *ANSWERS, *EDITS]
