"""The database and the broker of a test session, in a directory of its own.

Sessions run side by side without seeing each other, and so do the processes of one session. `DATABASE_URL` and
`BROKER_URL` in the environment are used instead, where they are given.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from webapp.studio.embedded import default_broker_url, default_database_url
from webapp.studio.postgres import Postgres
from webapp.studio.server import AlreadySupervised
from webapp.studio.valkey import Valkey

PREFIX = "polm-tests-"
QUICK_ROOT_BYTES = 4 * 1024**3
# A test database need not survive the machine's power loss.
QUICK = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Services:
    """Where the session's database and broker are."""

    database_url: str
    broker_url: str


def quick_root() -> Path:
    """Where to put state that is soon thrown away: in memory, if there is enough of it."""
    memory = Path("/dev/shm")  # noqa: S108 - what is made there gets a random name
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > QUICK_ROOT_BYTES:
        return memory
    return Path(tempfile.gettempdir())


def session_state_dir() -> Path:
    """A directory for this session's whole state, removed when the session ends."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the process that started this one has done it
        _remove_abandoned()
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=quick_root()))
    path.chmod(0o711)  # the account that runs Postgres for root passes through
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # and not in a fork of the session
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return path


@contextmanager
def session_services(var: Path) -> Iterator[Services]:
    """Start the services that the environment does not name, and stop them at the end."""
    with ExitStack() as stack:
        if not os.environ.get("DATABASE_URL"):
            stack.enter_context(Postgres(var, QUICK))
        if not os.environ.get("BROKER_URL"):
            stack.enter_context(Valkey(var))
        yield Services(
            os.environ.get("DATABASE_URL") or default_database_url(var),
            os.environ.get("BROKER_URL") or default_broker_url(var),
        )


def _remove_abandoned() -> None:
    """Stop and remove what sessions left that were killed."""
    for path in quick_root().glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).split("-")[0]
        if path.stat().st_uid != os.geteuid() or not pid.isdigit() or psutil.pid_exists(int(pid)):
            continue
        for server in (Postgres(path), Valkey(path)):
            with suppress(AlreadySupervised):
                if server.folder.exists():
                    server.start()
                    server.stop()
        shutil.rmtree(path, ignore_errors=True)
