"""A model that really answers, in a folder of the workers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from webapp.accounts.models import Team
from webapp.registry.models import BaseModel, ModelSource
from workers import playground
from workers.speaking import SpeakingChild


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in another process, so that this one needs no torch."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    script = f"from pathlib import Path; from tests.support.tiny import build_model; build_model(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", script], check=True)
    return folder


@pytest.fixture
def tiny(team: Team, model_folder: Path, settings: Any) -> BaseModel:
    settings.MODEL_ROOTS = [model_folder.parent]
    return BaseModel.objects.create(team=team, name="tiny", source=ModelSource.PATH, path=str(model_folder))


@pytest.fixture(scope="module")
def child() -> Iterator[SpeakingChild]:
    """The process that answers, ended after the module."""
    yield playground._child
    playground._child.end()
