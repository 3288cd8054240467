"""Where the embedded Postgres and Valkey live, and the URLs that reach them.

Only the standard library is imported, because the settings ask for these URLs before Django is set up.
"""

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

DATABASE = "studio"
DATABASE_USER = "app"
POSTGRES_SOCKET = ".s.PGSQL.5432"
VALKEY_SOCKET = "valkey.sock"
FORKSERVER_SOCKET = "fork.sock"

# The kernel allows 107 bytes (103 on macOS) for a socket's path, and Postgres appends ".lock" to it.
SOCKET_PATH_LIMIT = 98
# Not $TMPDIR: two shells with different ones must find the same server, and macOS's own is long.
SHORT_ROOT = Path("/tmp")  # noqa: S108 - the launcher checks who owns what it makes there


def default_database_url(var: Path) -> str:
    """The URL of the embedded Postgres whose state is under `var`."""
    return f"postgresql://{DATABASE_USER}@/{DATABASE}?host={quote(str(postgres_socket_dir(var)))}"


def default_broker_url(var: Path) -> str:
    """The URL, as Celery writes it, of the embedded Valkey whose state is under `var`."""
    return f"redis+socket://{quote(str(valkey_socket_dir(var) / VALKEY_SOCKET))}"


def postgres_socket_dir(var: Path) -> Path:
    """The directory that holds Postgres's unix socket."""
    return _socket_dir(var, "postgres", POSTGRES_SOCKET)


def valkey_socket_dir(var: Path) -> Path:
    """The directory that holds Valkey's unix socket."""
    return _socket_dir(var, "valkey", VALKEY_SOCKET)


def forkserver_socket(var: Path) -> Path:
    """The socket of the process that training processes are forked from."""
    return _socket_dir(var, "forkserver", FORKSERVER_SOCKET) / FORKSERVER_SOCKET


def short_socket_root(var: Path) -> Path:
    """A short directory that belongs to `var` alone, for when `var` is too deep for a socket's path."""
    digest = hashlib.sha256(os.fsencode(var.resolve())).hexdigest()[:12]
    return SHORT_ROOT / f"polm-{os.getuid()}-{digest}"


def _socket_dir(var: Path, service: str, socket_name: str) -> Path:
    natural = var.resolve() / service / "socket"
    if len(os.fsencode(natural / socket_name)) <= SOCKET_PATH_LIMIT:
        return natural
    return short_socket_root(var) / service
