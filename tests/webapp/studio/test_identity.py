"""Processes told apart from those that get their pids later."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest

from tests.webapp.studio.conftest import Python
from webapp.studio.identity import Identity, session_of, stop_all

# Ignores SIGTERM; `ready` tells that it does by now.
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session={new_session})
print(child.pid, flush=True)
time.sleep(60)
"""


def identity_of(pid: int) -> Identity:
    found = Identity.of(pid)
    assert found is not None
    return found


def test_a_living_process_is_found_by_its_record(tmp_path: Path) -> None:
    me = identity_of(os.getpid())
    me.write(tmp_path / "me.json")
    assert Identity.read(tmp_path / "me.json") == me
    assert me.alive()


def test_an_ended_process_is_dead_even_before_it_is_waited_for(python: Python) -> None:
    process = python("input()")
    identity = identity_of(process.pid)
    assert identity.alive()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert not identity.alive()
    process.wait()
    assert not identity.alive()


@pytest.mark.parametrize("change", [{"start": 1}, {"boot_id": "another"}])
def test_a_process_with_a_recycled_pid_is_not_touched(python: Python, change: dict[str, object]) -> None:
    process = python("input()")
    stranger = dataclasses.replace(identity_of(process.pid), **change)
    assert not stranger.alive()
    stranger.signal(signal.SIGKILL)
    stranger.kill_group()
    stop_all([stranger], 0)
    time.sleep(0.1)
    assert process.poll() is None


def test_founding_a_group_later_does_not_make_another_process(python: Python) -> None:
    process = python("input()")
    assert dataclasses.replace(identity_of(process.pid), pgid=1).alive()


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"pid": "x"}', '{"pid": 1, "start": 2}', "\x00"])
def test_a_spoilt_record_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "record").write_text(content)
    assert Identity.read(tmp_path / "record") is None
    assert Identity.read(tmp_path / "missing") is None


def test_stop_kills_what_does_not_listen(python: Python) -> None:
    process = python(STUBBORN)
    process.stdout.readline()
    started = time.monotonic()
    stop_all([identity_of(process.pid)], 0.2)
    assert process.wait(5) == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - started < 3


def test_a_hurry_cuts_the_waiting_short(python: Python) -> None:
    process = python(STUBBORN)
    process.stdout.readline()
    started = time.monotonic()
    stop_all([identity_of(process.pid)], 60, hurry=lambda: time.monotonic() > started + 0.2)
    assert process.wait(5) == -signal.SIGKILL


def test_killing_a_group_takes_its_members_along(python: Python) -> None:
    process = python(WITH_CHILD.format(new_session=False))
    child = identity_of(int(process.stdout.readline()))
    identity_of(process.pid).kill_group()
    process.wait(5)
    deadline = time.monotonic() + 5
    while child.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.alive()


def test_a_session_has_its_members_and_not_those_that_left(python: Python) -> None:
    staying, leaving = (python(WITH_CHILD.format(new_session=new)) for new in (False, True))
    child = identity_of(int(staying.stdout.readline()))
    left = identity_of(int(leaving.stdout.readline()))
    assert session_of(staying.pid) == [child]
    assert session_of(leaving.pid) == []
    stop_all([child, left], 0)
