"""The studio on a socket, in a thread of the test process: what a test writes is what the server reads."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.asgi import get_asgi_application
from django.db import connection

from webapp.accounts.models import User
from webapp.live.asgi import with_streams

STOP_SECONDS = 10.0


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[str]:
    """The address of the studio's server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        application = with_streams(get_asgi_application())
        config = uvicorn.Config(application, lifespan="on", log_level="error", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join(STOP_SECONDS)
        assert not thread.is_alive()


def wait_until_idle() -> None:
    """Wait until no request is being answered: what it holds would be in the way of whoever empties the tables."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' AND state <> 'idle'"
    )
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(busy)
            if cursor.fetchone()[0] == 0:
                return
        time.sleep(0.05)


def session_of(user: User) -> SessionStore:
    """A stored session of that user."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session
