"""Training processes and the fork server end with the studio, and nothing else does."""

import signal
import time
from pathlib import Path

import pytest

from tests.webapp.studio.conftest import Python
from webapp.studio.embedded import forkserver_socket
from webapp.studio.identity import Identity
from webapp.studio.leftovers import live_children, stop_leftovers

TRAINING = """
import signal, sys, time
def end(*_):
    time.sleep(0.3)
    open(sys.argv[1], "w").write("checkpoint")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def record(pid: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    identity = Identity.of(pid)
    assert identity is not None
    identity.write(path)


def test_training_ends_after_its_checkpoint(var: Path, python: Python) -> None:
    process = python(TRAINING, var / "checkpoint")
    process.stdout.readline()
    record(process.pid, var / "runs" / "one" / "child.json")
    stop_leftovers(var)
    assert process.wait(5) == 0
    assert (var / "checkpoint").read_text() == "checkpoint"


def test_training_that_does_not_end_is_killed(var: Path, python: Python, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.studio.leftovers.CHECKPOINT_SECONDS", 0.2)
    process = python(STUBBORN)
    process.stdout.readline()
    record(process.pid, var / "runs" / "one" / "child.json")
    stop_leftovers(var)
    assert process.wait(5) == -signal.SIGKILL


def test_a_hurry_does_not_wait_for_checkpoints(var: Path, python: Python) -> None:
    process = python(STUBBORN)
    process.stdout.readline()
    record(process.pid, var / "runs" / "one" / "child.json")
    started = time.monotonic()
    stop_leftovers(var, hurry=lambda: True)
    assert process.wait(5) == -signal.SIGKILL
    assert time.monotonic() - started < 5


def test_the_fork_server_ends_and_its_socket_goes(var: Path, python: Python) -> None:
    socket = forkserver_socket(var)
    socket.parent.mkdir(parents=True)
    socket.touch()
    process = python("input()")
    record(process.pid, var / "forkserver.pid")
    stop_leftovers(var)
    assert process.wait(5) == -signal.SIGTERM
    assert not socket.exists()
    assert not (var / "forkserver.pid").exists()


def test_finished_and_spoilt_records_are_passed_over(var: Path, python: Python) -> None:
    stranger = python("input()")
    for name, text in (
        ("spoilt", "{"),
        ("recycled", f'{{"pid": {stranger.pid}, "start": 1, "boot_id": "", "pgid": {stranger.pid}}}'),
    ):
        (var / "runs" / name).mkdir(parents=True)
        (var / "runs" / name / "child.json").write_text(text)
    assert live_children(var) == []
    stop_leftovers(var)
    assert stranger.poll() is None
