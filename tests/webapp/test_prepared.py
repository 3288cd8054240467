"""Statements that are planned once for a connection."""

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from webapp.prepared import prepared

pytestmark = pytest.mark.django_db(transaction=True)

PLUS = "SELECT %s::int + %s::int"


def _times_carried_out() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE '%::int +%'"
        )
        return [times for (times,) in cursor.fetchall()]


def test_a_statement_is_prepared_once_and_counted_in_the_query_log() -> None:
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert [prepared(PLUS, [1, number]).fetchone() for number in (1, 2, 3)] == [(2,), (3,), (4,)]

    assert _times_carried_out() == [3]
    assert len(queries) == 3


def test_a_lost_connection_is_told_as_by_any_other_statement() -> None:
    with pytest.raises(OperationalError), transaction.atomic():
        prepared("SELECT pg_terminate_backend(pg_backend_pid())", [])
    connection.close()
    with transaction.atomic():
        assert prepared(PLUS, [1, 1]).fetchone() == (2,)
