"""Programs kept running: restarted with patience, given up, stopped in order."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.webapp.studio.conftest import Python
from webapp.studio.identity import Identity, stop_all
from webapp.studio.processes import Processes, Program, ProgramGaveUp, stop_orphans

SLEEP = "import time; time.sleep(60)"
# Notes in a common file when it was told to end.
NOTING = """
import signal, sys, time
def end(*_):
    time.sleep({seconds})
    with open({journal!r}, "a") as file:
        file.write({name!r} + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""
PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""

Start = Callable[..., Processes]


def program(name: str, code: str, **options: object) -> Program:
    return Program(name, [sys.executable, "-c", code], **options)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def start(tmp_path: Path, said: list[str]) -> Iterator[Start]:
    """Start programs; state and logs are in `tmp_path`."""
    started: list[Processes] = []

    def run(*programs: Program) -> Processes:
        processes = Processes(programs, state=tmp_path / "state", logs=tmp_path / "logs", say=said.append)
        processes.start()
        started.append(processes)
        return processes

    yield run
    for processes in started:
        processes.stop(hurry=lambda: True)


def watch_until(processes: Processes, condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        processes.watch()
        time.sleep(0.01)


def await_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + 10
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, f"{text!r} does not appear in {path}"
        time.sleep(0.01)


def test_output_goes_to_the_log_and_only_what_matters_to_the_console(
    start: Start, tmp_path: Path, said: list[str]
) -> None:
    code = (
        "print('2026-11-22 10:00:00 INFO    a: fine')\n"
        "print('2026-11-22 10:00:00 WARNING a: careful')\n"
        "print('x' * 100 + ' ERROR in somebody\\'s text')\n"
        "print('ERROR half a line', end='', flush=True)\n" + SLEEP
    )
    processes = start(program("talker", code))
    watch_until(processes, lambda: bool(said))
    assert said == ["talker: 2026-11-22 10:00:00 WARNING a: careful"]
    assert "INFO    a: fine" in (tmp_path / "logs" / "talker.log").read_text()


def test_a_program_that_dies_is_started_again(start: Start, said: list[str]) -> None:
    processes = start(program("mortal", SLEEP))
    first = processes.pid("mortal")
    os.kill(first, signal.SIGKILL)
    watch_until(processes, lambda: processes.pid("mortal") not in (None, first))
    assert said == ["mortal: ended (killed by SIGKILL); starting it again"]


def test_one_program_dying_leaves_the_others_alone(start: Start) -> None:
    processes = start(program("mortal", SLEEP), program("other", SLEEP))
    first, other = processes.pid("mortal"), processes.pid("other")
    os.kill(first, signal.SIGKILL)
    watch_until(processes, lambda: processes.pid("mortal") not in (None, first))
    assert processes.pid("other") == other


def test_a_program_that_keeps_dying_is_given_up_with_the_end_of_its_log(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.studio.processes.FIRST_DELAY_SECONDS", 0.01)
    processes = start(program("broken", "print('no such module'); raise SystemExit(3)"))
    with pytest.raises(ProgramGaveUp, match=r"broken does not stay up \(exit code 3\)(.|\n)*no such module"):
        watch_until(processes, lambda: False)
    assert (tmp_path / "logs" / "broken.log").read_text().count("no such module") == 5


def test_each_quick_death_doubles_the_wait(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("webapp.studio.processes.FIRST_DELAY_SECONDS", 0.1)
    journal = tmp_path / "journal"
    processes = start(program("broken", f"import time; open({str(journal)!r}, 'a').write(f'{{time.time()}}\\n')"))
    with pytest.raises(ProgramGaveUp):
        watch_until(processes, lambda: False)
    times = [float(line) for line in journal.read_text().split()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True))


def test_a_death_after_a_long_life_is_forgiven(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.studio.processes.QUICK_DEATH_SECONDS", 0.0)
    monkeypatch.setattr("webapp.studio.processes.FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr("webapp.studio.processes.MAX_QUICK_DEATHS", 2)
    processes = start(program("mortal", SLEEP))
    for _ in range(3):
        pid = processes.pid("mortal")
        os.kill(pid, signal.SIGKILL)
        watch_until(processes, lambda pid=pid: processes.pid("mortal") not in (None, pid))


def test_stages_stop_one_after_another(start: Start, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    names = {"worker": (1, 0.0), "web": (0, 0.3), "scheduler": (0, 0.0)}
    processes = start(
        *(
            program(name, NOTING.format(name=name, journal=journal, seconds=seconds), stage=stage)
            for name, (stage, seconds) in names.items()
        )
    )
    for name in names:
        await_text(tmp_path / "logs" / f"{name}.log", "ready")
    processes.stop()
    assert Path(journal).read_text().split() == ["scheduler", "web", "worker"]


def test_what_does_not_stop_in_time_is_killed(start: Start, tmp_path: Path) -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True);" + SLEEP
    processes = start(program("stubborn", code, stop_seconds=0.2))
    await_text(tmp_path / "logs" / "stubborn.log", "ready")
    identity = Identity.of(processes.pid("stubborn"))
    processes.stop()
    assert not identity.alive()
    assert processes.pid("stubborn") is None


def test_a_hurry_stops_everything_at_once(start: Start, tmp_path: Path) -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True);" + SLEEP
    processes = start(*(program(f"stubborn{stage}", code, stage=stage, stop_seconds=60) for stage in range(3)))
    for stage in range(3):
        await_text(tmp_path / "logs" / f"stubborn{stage}.log", "ready")
    started = time.monotonic()
    processes.stop(hurry=lambda: time.monotonic() > started + 0.1)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_what_a_program_started_ends_with_it(start: Start, tmp_path: Path, end: str) -> None:
    processes = start(program("parent", PARENT))
    log = tmp_path / "logs" / "parent.log"
    await_text(log, "\n")
    child = Identity.of(int(log.read_text()))
    if end == "killed":
        parent = processes.pid("parent")
        os.kill(parent, signal.SIGKILL)
        watch_until(processes, lambda: processes.pid("parent") not in (None, parent))
    else:
        processes.stop()
    deadline = time.monotonic() + 5
    while child.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.alive()


def test_descendants_are_found_in_whatever_session(start: Start, tmp_path: Path) -> None:
    leaving = PARENT.replace('time.sleep(60)"])', 'time.sleep(60)"], start_new_session=True)')
    processes = start(program("staying", PARENT), program("leaving", leaving))
    pids = set()
    for name in ("staying", "leaving"):
        await_text(tmp_path / "logs" / f"{name}.log", "\n")
        pids.add(int((tmp_path / "logs" / f"{name}.log").read_text()))
    found = processes.descendants()
    assert {identity.pid for identity in found} == pids
    stop_all(found, 0)


def test_stopping_leaves_no_records(start: Start, tmp_path: Path) -> None:
    processes = start(program("one", SLEEP), program("two", SLEEP))
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"one.json", "two.json"}
    processes.stop()
    assert not any((tmp_path / "state").iterdir())


def test_programs_of_a_killed_supervisor_are_stopped(tmp_path: Path, python: Python) -> None:
    code = f"""
import sys
from pathlib import Path
from webapp.studio.processes import Processes, Program
folder = Path({str(tmp_path)!r})
processes = Processes([Program("parent", [sys.executable, "-c", {PARENT!r}])], state=folder, logs=folder, say=print)
processes.start()
print(processes.pid("parent"), flush=True)
sys.stdin.readline()
"""
    supervisor = python(code)
    orphan = Identity.of(int(supervisor.stdout.readline()))
    await_text(tmp_path / "parent.log", "\n")
    grandchild = Identity.of(int((tmp_path / "parent.log").read_text()))
    supervisor.kill()
    supervisor.wait()
    assert orphan.alive()
    stop_orphans(tmp_path, 5)
    assert not orphan.alive()
    assert not grandchild.alive()
    assert not list(tmp_path.glob("*.json"))


def test_a_record_of_a_stranger_is_dropped_and_the_stranger_left_alone(tmp_path: Path, python: Python) -> None:
    stranger = python("input()")
    Identity(stranger.pid, 1, "", stranger.pid).write(tmp_path / "web.json")
    (tmp_path / "spoilt.json").write_text("{")
    stop_orphans(tmp_path, 1)
    assert stranger.poll() is None
    assert not list(tmp_path.glob("*.json"))


def test_a_log_that_has_grown_long_is_set_aside_and_goes_on(
    start: Start, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.studio.logs.MAX_LOG_BYTES", 100)
    log = tmp_path / "logs" / "talker.log"
    go_on = tmp_path / "go-on"
    code = (
        "import pathlib, time\nprint('x' * 200, flush=True)\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        "print('ERROR afterwards', flush=True)\n" + SLEEP
    )
    processes = start(program("talker", code))
    watch_until(processes, lambda: (tmp_path / "logs" / "talker.log.1").exists())
    go_on.touch()
    watch_until(processes, lambda: bool(said))
    assert said == ["talker: ERROR afterwards"]
    assert (tmp_path / "logs" / "talker.log.1").read_text() == "x" * 200 + "\n"
    assert log.read_text() == "ERROR afterwards\n"
