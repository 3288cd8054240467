"""Which rows of datasets are taken into another: a side of a split, those that fit, or a mixture of several."""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from polm_core.data.values import Row, digest, texts_of
from polm_core.gym.tasks import MAX_SEED
from polm_core.patterns import check_pattern, is_found

MAX_PARTS = 20

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Keeps = Callable[[Row], bool]


class Split(BaseModel):
    """One side of a split in two; the sides of one split hold each row once.

    `random` holds out `share` of the rows exactly, by chance. `content` decides for each row by what stands in it, so
    that rows that are equal stay together and each keeps its side when others are added; `prompt` by its prompt, so
    that all answers to a prompt are on one side. Both hold out about that share.
    """

    model_config = ConfigDict(extra="forbid")
    kind: Literal["split"] = "split"
    side: Literal["train", "held-out"]
    share: float = Field(gt=0, lt=1)
    by: Literal["random", "content", "prompt"] = "random"
    seed: Seed = 0

    def chosen(self, rows: Iterable[Row], count: int) -> Iterator[Row]:
        """Those of `count` rows that are on this side, in their order."""
        wanted = self.side == "held-out"
        if self.by == "random":
            held_out = _drawn(count, held_out_rows(count, self.share), random.Random(self.seed))  # noqa: S311
            return (row for row, is_out in zip(rows, held_out, strict=True) if is_out is wanted)
        return (row for row in rows if self._is_held_out(row) is wanted)

    def _is_held_out(self, row: Row) -> bool:
        key = row.get("prompt", row) if self.by == "prompt" else row
        text = orjson.dumps([self.seed, key], option=orjson.OPT_SORT_KEYS)
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") < self.share * 2**64


def held_out_rows(count: int, share: float) -> int:
    """How many of so many rows a random split holds out: at least one, and at least one is left."""
    return max(1, min(count - 1, round(count * share)))


class Filter(BaseModel):
    """The rows that keep to all that is asked of them; `distinct` leaves out those that repeat an earlier one.

    Characters are those of all texts of a row together. A pattern is searched for in each text of a row; it is RE2's.
    """

    model_config = ConfigDict(extra="forbid")
    kind: Literal["filter"] = "filter"
    least_characters: int | None = Field(default=None, ge=1, le=10**9)
    most_characters: int | None = Field(default=None, ge=1, le=10**9)
    contains: str = Field(default="", max_length=500)
    lacks: str = Field(default="", max_length=500)
    distinct: bool = False

    @field_validator("contains", "lacks")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        check_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        least, most = self.least_characters, self.most_characters
        if least is not None and most is not None and least > most:
            raise ValueError("the least number of characters is above the most, so no row would fit")
        if not (least or most or self.contains or self.lacks or self.distinct):
            raise ValueError("says nothing that a row must be or must not be, so all would be kept")
        return self

    @property
    def says(self) -> str:
        """The rules in words."""
        rules = [
            (self.least_characters, f"at least {self.least_characters or 0:,} characters"),
            (self.most_characters, f"at most {self.most_characters or 0:,} characters"),
            (self.contains, f"with {self.contains}"),
            (self.lacks, f"without {self.lacks}"),
            (self.distinct, "no repeats"),
        ]
        return ", ".join(words for asked, words in rules if asked)

    def chosen(self, rows: Iterable[Row], _count: int) -> Iterator[Row]:
        """The rows that fit, in their order; memory grows by a digest for each distinct one."""
        seen: set[bytes] = set()
        for row in rows:
            if not self._fits(texts_of(row)):
                continue
            if self.distinct:
                own = digest(row)
                if own in seen:
                    continue
                seen.add(own)
            yield row

    def _fits(self, texts: Sequence[str]) -> bool:
        length = sum(map(len, texts))
        if length < (self.least_characters or 0) or length > (self.most_characters or length):
            return False
        if self.contains and not any(is_found(self.contains, text) for text in texts):
            return False
        return not (self.lacks and any(is_found(self.lacks, text) for text in texts))


Choice = Annotated[Split | Filter, Field(discriminator="kind")]


class MixedPart(BaseModel):
    """`take` of the `rows` rows of a source."""

    model_config = ConfigDict(extra="forbid")
    rows: int = Field(ge=1)
    take: int = Field(ge=1)

    @model_validator(mode="after")
    def _has_so_many(self) -> Self:
        if self.take > self.rows:
            raise ValueError(f"has {self.rows:,} rows, of which {self.take:,} cannot be taken")
        return self


def mixed(sources: Sequence[Iterable[Row]], parts: Sequence[MixedPart], seed: int) -> Iterator[Row]:
    """The rows of several sources, as many of each as its part says, drawn and mixed by chance in constant memory.

    At each place every row that is still to come is as likely; rows of one source stay in their order.
    """
    chance = random.Random(seed)  # noqa: S311
    drawn = [
        (row for row, is_taken in zip(rows, _drawn(part.rows, part.take, chance), strict=True) if is_taken)
        for rows, part in zip(sources, parts, strict=True)
    ]
    left = [part.take for part in parts]
    while any(left):
        (number,) = chance.choices(range(len(left)), left)
        left[number] -= 1
        yield next(drawn[number])


def takes(rows: Sequence[int], weights: Sequence[float], total: int | None) -> list[int]:
    """How many rows of each source make up a mixture with these weights: `total` in all, or as many as there can be.

    Raises `ValueError` when a source has too few rows for its share of `total`, or would give none.
    """
    shares = [weight / sum(weights) for weight in weights]
    most = min(int(count / share + 1e-9) for count, share in zip(rows, shares, strict=True))
    if total is not None and total > most:
        raise ValueError(f"with these weights there are at most {most:,} rows")
    wanted = most if total is None else total
    taken = [min(count, round(share * wanted)) for count, share in zip(rows, shares, strict=True)]
    if not all(taken):
        least = next(place for place, count in enumerate(taken, 1) if not count)
        raise ValueError(f"dataset {least} would give no row: raise its weight or the number of rows")
    return taken


def _drawn(count: int, wanted: int, chance: random.Random) -> Iterator[bool]:
    """For each of `count` places whether it is one of `wanted` that are drawn, all as likely (Knuth's algorithm S)."""
    for place in range(count):
        is_drawn = chance.random() * (count - place) < wanted
        wanted -= is_drawn
        yield is_drawn
