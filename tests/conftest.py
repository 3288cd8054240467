"""Fixtures of every test. Postgres and the broker start with the first test that asks for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.support.services import Services, session_services

pytest_plugins = ["tests.support.browser"]


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The session's Postgres and Valkey."""
    with session_services(Path(settings.VAR_DIR)) as started:
        yield started


@pytest.fixture(scope="session")
def django_db_modify_db_settings(services: Services) -> None:
    """Have Postgres up before pytest-django creates the test database."""
