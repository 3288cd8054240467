"""What the API says when its database does not answer."""

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.support.api import ApiClient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def no_database() -> Iterator[None]:
    """Connections are refused, as by a server that is down."""
    connection.close()
    before = connection.settings_dict["HOST"]
    connection.settings_dict["HOST"] = "/nonexistent"
    yield
    connection.close()
    connection.settings_dict["HOST"] = before


def test_health_tells_of_a_database_that_answers() -> None:
    answer = ApiClient(None).get("/health")
    assert answer.status_code == 200
    assert answer.json()["database"] == "ok"


def test_health_tells_of_a_database_that_does_not(no_database: None) -> None:
    answer = ApiClient(None).get("/health")
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["database"], answer.json()["workers"]) == ("down", "down", 0)


def test_calls_are_answered_without_a_database(no_database: None) -> None:
    answer = ApiClient("anything").get("/runs")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
