"""Bounds on what an uploaded file may make the reader do."""

import os
import resource

from pydantic import BaseModel, ConfigDict, Field

MB = 2**20
GB = 2**30


class Limits(BaseModel):
    """What is refused with a clear error instead of filling memory, disk or hours."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    max_bytes: int = Field(default=20 * GB, ge=1)
    """Size of the content after decompression, in bytes."""

    max_ratio: float = Field(default=200.0, ge=1)
    """Decompressed to compressed size, looked at once the content is past `ratio_after`."""

    ratio_after: int = Field(default=100 * MB, ge=0)
    """Decompressed bytes that are let through before `max_ratio` counts."""

    max_row_bytes: int = Field(default=8 * MB, ge=1)
    """Size of one row, in bytes."""

    max_columns: int = Field(default=1000, ge=1)
    """Columns of a row or a table."""

    max_depth: int = Field(default=64, ge=1)
    """Lists and objects inside each other in one row."""

    max_bad_share: float = Field(default=0.10, ge=0, le=1)
    """Share of rows that may be unusable before the whole file is invalid."""

    max_problems: int = Field(default=200, ge=1)
    """Problems listed one by one; beyond that they are only counted."""

    max_members: int = Field(default=50_000, ge=1)
    """Files in a zip."""

    max_image_bytes: int = Field(default=20 * MB, ge=1)
    """Size of one image, in bytes."""

    sample_rows: int = Field(default=200, ge=1)
    """Rows from the head of the file that detection looks at."""

    output_bytes: int = Field(default=40 * GB, ge=1)
    """Size of one written file, in bytes."""

    memory_bytes: int = Field(default=4 * GB, ge=1)
    """Address space of the preparing process, in bytes."""


def human_bytes(count: float) -> str:
    """`8.0 MB`: a size for a message, in binary units."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"


def limit_process(limits: Limits) -> None:
    """Bound this process, so that a file built to exhaust memory or disk ends only it."""
    # Threads of numerical libraries reserve address space that no row needs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for kind, bound in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (bound, bound))
