"""One real studio for all live tests, with a tiny model that trains in seconds."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.studio import RunningStudio
from tests.support.tiny import build_model


@pytest.fixture(scope="session")
def studio() -> Iterator[RunningStudio]:
    var = Path(tempfile.mkdtemp(prefix="polm-live-"))
    var.chmod(0o711)
    running = RunningStudio(var)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(var, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny(studio: RunningStudio) -> str:
    """The id of a model of a few thousand weights."""
    folder = studio.var / "models" / "tiny"
    build_model(folder)
    return studio.add_model(folder, "tiny")


@pytest.fixture(scope="session")
def conversations(studio: RunningStudio) -> str:
    """The id of a small dataset of instructions."""
    from tests.support.lookalikes import alpaca

    return studio.upload("instructions", "instructions.json", alpaca(120))["id"]  # type: ignore[no-any-return]
