"""The rollup's arithmetic: the open buckets of one series, and which of them a new point closes."""

import math
from dataclasses import dataclass, field
from datetime import datetime

# Level l covers 2**(3*l) units, so eight of its buckets make one of level l + 1.
BITS = 3
# Steps stay below 2**48: at shift 15 the highest level then fits Postgres's 64-bit shifts with room to spare.
MAX_STEP = 2**48 - 1
MAX_SHIFT = 15
# Above this level everything is in bucket 0, which never closes.
TOP_LEVEL = 15


@dataclass(slots=True)
class Bucket:
    """What a span of steps holds. Without a finite point `low` is inf and `high` is -inf."""

    index: int
    finite: int
    not_finite: int
    low: float
    high: float
    total: float
    wall: datetime

    @classmethod
    def of(cls, index: int, value: float, wall: datetime) -> "Bucket":
        """A bucket with one point."""
        if math.isfinite(value):
            return cls(index, 1, 0, value, value, value, wall)
        return cls(index, 0, 1, math.inf, -math.inf, 0.0, wall)

    def add(self, value: float, wall: datetime) -> None:
        """Take in one point that is newer than all others."""
        self.wall = wall
        if not math.isfinite(value):
            self.not_finite += 1
            return
        self.finite += 1
        self.total += value
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    def merge(self, newer: "Bucket") -> None:
        """Take in a bucket whose points are all newer."""
        self.finite += newer.finite
        self.not_finite += newer.not_finite
        self.total += newer.total
        self.low = min(self.low, newer.low)
        self.high = max(self.high, newer.high)
        self.wall = newer.wall

    def raised(self) -> "Bucket":
        """The bucket one level up that so far holds this one alone."""
        return Bucket(
            self.index >> BITS,
            self.finite,
            self.not_finite,
            self.low,
            self.high,
            self.total,
            self.wall,
        )


@dataclass(slots=True)
class Cascade:
    """The open buckets of one series, by level. Points are added in the order of their steps.

    Each point is in exactly one open bucket: level 1 holds the newest, and level l + 1 what has closed below it.
    """

    shift: int = 0
    open: dict[int, Bucket] = field(default_factory=dict)

    def add(self, step: int, wall: datetime, value: float) -> list[tuple[int, Bucket]]:
        """Take in a point; returns the buckets that it closes, with their levels."""
        bucket = self.open.get(1)
        index = step >> (self.shift + BITS)
        if bucket is not None and bucket.index == index:
            bucket.add(value, wall)
            return []
        closed = self._close_before(step)
        self.open[1] = Bucket.of(index, value, wall)
        return closed

    def _close_before(self, step: int) -> list[tuple[int, Bucket]]:
        closed = []
        level = 1
        while (bucket := self.open.get(level)) is not None and bucket.index != step >> (self.shift + BITS * level):
            closed.append((level, bucket))
            del self.open[level]
            self.absorb(level + 1, bucket)
            level += 1
        return closed

    def absorb(self, level: int, closed: Bucket) -> None:
        """Put a bucket that has closed at `level - 1` into the open one above it."""
        above = self.open.get(level)
        if above is None:
            self.open[level] = closed.raised()
        else:
            above.merge(closed)

    def totals(self) -> Bucket | None:
        """Everything the series holds, as one bucket; None when it is empty."""
        total: Bucket | None = None
        for level in sorted(self.open, reverse=True):
            if total is None:
                total = self.open[level].raised()
            else:
                total.merge(self.open[level])
        return total


def shift_for(stride: int) -> int:
    """The shift that fits a series whose first two points are `stride` steps apart."""
    return min(MAX_SHIFT, stride.bit_length() - 1)
