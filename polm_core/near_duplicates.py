"""Rows that say almost the same as another: MinHash over runs of words, looked up by locality-sensitive hashing.

Broder, On the resemblance and containment of documents (1997); what for training data: Lee et al., arXiv 2107.06499.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]

# Rows of each side that are compared; of more as many are taken, evenly spread.
SAMPLE = 4_000
# Near are rows that share this much of their shingles (Jaccard), as in Lee et al.
THRESHOLD = 0.8
# Bands and the permutations in each: of rows that share 0.8, 95 % are found; those found are then compared exactly.
_BANDS = (10, 6)
_PERMUTATIONS = 60
# Of the rows that may be twins of a row, so many are compared with it.
_COMPARED = 20
_WORDS = 3
# Twins show in their beginnings; a book is not read to its end.
_CHARACTERS = 2_000
# What so many rows share is the template that they were made with, and says nothing of a row.
_TEMPLATE_SHARE, _TEMPLATE_ROWS = 0.2, 10
# A word, a sign, or a character of a script that puts no blanks between words.
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]")
_SAID = ("text", "messages", "prompt", "completion", "chosen", "rejected", "completions", "answer")


class Near(NamedTuple):
    """Training rows with an earlier near twin, and those with one among the held-out rows."""

    repeated: int
    leaked: int


def near_duplicates(train: Sequence[Row], held_out: Sequence[Row]) -> Near:
    """How many rows are near twins of others. Of both sides equal rows are given once, and none on both.

    At most `SAMPLE` rows of each side are compared, evenly spread, and the counts scaled up. Twins of which one is
    outside the sample are not seen: of a larger dataset the figures are the least there are.
    """
    from datasketch import MinHash, MinHashLSH

    sample, others = evenly(train, SAMPLE), evenly(held_out, SAMPLE)
    sets = _shingles([said(row) for row in [*others, *sample]])
    sketches = MinHash.generator((one.tolist() for one in sets), num_perm=_PERMUTATIONS, hashfunc=int)
    index = MinHashLSH(params=_BANDS, num_perm=_PERMUTATIONS)
    repeated = leaked = 0
    for place, sketch in enumerate(sketches):
        if sketch.is_empty():
            continue
        if place >= len(others):
            found = sorted(index.query(sketch))[:_COMPARED]
            twins = [twin for twin in found if _shared(sets[twin], sets[place]) >= THRESHOLD]
            leaked += any(twin < len(others) for twin in twins)
            repeated += any(twin >= len(others) for twin in twins)
        index.insert(place, sketch)
    scale = len(train) / max(1, len(sample))
    return Near(round(repeated * scale), round(leaked * scale))


def evenly(rows: Sequence[Row], most: int) -> Sequence[Row]:
    """At most `most` of the rows, evenly spread."""
    return rows[:: max(1, -(-len(rows) // most))]


def said(row: Row) -> str:
    """What a row says, less what its turns of the system say, which many rows share."""
    return "\n".join(_texts(row[column]) for column in _SAID if column in row)


def _texts(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_texts(turn) for turn in value if not isinstance(turn, dict) or turn.get("role") != "system")
    return str((value.get("content") if isinstance(value, dict) else value) or "")


def _shared(one: "np.ndarray", other: "np.ndarray") -> float:
    """The share of the numbers in either set that are in both (Jaccard)."""
    import numpy as np

    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def _shingles(texts: Sequence[str]) -> list["np.ndarray"]:
    """The set of runs of `_WORDS` words of each text, as numbers of 32 bits, less those that make up a template."""
    import numpy as np

    known: dict[str, int] = defaultdict(itertools.count(1).__next__)
    sets = []
    for text in texts:
        words = np.array([known[word] for word in _WORD.findall(text[:_CHARACTERS].lower())], dtype=np.uint64)
        runs = np.zeros(max(len(words) - _WORDS + 1, min(1, len(words))), dtype=np.uint64)
        for place in range(min(_WORDS, len(words))):
            # Multiplied by the golden ratio in 64 bits, whose upper bits depend on all of the lower ones.
            runs = (runs + words[place : place + len(runs)]) * np.uint64(0x9E3779B97F4A7C15)
            runs ^= runs >> np.uint64(32)
        sets.append(np.unique((runs >> np.uint64(32)).astype(np.uint32)))
    found, counts = np.unique(np.concatenate(sets or [np.zeros(0, dtype=np.uint32)]), return_counts=True)
    template = found[counts > max(_TEMPLATE_ROWS, len(texts) * _TEMPLATE_SHARE)]
    return [np.setdiff1d(one, template, assume_unique=True) for one in sets]
