"""State directories and processes for tests of the launcher."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.services import quick_root

Python = Callable[..., subprocess.Popen[str]]
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def var() -> Iterator[Path]:
    """A state directory that the account running Postgres can reach (pytest's own is closed to it)."""
    path = Path(tempfile.mkdtemp(prefix="polm-studio-", dir=quick_root()))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def python() -> Iterator[Python]:
    """Start Python code in a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
