"""The score of each row of an evaluation, as bytes: 24 for a row."""

from collections.abc import Sequence

import numpy as np

from polm_core.evaluation.intervals import Scores

_ROW = np.dtype([("key", "<i8"), ("score", "<f8"), ("weight", "<f8")])


def packed(keys: Sequence[int], scores: Sequence[float], weights: Sequence[float]) -> bytes:
    """The scores of rows by their keys; no weights are weights of 1."""
    rows = np.empty(len(scores), _ROW)
    rows["key"], rows["score"], rows["weight"] = keys, scores, weights or 1.0
    return rows.tobytes()


def unpacked(data: bytes | memoryview) -> Scores:
    """What `packed` packed."""
    rows = np.frombuffer(data, _ROW)
    return Scores(rows["key"], rows["score"], rows["weight"])
