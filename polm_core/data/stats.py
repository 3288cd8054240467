"""Figures over canonical rows, gathered while they are written."""

from array import array
from collections import Counter

from polm_core.data.report import Stats
from polm_core.data.values import Row, text_of


class StatsCollector:
    """Takes each row once; memory grows by 8 bytes a row."""

    def __init__(self) -> None:
        self._lengths: Counter[int] = Counter()
        self._hashes = array("q")
        self._labels: Counter[str] = Counter()
        self._turns = 0
        self._most_turns = 0
        self._equal_pairs = 0

    def add(self, row: Row, line: bytes) -> None:
        """Count a row; `line` is its encoding."""
        length, turns = _measure(row)
        self._lengths[length] += 1
        self._hashes.append(hash(line))
        self._turns += turns
        self._most_turns = max(self._most_turns, turns)
        if "label" in row:
            self._labels[str(row["label"]).lower()] += 1
        for label in row.get("labels", ()):
            self._labels[str(label).lower()] += 1
        if "chosen" in row:
            self._equal_pairs += row["chosen"] == row["rejected"]

    def result(self, empty: int) -> Stats:
        """The figures; `empty` counts the rows that were dropped for an empty text."""
        count = self._lengths.total()
        return Stats(
            chars_p50=self._percentile(0.50),
            chars_p95=self._percentile(0.95),
            chars_max=max(self._lengths, default=0),
            turns_mean=round(self._turns / count, 2) if count else 0.0,
            turns_max=self._most_turns,
            duplicates=self._duplicates(),
            labels=dict(self._labels),
            empty=empty,
            equal_pairs=self._equal_pairs,
        )

    def _percentile(self, share: float) -> int:
        """The smallest length that this share of the rows does not exceed."""
        left = share * self._lengths.total()
        for length in sorted(self._lengths):
            left -= self._lengths[length]
            if left <= 0:
                return length
        return 0

    def _duplicates(self) -> int:
        import numpy as np

        hashes = np.frombuffer(self._hashes, dtype=np.int64).copy()
        hashes.sort()
        return int((hashes[1:] == hashes[:-1]).sum())


def _measure(row: Row) -> tuple[int, int]:
    """Characters of `texts_of` the row and number of messages. Every upload's rows pass here: no lists."""
    length = turns = 0
    for value in row.values():
        if isinstance(value, str):
            length += len(value)
        elif isinstance(value, list):
            for item in value:
                length += len(text_of(item))
                turns += isinstance(item, dict) and "role" in item
    return length, turns
