"""What `polm_core.preflight` finds out, as the API shows it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import BaseModel, Field

_HISTOGRAM_BARS = 20
# Of a longer row the beginning is shown, and what stands around the place where it is cut.
_EXAMPLE_TOKENS = 512
_AROUND_CUT = 64


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
    """A token as text; the texts of a sequence joined are the text the model sees. `trained`: it counts in the loss.

    `special` tokens are signs of the model's own, as those that end turns; what is `cut` is beyond `max_length`, and is
    not seen by the model. `omitted` says how many tokens before this one are not shown.
    """

    text: str
    trained: bool
    special: bool = False
    cut: bool = False
    omitted: int = 0


class Example(BaseModel):
    """A row as the model sees it; for a pair `tokens` end with the chosen answer, `rejected` with the other.

    `images` names what the row is about, as the dataset calls them. It is number `row`, counted from 0, of the `rows`
    that may be asked for; of none where the method shows its first row alone. `left_out`: the run does not train on it,
    as it is too long, or has no trained token.
    """

    tokens: list[Token]
    rejected: list[Token] = Field(default_factory=list)
    images: list[str] = Field(default_factory=list)
    row: int = 0
    rows: int = 0
    left_out: bool = False


class Pairs(BaseModel):
    """The answers of pairs: their mean lengths in tokens, and the share of pairs whose chosen one is the longer."""

    chosen_tokens: float
    rejected_tokens: float
    chosen_longer: float


class Report(BaseModel):
    """The answer of `POST /runs/preflight`. `fit` says whether the memory suffices: `fits`, `tight` or `over`.

    Near are rows that say almost the same as an earlier row, or as a held-out one, and are not equal to it. `pairs`
    tells of preferences, and `good_share` how many of the ratings, or of the judged steps, are good. `seconds` is how
    long the formula of `polm_core.estimate` says that the run takes on a `device` of that kind, such as `cpu`.
    """

    rows_total: int = 0
    rows_used: int = 0
    held_out_rows: int = 0
    duplicate_rows: int = 0
    leaked_rows: int = 0
    near_duplicate_rows: int = 0
    near_leaked_rows: int = 0
    truncated_rows: int = 0
    untrained_rows: int = 0
    equal_pairs: int = 0
    empty_answers: int = 0
    empty_prompts: int = 0
    pairs: Pairs | None = None
    good_share: float | None = None
    steps: int = 0
    tokens: TokenStats = Field(default_factory=TokenStats)
    memory_bytes: int = 0
    memory_available: int = 0
    fit: str = "fits"
    device: str = ""
    disk_bytes: int = 0
    seconds: float = 0.0
    first_example: Example | None = None
    blocking: list[Entry] = Field(default_factory=list)
    warnings: list[Entry] = Field(default_factory=list)


class Tokens(Protocol):
    """A row as tokens, as `polm_core.training.encoding.Encoded` is."""

    @property
    def input_ids(self) -> list[int]: ...
    @property
    def trained(self) -> list[bool]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    @property
    def text(self) -> str: ...


def shown_tokens(
    encoded: Tokens, *, limit: int | None = None, specials: Mapping[int, str] | None = None
) -> list[Token]:
    """The tokens as texts that join to what the model sees; a token without a place of its own shows nothing.

    `specials` are the names of the model's own tokens by id, which the tokenizer may put in without a place. Tokens
    from `limit` on are cut.
    """
    names, total = specials or {}, len(encoded.input_ids)
    shown = set(range(_EXAMPLE_TOKENS))
    if limit is not None and total > limit > _EXAMPLE_TOKENS - _AROUND_CUT:
        around = range(limit - _AROUND_CUT, limit + _AROUND_CUT)
        shown = set(range(_EXAMPLE_TOKENS - len(around))) | set(around)
    tokens: list[Token] = []
    done = omitted = 0
    for place, (number, span, trained) in enumerate(
        zip(encoded.input_ids, encoded.offsets, encoded.trained, strict=True)
    ):
        text = encoded.text[done : max(done, span[1])]
        done = max(done, span[1])
        if place not in shown:
            omitted += 1
            continue
        is_cut = limit is not None and place >= limit
        tokens.append(
            Token(
                text=names.get(number, "") if span == (0, 0) else text,
                trained=trained and not is_cut,
                special=number in names,
                cut=is_cut,
                omitted=omitted,
            )
        )
        omitted = 0
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
