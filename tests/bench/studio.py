"""A real studio for a part: started with a state directory of its own, and removed in the end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.database import BENCH
from tests.support.studio import RunningStudio


@contextmanager
def running_studio(**settings: str) -> Iterator[RunningStudio]:
    """A studio with these settings whose starter model is ready: making it takes both cores for a while."""
    BENCH.mkdir(parents=True, exist_ok=True)
    var = Path(tempfile.mkdtemp(prefix="state-", dir=BENCH))
    var.chmod(0o711)
    studio = RunningStudio(var)
    studio.env |= settings
    try:
        studio.start()
        studio.wait_for_starter()
        yield studio
    finally:
        studio.stop()
        shutil.rmtree(var, ignore_errors=True)


def add_tiny(studio: RunningStudio) -> str:
    """A model of a few thousand weights; its id."""
    from tests.support.tiny import build_model

    build_model(studio.var / "models" / "tiny")
    return studio.add_model(studio.var / "models" / "tiny", "tiny")


def add_conversations(studio: RunningStudio) -> str:
    """A small dataset of instructions; its id."""
    from tests.support.lookalikes import alpaca

    return str(studio.upload("instructions", "instructions.json", alpaca(120))["id"])
