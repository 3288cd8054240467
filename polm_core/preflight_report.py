"""What `polm_core.preflight` finds out, as the API shows it."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from pydantic import BaseModel, Field

_HISTOGRAM_BARS = 20
_EXAMPLE_TOKENS = 512


class Entry(BaseModel):
    """Something that stands in the way of a run, or that one should know; `remedy` says what to do about it."""

    code: str
    message: str
    remedy: str = ""


class Bar(BaseModel):
    """Rows of at most `upto` tokens that are longer than the bar before."""

    upto: int
    count: int


class TokenStats(BaseModel):
    """Lengths of the training rows, uncut; those of a pair count both its sequences."""

    mean: float = 0.0
    p50: int = 0
    p95: int = 0
    max: int = 0
    histogram: list[Bar] = Field(default_factory=list)


class Token(BaseModel):
    """A token as text; the texts of a sequence joined are the text the model sees. `trained`: it counts in the loss."""

    text: str
    trained: bool


class Example(BaseModel):
    """The first row as the model sees it; for a pair `tokens` end with the chosen answer, `rejected` with the other.

    `images` names what the row is about, as the dataset calls them.
    """

    tokens: list[Token]
    rejected: list[Token] = Field(default_factory=list)
    images: list[str] = Field(default_factory=list)


class Report(BaseModel):
    """The answer of `POST /runs/preflight`. `fit` says whether the memory suffices: `fits`, `tight` or `over`."""

    rows_total: int = 0
    rows_used: int = 0
    held_out_rows: int = 0
    duplicate_rows: int = 0
    leaked_rows: int = 0
    truncated_rows: int = 0
    untrained_rows: int = 0
    equal_pairs: int = 0
    empty_answers: int = 0
    empty_prompts: int = 0
    steps: int = 0
    tokens: TokenStats = Field(default_factory=TokenStats)
    memory_bytes: int = 0
    memory_available: int = 0
    fit: str = "fits"
    disk_bytes: int = 0
    seconds: float = 0.0
    first_example: Example | None = None
    blocking: list[Entry] = Field(default_factory=list)
    warnings: list[Entry] = Field(default_factory=list)


class Tokens(Protocol):
    """A row as tokens, as `polm_core.training.encoding.Encoded` is."""

    @property
    def trained(self) -> list[bool]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    @property
    def text(self) -> str: ...


def shown_tokens(encoded: Tokens) -> list[Token]:
    """The tokens as texts that join to what the model sees; a token without a place of its own shows nothing."""
    tokens, done = [], 0
    for (_, end), trained in list(zip(encoded.offsets, encoded.trained, strict=True))[:_EXAMPLE_TOKENS]:
        tokens.append(Token(text=encoded.text[done : max(done, end)], trained=trained))
        done = max(done, end)
    return tokens


def token_stats(lengths: Sequence[int], scale: float) -> TokenStats:
    """The figures of rows of these lengths, each of which stands for `scale` rows."""
    ordered = sorted(lengths)
    shortest, longest = ordered[0], ordered[-1]
    width = -(-(longest - shortest + 1) // _HISTOGRAM_BARS)
    counts = Counter((length - shortest) // width for length in ordered)
    return TokenStats(
        mean=sum(ordered) / len(ordered),
        p50=ordered[len(ordered) // 2],
        p95=ordered[len(ordered) * 95 // 100],
        max=longest,
        histogram=[
            Bar(upto=shortest + (bar + 1) * width - 1, count=round(counts[bar] * scale))
            for bar in range((longest - shortest) // width + 1)
        ],
    )
