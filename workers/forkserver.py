"""A warm process to fork training processes from.

Importing torch, transformers, trl and peft takes seconds; this server has done it once, so that a child reaches its
first step in about a second. It lives on its own, independent of the worker that asks it: a worker may die and come
back while children train on.

Each child gets a keeper: a process that leads a session of its own, waits for the child and records how it ended in
`exit.json`, whatever became of server and worker. `child.json` names the keeper while it lives; the lock on `.lock`
is held as long, so that a directory never has two children. A child that is asked for with `abandoned_after` needs
somebody who goes on touching `.attended`: else its keeper ends it, for by then another machine may have taken over.

The server is started without GPUs: a process forked from one that has initialised CUDA cannot use it, and libraries do
so as they are imported. A child that is given GPUs (`CUDA_VISIBLE_DEVICES` in its environment) therefore becomes a
fresh interpreter; all others start warm.

Requests and answers are one JSON line each over a Unix socket readable by its owner alone.
"""

import fcntl
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from polm_core.environment import die_with_parent
from polm_core.run_dir import write_atomic
from webapp.studio.identity import Identity

# What may be asked for, by name: never an import path from outside.
ENTRIES = {"run": "polm_core.run:execute", "preflight": "polm_core.preflight:main"}
# A child that is ended because nobody attends to it has this long to write a checkpoint.
_SAVE_SECONDS = 20.0
_LOOK_SECONDS = 0.2


def main(socket_path: str, pid_path: str) -> None:
    """Import everything, listen, then serve until told to end."""
    path = Path(socket_path)
    with (path.with_suffix(".lock")).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another one serves
        me = Identity.of(os.getpid())
        assert me is not None  # noqa: S101 (this very process runs)
        me.write(Path(pid_path))
        path.unlink(missing_ok=True)
        from polm_core.run import preload

        preload()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            os.umask(0o077)
            listener.bind(str(path))
            listener.listen(16)
            signal.signal(signal.SIGCHLD, _reap)
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        _serve(connection, listener)
            finally:
                path.unlink(missing_ok=True)


def _reap(*_: Any) -> None:
    """Keepers end on their own; leave no zombies of them."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _serve(connection: socket.socket, listener: socket.socket) -> None:
    try:
        with connection.makefile("rw") as stream:
            line = stream.readline()
            if line:  # a bare connection only asks whether anybody is here
                stream.write(json.dumps(_start(json.loads(line), listener, connection)) + "\n")
                stream.flush()
    except (OSError, ValueError, KeyError) as error:
        print(f"request refused: {error}", file=sys.stderr)  # noqa: T201 (the server's own log)


def _start(request: dict[str, Any], *inherited: socket.socket) -> dict[str, Any]:
    """Fork a keeper, which forks the child; answers once the child is recorded."""
    entry = ENTRIES[request["entry"]]
    folder = Path(request["folder"])
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        for one in inherited:
            one.close()
        _keep(entry, folder, request, write)
    os.close(write)
    with os.fdopen(read) as answer:
        return json.loads(answer.read() or '{"error": "the keeper died"}')  # type: ignore[no-any-return]


def _keep(entry: str, folder: Path, request: dict[str, Any], write: int) -> None:
    """The keeper: start the child, tell who we are, wait, record the end. Never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.write(write, b'{"error": "busy"}')
            os._exit(0)
        (folder / "exit.json").unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            os.close(write)
            _become(entry, folder, request)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: _forward(child, received))
        keeper = Identity.of(os.getpid())
        if keeper is not None:
            keeper.write(folder / "child.json")
        os.write(write, b'{"ok": true}')
        os.close(write)
        code, abandoned = _wait(child, folder / ".attended", request.get("abandoned_after"))
        write_atomic(folder / "exit.json", json.dumps({"code": code, "abandoned": abandoned}))
        code = 0
    except BaseException:  # noqa: BLE001 (a keeper must not run on into the server's loop)
        with suppress(OSError):
            traceback.print_exc()
    finally:
        os._exit(code)


def _wait(child: int, attended: Path, abandoned_after: float | None) -> tuple[int, bool]:
    """Wait for the child's end: its exit code, and whether it was ended because nobody attended to it any more."""
    if abandoned_after is None:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), False
    seen, seen_at = _touched(attended), time.monotonic()
    asked_at = 0.0
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), asked_at > 0
        now = time.monotonic()
        if asked_at:
            if now > asked_at + _SAVE_SECONDS:
                _forward(child, signal.SIGKILL)
        elif (touched := _touched(attended)) != seen:
            seen, seen_at = touched, now
        elif now > seen_at + abandoned_after:
            asked_at = now
            _forward(child, signal.SIGTERM)
        time.sleep(_LOOK_SECONDS)


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _forward(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _become(entry: str, folder: Path, request: dict[str, Any]) -> None:
    """The child: its own output file and environment, dead when its keeper is. Never returns."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent()
        output = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        os.environ.update(request.get("env", {}))
        module, name = entry.split(":")
        if os.environ.get("CUDA_VISIBLE_DEVICES"):
            os.execv(sys.executable, [sys.executable, "-u", "-m", module, *request["arguments"]])  # noqa: S606
        function: Callable[..., int] = getattr(importlib.import_module(module), name)
        code = function(*(Path(argument) for argument in request["arguments"]))
    except BaseException:  # noqa: BLE001 (the end of a forked process: nothing may run on)
        with suppress(OSError):
            traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # even when the disk with the log is full
            os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:3])
