"""What the embedded Postgres and Valkey have in common: one supervisor, orphans adopted, an orderly stop."""

import os
import signal
import stat
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from webapp.studio.identity import POLL_SECONDS, Identity, stop_all, wait_until
from webapp.studio.locks import Lock, LockHeld
from webapp.studio.logs import tail, trim

# Recovery after a kill replays what was written since the last checkpoint.
START_SECONDS = 120.0
RETRY_SECONDS = 2.0
STOP_SECONDS = 20.0


class ServiceError(Exception):
    """An embedded service cannot be started; the message says what would help."""


class AlreadySupervised(ServiceError):
    """Another process keeps this service; `pid` is that process, 0 when it is not known."""

    def __init__(self, title: str, folder: Path, pid: int) -> None:
        super().__init__(f"{title} in {folder} is kept by another process (pid {pid or 'unknown'}).")
        self.pid = pid


class EmbeddedServer(ABC):
    """A server process whose state is in one folder and which listens on a unix socket only.

    `start` owns it: it refuses when another process does, and takes over a healthy server whose owner was killed.
    `ensure` also contents itself with a server that another process owns, and then `stop` leaves it alone.
    """

    title: str
    stop_signal: signal.Signals
    pid_file_name: str

    def __init__(self, folder: Path, *, url: str, socket_dir: Path, log: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.url = url
        self.socket_dir = socket_dir
        self.log = log
        self._lock: Lock | None = None
        self._server: Identity | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def answers(self) -> bool:
        """Whether a server on our socket serves requests now."""

    @abstractmethod
    def _prepare(self) -> None:
        """Create what the server needs to start; called under the lock."""

    @abstractmethod
    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the server."""

    @abstractmethod
    def _provision(self) -> None:
        """Create what clients need, once the server answers."""

    @property
    def owned(self) -> bool:
        """Whether this object supervises the server."""
        return self._lock is not None

    @property
    def pid(self) -> int | None:
        """The server's process id while this object supervises it."""
        return self._server.pid if self._server else None

    def alive(self) -> bool:
        """Whether the supervised server runs."""
        return self._server is not None and self._server.alive()

    def start(self) -> None:
        """Bring the server up and supervise it. Also starts again one that died.

        Raises `AlreadySupervised` when another process keeps it, `ServiceError` when it does not come up.
        """
        if self.alive():
            return
        if self._lock is None:
            self._lock = self._take_lock()
        try:
            self._reap()
            self._prepare()
            if not self._adopt():
                self._start_fresh()
            self._provision()
        except BaseException:
            self.stop()
            raise

    def ensure(self, timeout: float = START_SECONDS) -> None:
        """Have a server that answers: our own, or one that another process keeps."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.start()
                return
            except AlreadySupervised:
                if self.answers():
                    return
                if time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the server if it is ours, and give up the lock."""
        if self._lock is None:
            return
        self._stop_server()
        remove_sockets(self.socket_dir, self.folder.parent)
        self._lock.release()
        self._lock = None

    def __enter__(self) -> Self:
        self.ensure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _take_lock(self) -> Lock:
        try:
            lock = Lock(self.folder / "supervisor.lock")
        except LockHeld as held:
            raise AlreadySupervised(self.title, self.folder, int(held.note) if held.note.isdigit() else 0) from None
        lock.note(str(os.getpid()))
        return lock

    def _running(self) -> Identity | None:
        """The live server of this folder, whoever started it.

        The pid file alone proves nothing, for pids are used again: the process must also work in our data directory.
        """
        pid = self._recorded_pid()
        if pid is None:
            return None
        try:
            return Identity.of(pid) if Path(psutil.Process(pid).cwd()) == self.data else None
        except psutil.Error:
            return None

    def _recorded_pid(self) -> int | None:
        try:
            return int((self.data / self.pid_file_name).read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return None

    def _adopt(self) -> bool:
        """Take over the server that a killed supervisor left behind; one that does not answer is stopped."""
        self._server = self._running()
        if self._server is None:
            return False
        if self._becomes_ready(self._server, RETRY_SECONDS):
            return True
        self._stop_server()
        return False

    def _start_fresh(self) -> None:
        # A predecessor killed a moment ago may hold its socket or shared memory a little longer.
        retry_until = time.monotonic() + RETRY_SECONDS
        while True:
            self._process = self._launch()
            self._server = Identity.of(self._process.pid)
            if self._server is not None and self._becomes_ready(self._server, START_SECONDS):
                return
            self._stop_server()
            if time.monotonic() > retry_until:
                raise ServiceError(f"{self.title} does not start. The end of {self.log}:\n{tail(self.log)}")
            time.sleep(0.1)

    def _becomes_ready(self, server: Identity, seconds: float) -> bool:
        def serves() -> bool:
            return self._running() == server and self.answers()

        return wait_until(lambda: not server.alive() or serves(), time.monotonic() + seconds) and server.alive()

    def _stop_server(self) -> None:
        if self._server is not None:
            stop_all([self._server], STOP_SECONDS, stop_signal=self.stop_signal)
            self._server = None
        self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _spawn(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start the server in a session of its own, so that a Ctrl-C in the terminal does not reach it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        trim(self.log)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )


def make_socket_dir(path: Path, var: Path) -> None:
    """Make the directory of a service's socket, which nobody else can enter, in `var` or in its short stand-in.

    Raises `ServiceError` when somebody else made the stand-in.
    """
    if not path.is_relative_to(var):
        private_directory(path.parent, mode=0o711)
    path.mkdir(parents=True, mode=0o700, exist_ok=True)


def remove_sockets(path: Path, var: Path) -> None:
    """Remove what a killed service left in its socket directory, and the stand-in if that is where it was."""
    if not path.exists():
        return
    for leftover in path.iterdir():
        leftover.unlink()
    if not path.is_relative_to(var):
        path.rmdir()
        with suppress(OSError):  # another service's socket may still be there
            path.parent.rmdir()


def private_directory(path: Path, mode: int = 0o700) -> None:
    """Make `path` a directory that only we can write to.

    Raises `ServiceError` when it is there already and is a link, or belongs to or is writable by somebody else.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=mode)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ServiceError(f"{path} is not a private directory of this user. Remove it, or set POLM_VAR elsewhere.")
    path.chmod(mode)
