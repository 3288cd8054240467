"""Following the files of a run directory into Postgres.

What was read and how far it was read are committed together, so that each line arrives exactly once whatever dies in
between; the files are the truth and reading them again does no harm.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from django.db import connection, transaction

from polm_core.data.values import cleaned
from polm_core.run_dir import RunDir
from webapp.live.notify import publish
from webapp.metrics.models import IngestPosition
from webapp.metrics.rollup import MAX_STEP
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.runs.leases import Claim, lease_renew
from webapp.runs.models import RunLog, RunSample, Status

logger = logging.getLogger(__name__)

# At most this much of each file is taken in one transaction, so that a lease is renewed often enough.
PIECE = 1024 * 1024
LOG_PIECE = 64 * 1024
# A run that prints without end keeps its first and latest output on disk; the studio shows this much.
LOG_LIMIT = 20 * 1024 * 1024
TEXT_LIMIT = 20_000
# Numbers beyond it cannot be put into a column.
LARGEST = 1e300


@dataclass
class Moved:
    """What one look at the files brought."""

    status: Status
    anything: bool


class Tailer:
    """Reads one run's files for the worker that holds its lease."""

    def __init__(self, claim: Claim, run_dir: RunDir) -> None:
        self.claim = claim
        self.run_dir = run_dir
        self.writer = MetricWriter(claim.run_id)

    def start_fresh(self) -> None:
        """The run directory is new on this machine: its files start at zero again."""
        position = self._position()
        position.samples_base += position.samples_offset
        position.log_base += position.log_offset
        position.metrics_offset = position.samples_offset = position.log_offset = 0
        position.save()

    def read(self) -> Moved:
        """Take in what is new, renew the lease, and return the run's status. Raises LeaseLost."""
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                # What a crash of the database undoes here is read again: the file is the truth.
                cursor.execute("SET LOCAL synchronous_commit TO OFF")
                status = lease_renew(self.claim)
                position = self._position()
                if self._mind_what_was_cut(position):
                    position.save()
                moved = [self._metrics(position), self._samples(position), self._log(position)]
                if any(moved):
                    position.save()
        except BaseException:
            self.writer.reset()
            raise
        return Moved(status, any(moved))

    def _mind_what_was_cut(self, position: IngestPosition) -> bool:
        """A file that no longer holds what was read of it, after a power failure say, is not read on in mid-line.

        What was stored stays, and reading goes on at the file's end. Metrics that have grown again meanwhile are read
        from their beginning, which replaces what was stored.
        Returns whether the position has changed.
        """
        before = (position.metrics_offset, position.samples_offset, position.log_offset)
        if _was_cut(self.run_dir.metrics, position.metrics_offset):
            shorter = _size(self.run_dir.metrics) < position.metrics_offset
            position.metrics_offset = _end_of_lines(self.run_dir.metrics) if shorter else 0
        if _was_cut(self.run_dir.samples, position.samples_offset):
            end = _end_of_lines(self.run_dir.samples)
            position.samples_base += position.samples_offset - end
            position.samples_offset = end
        if _size(self.run_dir.log) < position.log_offset:
            end = _size(self.run_dir.log)
            position.log_base += position.log_offset - end
            position.log_offset = end
        return before != (position.metrics_offset, position.samples_offset, position.log_offset)

    def metrics_size(self) -> int:
        """How long the file of metrics is now, for looks that cost nothing."""
        try:
            return self.run_dir.metrics.stat().st_size
        except OSError:
            return 0

    def _position(self) -> IngestPosition:
        return IngestPosition.objects.get_or_create(run_id=self.claim.run_id)[0]

    def _metrics(self, position: IngestPosition) -> bool:
        piece = _whole_lines(self.run_dir.metrics, position.metrics_offset)
        if not piece:
            return False
        lines, bad = [], 0
        for raw in piece.splitlines():
            line = _metric_line(raw)
            if line is None:
                bad += 1
            else:
                lines.append(line)
        position.refused_values += self.writer.append(lines)
        position.metrics_offset += len(piece)
        position.metrics_lines += len(lines)
        position.bad_lines += bad
        step = lines[-1].step if lines else None
        publish(f"run:{self.claim.run_id}", "metrics", {"lines": position.metrics_lines, "step": step})
        return True

    def _samples(self, position: IngestPosition) -> bool:
        piece = _whole_lines(self.run_dir.samples, position.samples_offset)
        if not piece:
            return False
        rows = []
        offset = position.samples_base + position.samples_offset
        for raw in piece.splitlines(keepends=True):
            sample = _sample(self.claim, offset, _object(raw))
            if sample is None:
                position.bad_lines += 1
            else:
                rows.append(sample)
            offset += len(raw)
        RunSample.objects.bulk_create(rows, ignore_conflicts=True)
        position.samples_offset += len(piece)
        publish(f"run:{self.claim.run_id}", "sample", {"to": position.samples_base + position.samples_offset})
        return True

    def _log(self, position: IngestPosition) -> bool:
        piece = _read(self.run_dir.log, position.log_offset, LOG_PIECE)
        # Cut at a line's end where there is one, so that no character is torn.
        piece = piece[: piece.rfind(b"\n") + 1] or (piece if len(piece) == LOG_PIECE else b"")
        if not piece:
            return False
        start = position.log_base + position.log_offset
        if start < LOG_LIMIT:
            text = piece.decode("utf-8", errors="replace").replace("\0", "")
            RunLog.objects.bulk_create(
                [RunLog(run_id=self.claim.run_id, offset=start, text=text)], ignore_conflicts=True
            )
        position.log_offset += len(piece)
        publish(f"run:{self.claim.run_id}", "log", {"to": start + len(piece)})
        return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _was_cut(path: Path, offset: int) -> bool:
    """Whether the line that ended at `offset` no longer does."""
    return offset > 0 and _read(path, offset - 1, 1) != b"\n"


def _end_of_lines(path: Path) -> int:
    """Where the last whole line ends."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""


def _whole_lines(path: Path, offset: int) -> bytes:
    """What is new in a file, up to its last complete line; a line longer than a piece is taken whole."""
    size = PIECE
    while True:
        piece = _read(path, offset, size)
        whole = piece[: piece.rfind(b"\n") + 1]
        if whole or len(piece) < size:
            return whole
        size *= 4


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _metric_line(raw: bytes) -> MetricLine | None:
    try:
        # orjson is strict about NaN; the standard library reads it, at a tenth of the speed.
        value = orjson.loads(raw)
    except ValueError:
        value = _object(raw)
    try:
        return MetricLine(int(value["step"]), float(value["time"]), dict(value["values"]))
    except (KeyError, TypeError, ValueError):
        return None


def _sample(claim: Claim, offset: int, sample: dict[str, Any] | None) -> RunSample | None:
    """The row of a sample; None for what is none."""
    step = sample.get("step", 0) if sample is not None else None
    if sample is None or not isinstance(step, int) or not 0 <= step <= MAX_STEP:
        return None
    known = {"step", "time", "prompt", "completion"}
    return RunSample(
        run_id=claim.run_id,
        step=step,
        offset=offset,
        prompt=_text(sample.get("prompt")),
        completion=_text(sample.get("completion")),
        is_rollout="advantage" in sample,
        data=_storable({key: value for key, value in sample.items() if key not in known}),
    )


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cleaned(text)[:TEXT_LIMIT]


def _storable(value: Any) -> Any:
    """What JSON in Postgres can hold of a value: a number that no column could becomes null."""
    if isinstance(value, dict):
        return {cleaned(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, int | float):
        return value if abs(value) < LARGEST else None  # NaN is not below anything
    return cleaned(value) if isinstance(value, str) else value
