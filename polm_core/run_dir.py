"""The run directory: the only channel between a training process and whoever supervises it.

The training process writes, the supervisor reads; `control` is the one file that goes the other way.
Files that grow are append-only and line-buffered, so a reader may follow them by offset and a crash costs at
most one torn line. Files that are replaced are written atomically.
"""

import hashlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from polm_core.errors import DataError

M = TypeVar("M", bound=BaseModel)

# On this signal a training process writes the stack of each of its threads to its output.
STACKS = signal.SIGUSR1
# What a checkpoint of p-tuning needs to be resumed, beside the virtual tokens themselves.
PROMPT_ENCODER = "prompt_encoder.safetensors"
# What one of ReFT needs: the weights that its warm-up ended with, to which the model is held from there on.
WARMED_UP = "warmed_up.safetensors"
# What one of PPO needs: the model of what answers will earn, in a folder of its own so that nothing takes it for a part
# of the policy.
VALUE_MODEL = "value_model/weights.safetensors"
# Where several steps learn from the same answers: for each process those that are not used up yet.
UNUSED_ANSWERS = "answers_{}.pt"


class Wish(StrEnum):
    """What the supervisor asks of a running training loop; read at every step."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"


class Outcome(StrEnum):
    """How a training process ended, by its own account."""

    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    PAUSED = "paused"
    FAILED = "failed"
    CRASHED = "crashed"


class Progress(BaseModel):
    """Where a run is. `step` counts optimiser steps; `tokens` and `samples` count what was trained on so far.

    `alive_at` is the time of the last sign of life, in seconds since the epoch: it also comes within a step, at each
    forward pass. `seconds_per_step` is the pace so far, evaluations included; 0 before the first step's end.
    """

    model_config = ConfigDict(extra="ignore")
    step: int = 0
    total_steps: int = 0
    phase: str = ""
    tokens: int = 0
    samples: int = 0
    epoch: float = 0.0
    alive_at: float = 0.0
    seconds_per_step: float = 0.0


class Result(BaseModel):
    """The last word of a training process. `error` is `PolmError.as_dict()` when it failed or crashed."""

    model_config = ConfigDict(extra="ignore")
    outcome: Outcome
    metrics: dict[str, float] = Field(default_factory=dict)
    error: dict[str, Any] | None = None


class ManifestFile(BaseModel):
    """One file of a checkpoint; `path` is relative to the checkpoint, `size` in bytes, `sha256` in hex."""

    path: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What a complete checkpoint holds. It is written last: a checkpoint without it is not there yet.

    `kind` is `model` (full weights) or `adapter` (PEFT weights on `base_model`); `task` is `language` for what writes
    text, `reward` for what scores it and `steps` for what judges its steps. `trainer_state` names the files that only
    resuming needs; they are left out of downloads.
    """

    step: int
    kind: str
    method: str
    base_model: str
    task: str = "language"
    metrics: dict[str, float] = Field(default_factory=dict)
    files: list[ManifestFile] = Field(default_factory=list)
    trainer_state: list[str] = Field(default_factory=list)


def write_atomic(path: Path, text: str) -> None:
    """Replace `path` with `text` so that a reader sees the old or the new content, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def sha256_of(path: Path) -> str:
    """The hex digest of a file, read in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_checkpoint(folder: Path) -> Manifest:
    """The manifest of a checkpoint whose files are all as they were written.

    Raises `DataError` when the checkpoint is not complete or a file was changed, cut short or lost.
    """
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is not a complete checkpoint.", code="checkpoint.incomplete") from error
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size or sha256_of(path) != file.sha256:
            raise DataError(
                f"{file.path} of the checkpoint {folder.name} is damaged or lost.",
                code="checkpoint.damaged",
                advice="Go on from an earlier checkpoint.",
            )
    return manifest


class RunDir:
    """Paths and small reads and writes of one run's directory.

    `made` holds the rows that a run makes itself before it trains on them; each checkpoint has a copy. `figures` is
    what an evaluation measured, written when it is complete.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.config = self.root / "config.yaml"
        self.metrics = self.root / "metrics.jsonl"
        self.samples = self.root / "samples.jsonl"
        self.made = self.root / "made.jsonl"
        self.log = self.root / "log.txt"
        self.progress = self.root / "progress.json"
        self.control = self.root / "control"
        self.checkpoints = self.root / "checkpoints"
        self.result = self.root / "result.json"
        self.figures = self.root / "figures.json"

    def checkpoint(self, step: int) -> Path:
        """The directory of the checkpoint taken after optimiser step `step`."""
        return self.checkpoints / f"step-{step}"

    @staticmethod
    def step_of(checkpoint: Path) -> int:
        """The step after which the checkpoint in this directory was taken."""
        return int(checkpoint.name.removeprefix("step-"))

    def create(self) -> None:
        """Make the directory and its `checkpoints/`; keeps what is there."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)

    def ask(self, wish: Wish) -> None:
        """Tell the training loop what to do at its next step."""
        write_atomic(self.control, wish.value)

    def wish(self) -> Wish:
        """What is asked of the training loop now; `run` when nothing was said."""
        try:
            return Wish(self.control.read_text().strip())
        except (FileNotFoundError, ValueError):
            return Wish.RUN

    def write_progress(self, progress: Progress) -> None:
        write_atomic(self.progress, progress.model_dump_json())

    def read_progress(self) -> Progress | None:
        return self._read(self.progress, Progress)

    def write_result(self, result: Result) -> None:
        write_atomic(self.result, result.model_dump_json())

    def read_result(self) -> Result | None:
        return self._read(self.result, Result)

    def seal_checkpoint(self, manifest: Manifest) -> Manifest:
        """Hash every file of the checkpoint and write its manifest, which makes it complete."""
        folder = self.checkpoint(manifest.step)
        names = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
        files = [
            ManifestFile(path=p.relative_to(folder).as_posix(), size=p.stat().st_size, sha256=sha256_of(p))
            for p in names
        ]
        sealed = manifest.model_copy(update={"files": files})
        write_atomic(folder / "manifest.json", sealed.model_dump_json(indent=1))
        return sealed

    def complete_checkpoints(self) -> Iterator[tuple[Path, Manifest]]:
        """Complete checkpoints, oldest first; half-written ones are passed over."""
        found = []
        for path in self.checkpoints.glob("step-*/manifest.json"):
            manifest = self._read(path, Manifest)
            if manifest is not None:
                found.append((path.parent, manifest))
        yield from sorted(found, key=lambda item: item[1].step)

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint, from which a run resumes."""
        last = None
        for path, _ in self.complete_checkpoints():
            last = path
        return last

    @staticmethod
    def _read(path: Path, model: type[M]) -> M | None:
        try:
            return model.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None


def metric_line(step: int, time: float, values: Mapping[str, float]) -> str:
    """One line of `metrics.jsonl`. `time` is seconds since the epoch; NaN and infinities are kept as JSON's `NaN`."""
    return json.dumps({"step": step, "time": time, "values": values}) + "\n"
