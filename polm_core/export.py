"""A checkpoint in a form that other programs take: `python -m polm_core.export job.json`.

The job is an `ExportJob`. Beside it `progress.json` tells how far the export is, the files appear in `files`, and
`answer.json` holds an `ExportAnswer`.
"""

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, Field

from polm_core.context import ModelSpec
from polm_core.environment import set_environment
from polm_core.errors import ModelError, PolmError, ResourceError, is_disk_full
from polm_core.run_dir import write_atomic
from polm_core.training.adapters import check_merges
from polm_core.training.faults import OUT_OF_MEMORY, as_polm_error
from polm_core.training.gguf_files import no_space, write_gguf
from polm_core.training.loading import check_writer


class ExportFormat(StrEnum):
    """Merged safetensors, or one GGUF file whose weights have so many bits."""

    MERGED = "merged"
    F16 = "gguf-f16"
    Q8_0 = "gguf-q8_0"
    Q4_1 = "gguf-q4_1"
    Q4_0 = "gguf-q4_0"

    @property
    def is_gguf(self) -> bool:
        return self is not ExportFormat.MERGED

    @property
    def label(self) -> str:
        """What people are shown."""
        return f"GGUF {self.kind}" if self.is_gguf else "Merged safetensors"

    @property
    def says(self) -> str:
        """What it is for, in a line."""
        return _SAYS[self]

    @property
    def kind(self) -> str:
        """The type of the weights as GGUF names it."""
        return self.value.removeprefix("gguf-")


_SAYS = {
    ExportFormat.MERGED: "a whole model for transformers, vLLM and their kin, in fp32: nothing is rounded",
    ExportFormat.F16: "for llama.cpp and its kin: one file, all but exact",
    ExportFormat.Q8_0: "half the size of f16, hardly worse",
    ExportFormat.Q4_1: "a third of f16",
    ExportFormat.Q4_0: "the smallest, and the worst",
}
# Bytes a weight takes in the file, and while it is made: those of 4 bits are made from 16.
_BYTES = {
    ExportFormat.MERGED: (4.0, 0.0),
    ExportFormat.F16: (2.0, 0.0),
    ExportFormat.Q8_0: (1.1, 0.0),
    ExportFormat.Q4_1: (0.75, 2.0),
    ExportFormat.Q4_0: (0.7, 2.0),
}
# An adapter is merged, in fp32, before it is converted.
_MERGED_BYTES = 4.0


def bytes_needed(format_: ExportFormat, parameters: int, *, has_adapter: bool) -> int:
    """The disk space that an export of a model of so many parameters takes while it is made, a little rounded up."""
    kept, meanwhile = _BYTES[format_]
    merged = _MERGED_BYTES if has_adapter and format_.is_gguf else 0.0
    return int(parameters * (kept + meanwhile + merged) * 1.05)


class ExportJob(BaseModel):
    """A model, with an adapter or whole, and what it becomes; `name` is what a GGUF file is called."""

    model: ModelSpec
    format: ExportFormat
    name: str


class WorkProgress(BaseModel):
    """What is being done, and which share of the whole has been, from 0 to 1."""

    phase: str = ""
    fraction: float = Field(0.0, ge=0, le=1)


class ExportAnswer(BaseModel):
    """`PolmError.as_dict()`, when something went wrong."""

    error: dict[str, Any] | None = None


Tell = Callable[[str, float], None]


def check_exports(model: ModelSpec) -> None:
    """Raise `ModelError` for what cannot be exported: no text is written by it, or its adapter cannot be merged.

    No weight is loaded.
    """
    check_writer(model)
    if model.adapter is None:
        return
    try:
        check_merges(model.adapter)
    except PolmError as error:
        raise ModelError(
            "The adapter is virtual tokens, which cannot be merged into the model's weights.",
            code="export.soft_prompt",
            advice="Download the adapter itself: peft puts its tokens before the prompt.",
        ) from error


def export(job: ExportJob, folder: Path, tell: Tell) -> None:
    """Write the export into `folder`. Raises `ModelError` as `check_exports` does, or for what GGUF does not know."""
    check_exports(job.model)
    folder.mkdir(parents=True, exist_ok=True)
    if not job.format.is_gguf:
        write_merged(job.model, folder, tell, share=1.0)
        return
    with TemporaryDirectory(dir=folder.parent) as scratch:
        whole = job.model.path
        if job.model.adapter is not None:
            whole = Path(scratch)
            write_merged(job.model, whole, tell, share=0.5)
        assert whole is not None  # noqa: S101 (a job's model is in a folder)
        begun = 0.5 if job.model.adapter is not None else 0.0
        tell("converting to GGUF", begun)
        target = folder / f"{job.name}-{job.format.kind}.gguf"
        write_gguf(whole, target, job.format.kind, lambda done: tell("converting to GGUF", begun + (1 - begun) * done))


def write_merged(model: ModelSpec, folder: Path, tell: Tell, *, share: float) -> None:
    """The model with its adapter merged into its weights, in fp32 so that nothing of it is rounded away."""
    from polm_core.training.loading import load_tokenizer, load_writer

    tell("loading the model", 0.0)
    tokenizer = load_tokenizer(model)
    merged = load_writer(model)
    tell("writing the merged weights", share / 2)
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tell("writing the merged weights", share)


def answer_of(work: Callable[[], None]) -> dict[str, Any] | None:
    """What went wrong with some work of a child process that is to be told; None when nothing did."""
    try:
        work()
    except Exception as error:
        expected = _expected(error)
        if expected is None:
            raise
        return expected.as_dict()
    return None


def _expected(error: Exception) -> PolmError | None:
    """As for a run, with advice that suits an export."""
    if is_disk_full(error):
        return no_space()
    expected = as_polm_error(error)
    if expected is not None and expected.code == OUT_OF_MEMORY:
        return ResourceError(
            "The memory is full: the model does not fit.",
            code=OUT_OF_MEMORY,
            advice="Export on a worker that has more: a model is loaded in fp32, with 4 bytes a weight.",
        )
    return expected


def progress_file(folder: Path) -> Tell:
    """Writes how far the work is to `progress.json`."""

    def tell(phase: str, fraction: float) -> None:
        write_atomic(folder / "progress.json", WorkProgress(phase=phase, fraction=fraction).model_dump_json())

    return tell


def main(job_path: Path) -> None:
    """Carry out the job in the file and write the answer beside it."""
    set_environment()
    folder = job_path.parent
    job = ExportJob.model_validate_json(job_path.read_bytes())
    error = answer_of(lambda: export(job, folder / "files", progress_file(folder)))
    write_atomic(folder / "answer.json", ExportAnswer(error=error).model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
