"""What preparation reports: the contract between the preparing process and whoever shows a dataset."""

from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from polm_core.data.choose import Choice, MixedPart, Seed
from polm_core.data.convert import CONVERSIONS
from polm_core.data.detect import Candidate
from polm_core.data.identify import FileFacts
from polm_core.data.limits import Limits
from polm_core.data.mapping import Mapping
from polm_core.data.observe import Column
from polm_core.formats import Format
from polm_core.gym.tasks import TaskChoice

REPORT_NAME = "report.json"
PROGRESS_NAME = "progress.json"


class Status(StrEnum):
    READY = "ready"
    INVALID = "invalid"


class MixedSource(MixedPart):
    """Canonical rows at `path`, and how many of them are taken."""

    path: Path


class Mixture(BaseModel):
    """Rows of several sources, all of one format."""

    model_config = ConfigDict(extra="forbid")
    sources: list[MixedSource] = Field(min_length=1)
    seed: Seed = 0


class PrepareJob(BaseModel):
    """What to prepare. `filename` is the name the file was uploaded under, `source` where it lies.

    `out` is made, or replaced, once all is done. `mapping` says how to read the file; `format` alone asks for the
    likeliest mapping to that format; with neither, the file is taken for what it looks like. With `convert_from` the
    source holds canonical rows of that format, which are converted to `format` (or kept, where it is the same);
    `choice` says which of its `rows` rows, where not all. With `task` there is no source: the rows are made up. With
    `mixture` there are several, which hold canonical rows of `format`.
    """

    model_config = ConfigDict(extra="forbid")
    source: Path | None = None
    filename: str = ""
    out: Path
    format: Format | None = None
    mapping: Mapping | None = None
    convert_from: Format | None = None
    choice: Choice | None = None
    rows: int = 0
    task: TaskChoice | None = None
    mixture: Mixture | None = None
    limits: Limits = Field(default_factory=Limits)

    @model_validator(mode="after")
    def _conversion_is_known(self) -> Self:
        if sum(given is not None for given in (self.source, self.task, self.mixture)) != 1:
            raise ValueError("give either a source to read, or a task to make rows, or a mixture of sources")
        if self.mixture is not None and self.format is None:
            raise ValueError("a mixture needs the format of its rows")
        if self.choice is not None and (self.convert_from is None or self.convert_from != self.format):
            raise ValueError("choice needs canonical rows that are kept as they are")
        if self.convert_from is not None and (self.format is None or self.mapping is not None):
            raise ValueError("convert_from needs a format to convert to, and no mapping")
        if self.convert_from not in (None, self.format) and (self.convert_from, self.format) not in CONVERSIONS:
            raise ValueError(f"rows of '{self.convert_from}' cannot become '{self.format}'")
        return self


class Problem(BaseModel):
    """One fault. `row` counts from 1 in the source; `rule` is stable; `remedy` says what would be right."""

    row: int | None = None
    column: str | None = None
    rule: str
    message: str
    remedy: str = ""


class Stats(BaseModel):
    """Figures over the rows that are used.

    `chars` counts characters of all texts in a row. `turns` counts messages in a row, 0 where there are none.
    `duplicates` counts rows that repeat an earlier one exactly. `labels` counts true and false. `empty` counts rows
    dropped because a needed text was empty, `equal_pairs` rows whose chosen and rejected answers are the same. `images`
    counts different images, and `image_sizes` those of the usual sizes, in pixels.
    """

    chars_p50: int = 0
    chars_p95: int = 0
    chars_max: int = 0
    turns_mean: float = 0.0
    turns_max: int = 0
    duplicates: int = 0
    labels: dict[str, int] = Field(default_factory=dict)
    empty: int = 0
    equal_pairs: int = 0
    images: int = 0
    image_bytes: int = 0
    image_sizes: dict[str, int] = Field(default_factory=dict)


class PrepareReport(BaseModel):
    """The result of preparing a file.

    `error` is `PolmError.as_dict()` when `status` is invalid. `problems` lists the first faults one by one,
    `problem_counts` counts all of them by rule. `sha256` and `bytes` are those of `rows.jsonl`.
    """

    status: Status
    error: dict[str, Any] | None = None
    file: FileFacts | None = None
    format: Format | None = None
    confidence: float = 0.0
    why: str = ""
    alternatives: list[Candidate] = Field(default_factory=list)
    columns: list[Column] = Field(default_factory=list)
    mapping: Mapping | None = None
    rows_total: int = 0
    rows_used: int = 0
    problems: list[Problem] = Field(default_factory=list)
    problem_counts: dict[str, int] = Field(default_factory=dict)
    stats: Stats = Field(default_factory=Stats)
    sha256: str = ""
    bytes: int = 0


class Phase(StrEnum):
    MAKING = "making"
    DETECTING = "detecting"
    PREPARING = "preparing"
    FINISHING = "finishing"


class PrepareProgress(BaseModel):
    """How far preparation is; bytes are those of the uploaded file."""

    phase: Phase = Phase.DETECTING
    bytes_done: int = 0
    bytes_total: int = 0
    rows: int = 0


def draft_of(out: Path) -> Path:
    """Where the files of `out` are written until they are complete."""
    return out.with_name(f".{out.name}.draft")


def read_progress(out: Path) -> PrepareProgress | None:
    """How far the preparation into `out` is, or was when it ended; None before it began."""
    for folder in (draft_of(out), out):
        try:
            return PrepareProgress.model_validate_json((folder / PROGRESS_NAME).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            continue
    return None


def read_report(out: Path) -> PrepareReport | None:
    """The report in `out`; None when preparation has not ended, or ended without a word."""
    try:
        return PrepareReport.model_validate_json((out / REPORT_NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
