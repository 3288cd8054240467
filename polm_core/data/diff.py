"""What two sets of canonical rows have in common. `python -m polm_core.data.diff job.json` does it in its own process.

Beside the job `progress.json` tells how far it is, and `answer.json` holds a `DiffAnswer` at the end.
"""

import json
import struct
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from heapq import nsmallest
from itertools import takewhile
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from polm_core.data.limits import Limits, limit_process
from polm_core.data.rows import ROWS_NAME
from polm_core.data.values import DIGEST_BYTES, Row, digest, text_of
from polm_core.errors import DataError, PolmError, ResourceError
from polm_core.run_dir import write_atomic

LISTED = 1000
"""Places that are kept of each kind of difference, the first in the files; all are counted."""

# Rows that ask the same, and so all that are equal, fall into the same part; one part is in memory at a time.
_PARTS = 128
_ENTRY = struct.Struct(f"<{DIGEST_BYTES}s{DIGEST_BYTES}sQ")
_PROGRESS_SECONDS = 0.25

Entries = list[tuple[bytes, bytes, int]]
Tell = Callable[[int], None]


class RowsDiff(BaseModel):
    """How many rows are the same in both, ask the same and go on otherwise, or are on one side alone.

    A row that is there several times counts as often as it is on both sides. Each row of a side is counted once: `same
    + changed + only_before` are the rows before. The lists hold places from 0, in the order of the rows before, or
    after where there are none before; at most `LISTED` each.
    """

    same: int = 0
    changed: int = 0
    only_before: int = 0
    only_after: int = 0
    changed_at: list[tuple[int, int]] = Field(default_factory=list)
    only_before_at: list[int] = Field(default_factory=list)
    only_after_at: list[int] = Field(default_factory=list)


class DiffJob(BaseModel):
    """The folders of two sets of prepared rows."""

    model_config = ConfigDict(extra="forbid")
    before: Path
    after: Path


class DiffAnswer(BaseModel):
    """The result, or `PolmError.as_dict()` for why there is none."""

    diff: RowsDiff | None = None
    error: dict[str, Any] | None = None


def diff_rows(before: Path, after: Path, scratch: Path, tell: Tell = lambda rows: None) -> RowsDiff:
    """Compare the rows of two prepared folders by content, whatever the order of rows and of the keys in them.

    Digests go to files in `scratch` first, so that memory grows with the largest of 128 parts alone. `tell` is called
    with the number of rows read so far. Raises `DataError` for a folder without rows.
    """
    diff, told = RowsDiff(), _Told(tell)
    sides = [_spread(folder, scratch / side, told) for side, folder in (("before", before), ("after", after))]
    for parts in zip(*sides, strict=True):
        _compare_part(diff, *map(_entries, parts))
    return diff


def asked(row: Row) -> list[str] | None:
    """What a row asks: its prompt with its images, the messages before the first answer, or the title of a document;
    None where it asks nothing."""
    said = row.get("prompt") or row.get("title")
    if said is None:
        said = list(takewhile(lambda message: message.get("role") != "assistant", row.get("messages", ())))
    texts = [said] if isinstance(said, str) else [text_of(message) for message in said]
    return [*texts, *row.get("images", ())] if any(texts) else None


class _Told:
    """Rows read so far, told a few times a second."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._rows, self._at = tell, 0, 0.0

    def count(self) -> None:
        self._rows += 1
        if not self._rows % 1000 and time.monotonic() - self._at >= _PROGRESS_SECONDS:
            self._at = time.monotonic()
            self._tell(self._rows)


def _spread(folder: Path, target: Path, told: _Told) -> list[Path]:
    """The files of the parts, with an entry for each row: the digest of what it asks, its own, and its place."""
    target.mkdir()
    paths = [target / str(number) for number in range(_PARTS)]
    with ExitStack() as opened:
        try:
            rows = opened.enter_context((folder / ROWS_NAME).open("rb"))
        except FileNotFoundError as error:
            raise DataError(
                "The rows of a version are no longer in the artifact store.",
                code="data.gone",
                advice="Compare versions whose rows are there.",
            ) from error
        files = [opened.enter_context(path.open("wb")) for path in paths]
        for place, line in enumerate(rows):
            row = orjson.loads(line)
            own, asks = digest(row), asked(row)
            key = own if asks is None else digest(asks)
            files[key[0] % _PARTS].write(_ENTRY.pack(key, own, place))
            told.count()
    return paths


def _entries(path: Path) -> Entries:
    return list(_ENTRY.iter_unpack(path.read_bytes()))


def _compare_part(diff: RowsDiff, before: Entries, after: Entries) -> None:
    same = Counter(own for _, own, _ in before) & Counter(own for _, own, _ in after)
    diff.same += same.total()
    ours, theirs = _by_question(before, same), _by_question(after, same)
    changed: list[tuple[int, int]] = []
    for key in ours.keys() & theirs.keys():
        pairs = list(zip(ours[key], theirs[key], strict=False))
        changed += pairs
        del ours[key][: len(pairs)], theirs[key][: len(pairs)]
    only_before, only_after = _flat(ours.values()), _flat(theirs.values())
    diff.changed += len(changed)
    diff.only_before += len(only_before)
    diff.only_after += len(only_after)
    diff.changed_at = nsmallest(LISTED, [*diff.changed_at, *changed])
    diff.only_before_at = nsmallest(LISTED, [*diff.only_before_at, *only_before])
    diff.only_after_at = nsmallest(LISTED, [*diff.only_after_at, *only_after])


def _by_question(entries: Entries, same: Counter[bytes]) -> dict[bytes, list[int]]:
    """The places of the rows that are left once those in both are taken away, by what they ask."""
    left, found = same.copy(), defaultdict(list)
    for key, own, place in entries:
        if left[own]:
            left[own] -= 1
        else:
            found[key].append(place)
    return found


def _flat(lists: Iterable[list[int]]) -> list[int]:
    return [place for places in lists for place in places]


def main(job_path: Path) -> None:
    """Carry out the job in the file and write the answer beside it."""
    folder = job_path.parent
    job = DiffJob.model_validate_json(job_path.read_bytes())
    limit_process(Limits())
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            diff = diff_rows(
                job.before,
                job.after,
                Path(scratch),
                lambda rows: write_atomic(folder / "progress.json", json.dumps({"rows": rows})),
            )
        answer = DiffAnswer(diff=diff)
    except PolmError as error:
        answer = DiffAnswer(error=error.as_dict())
    except MemoryError:
        short = ResourceError(
            "Comparing the rows takes more memory than there is.",
            code="resource.memory",
            advice="Too many of the rows that differ ask the same. Compare smaller versions.",
        )
        answer = DiffAnswer(error=short.as_dict())
    write_atomic(folder / "answer.json", answer.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
