"""Files and their preparation."""

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from polm_core.data.prepare import prepare
from polm_core.data.report import PrepareJob, PrepareReport

Prepare = Callable[..., PrepareReport]


def jsonl(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder that preparation leaves behind."""
    return tmp_path / "out"


@pytest.fixture
def prepare_bytes(tmp_path: Path, out: Path) -> Prepare:
    """Prepare content as if it were uploaded under a name."""

    def run(content: bytes, name: str = "data.jsonl", **job: Any) -> PrepareReport:
        source = tmp_path / "upload"
        source.write_bytes(content)
        return prepare(PrepareJob(source=source, filename=name, out=out, **job))

    return run
