"""Fixtures of every test. Postgres and the broker start with the first test that asks for them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.support.lookalikes import alpaca
from tests.support.services import Services, session_services
from tests.support.studio import RunningStudio

pytest_plugins = ["tests.support.browser", "tests.support.s3", "tests.support.served"]


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The session's Postgres and Valkey."""
    with session_services(Path(settings.VAR_DIR)) as started:
        yield started


@pytest.fixture(scope="session")
def django_db_modify_db_settings(services: Services, django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Have Postgres up before pytest-django creates the test database, one for each process of the session."""


# --- one real studio for all live and browser tests ---
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
    from tests.support.tiny import build_model

    folder = studio.var / "models" / "tiny"
    build_model(folder)
    return studio.add_model(folder, "tiny")


@pytest.fixture(scope="session")
def conversations(studio: RunningStudio) -> str:
    """The id of a small dataset of instructions."""
    return studio.upload("instructions", "instructions.json", alpaca(120))["id"]  # type: ignore[no-any-return]
