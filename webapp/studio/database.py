"""Bringing the database to where the code wants it."""

import time

from django.core.management import call_command
from django.db import OperationalError, connection

from webapp.studio.plan import CannotStart
from webapp.studio.seed import seed

WAIT_SECONDS = 30.0
# Any number does, as long as every process that migrates takes the same.
MIGRATION_LOCK = 0x706F6C6D


def prepare_database() -> None:
    """Migrate and seed, one process at a time. Raises `CannotStart` when the database cannot be reached."""
    _await_database()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
    try:
        call_command("migrate", verbosity=0, interactive=False)
        seed()
    finally:
        connection.close()  # and with the session goes its lock


def _await_database() -> None:
    """A database that starts together with us takes a while to accept connections."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise CannotStart(f"The database does not answer: {str(error).strip()}\nCheck DATABASE_URL.") from error
            time.sleep(0.5)
