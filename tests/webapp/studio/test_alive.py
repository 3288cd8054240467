"""The health check of a container: what the supervisor recorded against what is there."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.webapp.studio.conftest import REPOSITORY
from webapp.studio.identity import Identity


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "studio" / "web"
    folder.mkdir(parents=True)
    (folder / "lock").write_text(json.dumps({"pid": os.getpid(), "address": ""}))
    return folder


def exit_code(state: Path) -> int:
    command = [sys.executable, "-m", "webapp.studio.alive", state.name]
    environment = {**os.environ, "POLM_VAR": str(state.parent.parent)}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode


def test_programs_that_run_are_alive(state: Path) -> None:
    Identity.of(os.getpid()).write(state / "worker.json")
    assert exit_code(state) == 0


def test_no_programs_are_not_alive(state: Path) -> None:
    assert exit_code(state) == 1


@pytest.mark.parametrize("record", ["{", '{"pid": 1, "start": 1, "boot_id": "", "pgid": 1}'])
def test_one_dead_program_is_enough(state: Path, record: str) -> None:
    Identity.of(os.getpid()).write(state / "worker.json")
    (state / "web.json").write_text(record)
    assert exit_code(state) == 1


def test_a_web_process_that_does_not_answer_is_not_alive(state: Path) -> None:
    Identity.of(os.getpid()).write(state / "web.json")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        (state / "lock").write_text(json.dumps({"pid": os.getpid(), "address": address}))
        assert exit_code(state) == 1


def test_a_supervisor_that_has_only_just_started_is_not_alive_yet(state: Path) -> None:
    Identity.of(os.getpid()).write(state / "web.json")
    (state / "lock").write_text("")
    assert exit_code(state) == 1
