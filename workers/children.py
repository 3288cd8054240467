"""Starting and finding training processes: the worker's side of the fork server."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.conf import settings

from polm_core.run_dir import STACKS
from webapp.studio.embedded import forkserver_socket
from webapp.studio.identity import Identity, descendants_of
from webapp.studio.server import make_socket_dir
from workers.jobs import child_environment

logger = logging.getLogger(__name__)

WARM_UP_SECONDS = 120.0
_starting = threading.Lock()
# The server this process started last, kept to be reaped: it may outlive us, but while we live we are its parent.
_launched: subprocess.Popen[bytes] | None = None


class ForkServerDown(Exception):
    """The fork server does not answer and could not be started."""


class Child:
    """A process that works in a folder; found again through `child.json` and `exit.json` after any restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def keeper(self) -> Identity | None:
        return Identity.read(self.folder / "child.json")

    def alive(self) -> bool:
        keeper = self.keeper
        return keeper is not None and keeper.alive()

    def exit_code(self) -> int | None:
        """The process's exit code (negative for a signal); None while it runs or when nobody saw it end."""
        code = self._exit().get("code")
        return code if isinstance(code, int) else None

    def abandoned(self) -> bool:
        """Whether its keeper ended it because no supervisor attended to it."""
        return bool(self._exit().get("abandoned"))

    def attend(self) -> None:
        """Tell the keeper that a supervisor holds the lease."""
        (self.folder / ".attended").touch()

    def dump_stacks(self) -> str:
        """Have every process of the run write its stacks into the log; returns why that cannot be, or nothing."""
        asked = 0
        for process in self._processes():
            status = _proc_status(process.pid)
            if status.get("State", "").startswith("T"):
                return "It is stopped by a signal (SIGSTOP), and cannot tell where it is until SIGCONT lets it go on."
            if int(status.get("SigCgt", "0"), 16) >> (STACKS - 1) & 1:
                process.signal(STACKS)
                asked += 1
        return "" if asked else "None of its processes can tell where it is."

    def signal(self, number: signal.Signals) -> None:
        if keeper := self.keeper:
            keeper.signal(number)

    def kill(self) -> None:
        """End the process and everything it started, at once."""
        for process in self._processes():
            process.signal(signal.SIGKILL)
        if keeper := self.keeper:
            keeper.kill_group()

    def _processes(self) -> list[Identity]:
        """What the keeper started, the processes of a run of several included."""
        keeper = self.keeper
        return descendants_of(keeper.pid) if keeper is not None and keeper.alive() else []

    def _exit(self) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / "exit.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def forget(self) -> None:
        """Remove what an earlier process left, so that it is not taken for the next one's."""
        for name in ("child.json", "exit.json", "result.json", "control"):
            (self.folder / name).unlink(missing_ok=True)


def start(
    entry: str,
    folder: Path,
    *arguments: Path,
    env: dict[str, str] | None = None,
    abandoned_after: float | None = None,
) -> Child:
    """Start a named entry in `folder`, warm. Raises ForkServerDown; a folder with a live child is left to it.

    With `abandoned_after` the child is ended once nobody has called `attend` for that many seconds.
    """
    request = {
        "entry": entry,
        "folder": str(folder),
        "arguments": [str(a) for a in arguments],
        "env": env or {},
        "abandoned_after": abandoned_after,
    }
    ensure_fork_server()
    answer = _ask(request)
    if answer.get("error") not in (None, "busy"):
        raise ForkServerDown(str(answer["error"]))
    return Child(folder)


def gpu_environment(devices: Iterable[str]) -> dict[str, str]:
    """What a child sees of the machine's GPUs: those with these ids, or none."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _proc_status(pid: int) -> dict[str, str]:
    """What Linux tells of a process's state and signals; empty elsewhere."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def ensure_fork_server() -> None:
    """Start the fork server unless one answers; returns when it does."""
    global _launched
    with _starting:
        if _answers():
            return
        if _launched is not None:
            _launched.poll()
        _launched = process = _launch()
        deadline = time.monotonic() + WARM_UP_SECONDS
        while not _answers():
            if process.poll() not in (None, 0) or time.monotonic() > deadline:
                raise ForkServerDown(f"see {_log_path()}")
            time.sleep(0.05)


def socket_path() -> Path:
    """Where the fork server of this studio listens."""
    path = forkserver_socket(settings.VAR_DIR)
    make_socket_dir(path.parent, settings.VAR_DIR)
    return path


def _log_path() -> Path:
    path: Path = settings.VAR_DIR / "logs" / "forkserver.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _launch() -> subprocess.Popen[bytes]:
    env = {
        **child_environment(),
        # Threads that wait for each other by spinning starve everything else on the machine, themselves included.
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
        "TOKENIZERS_PARALLELISM": "false",
        # See workers.forkserver: each child is told which GPUs are its own.
        "CUDA_VISIBLE_DEVICES": "",
    }
    with _log_path().open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.forkserver", str(socket_path()), str(settings.VAR_DIR / "forkserver.pid")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd=settings.BASE_DIR,
            start_new_session=True,
        )


def _answers() -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(socket_path()))
    except OSError:
        return False
    return True


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(30)
            connection.connect(str(socket_path()))
            connection.sendall((json.dumps(request) + "\n").encode())
            with connection.makefile() as answer:
                return json.loads(answer.readline())  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise ForkServerDown(str(error)) from error
