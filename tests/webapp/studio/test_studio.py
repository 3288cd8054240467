"""The whole studio by its command: started, refused, killed, stopped with nothing left behind."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.webapp.studio.conftest import REPOSITORY, Python
from webapp.studio.embedded import postgres_socket_dir, short_socket_root, valkey_socket_dir

pytestmark = pytest.mark.live

Studio = Callable[..., subprocess.Popen[str]]
STOP_SECONDS = 120
START_SECONDS = 90
UNREACHABLE = """
import os, sys
os.environ.update(DJANGO_SETTINGS_MODULE="webapp.settings", POLM_VAR=sys.argv[1], DATABASE_URL=sys.argv[2])
import django
django.setup()
from webapp.studio import database, plan
database.WAIT_SECONDS = 0
try:
    database.prepare_database()
except plan.CannotStart as error:
    print(error)
"""


@pytest.fixture
def studio(var: Path) -> Iterator[Studio]:
    """Start `manage.py studio` on `var` and a free port."""
    started: list[subprocess.Popen[str]] = []
    names = ("DATABASE_URL", "BROKER_URL", "ARTIFACT_URL", "HOST", "PORT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    # A worker of an idle queue spares most tests the start of torch.
    environment |= {"DJANGO_SETTINGS_MODULE": "webapp.settings", "POLM_VAR": str(var), "POLM_WORKER_QUEUES": "idle"}

    def start(*arguments: str, **extra: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "studio", *(arguments or ("--port", "0"))],
            cwd=REPOSITORY,
            env={**environment, **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    for process in of_studio(var):
        process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    seen = ""
    for line in process.stdout:
        seen += line
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"{pattern!r} does not appear in:\n{seen}")


def address_of(process: subprocess.Popen[str]) -> str:
    return read_until(process, r"runs at (http://\S+)")[1]


def get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def await_health(address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            if get(address, "/api/v1/health")[0] == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{address} does not come back")


def of_studio(var: Path) -> list[psutil.Process]:
    """Every process that this studio's state directory is known to."""
    found = []
    for process in psutil.process_iter():
        try:
            known = [process.cwd(), *process.cmdline(), process.environ().get("POLM_VAR", "")]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(var) in text for text in known):
            found.append(process)
    return found


def sockets(var: Path) -> list[Path]:
    folders = (postgres_socket_dir(var), valkey_socket_dir(var), short_socket_root(var))
    return [path for folder in folders if folder.exists() for path in folder.iterdir()]


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    process.send_signal(number)
    return process.communicate(timeout=STOP_SECONDS)[0]


def test_a_new_studio_serves_refuses_a_second_and_leaves_nothing(studio: Studio, var: Path) -> None:
    process = studio(POLM_WORKER_QUEUES="runs,light")
    address = address_of(process)
    link = read_until(process, r"Sign in, once: (\S+)")[1]
    assert link.startswith(f"{address}/")
    assert get(address, link.removeprefix(address))[0] == 200
    assert get(address, "/sign-in")[0] == 200
    assert '"status": "ok"' in get(address, "/api/v1/health")[1]
    second = studio()
    refusal = second.communicate(timeout=30)[0]
    assert second.returncode == 1
    assert f"already runs at {address} (process {process.pid})" in refusal
    assert "Traceback" not in refusal
    stop(process)
    assert process.returncode == 0
    assert of_studio(var) == []
    assert sockets(var) == []


def test_what_a_kill_leaves_is_taken_over_and_then_stopped(studio: Studio, var: Path) -> None:
    first = studio()
    address = address_of(first)
    postgres = (var / "postgres" / "data" / "postmaster.pid").read_text().split()[0]
    first.kill()
    first.wait()
    assert get(address, "/api/v1/health")[0] == 200  # the orphans live on
    port = address.rpartition(":")[2]
    second = studio("--port", port)
    assert address_of(second) == address
    assert (var / "postgres" / "data" / "postmaster.pid").read_text().split()[0] == postgres
    second.stdout.close()  # as when its terminal is closed
    second.send_signal(signal.SIGHUP)
    second.wait(STOP_SECONDS)
    assert of_studio(var) == []
    assert sockets(var) == []


def test_parts_that_die_come_back(studio: Studio, var: Path) -> None:
    process = studio()
    address = address_of(process)
    web = next(found for found in of_studio(var) if "uvicorn" in found.cmdline())
    postgres = int((var / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    for pid in (web.pid, postgres):
        os.kill(pid, signal.SIGKILL)
    web.wait(30)
    await_health(address)
    said = stop(process)
    assert "Postgres: ended; starting it again" in said
    assert "web: ended (killed by SIGKILL); starting it again" in said
    assert of_studio(var) == []


def test_a_port_in_use_is_named_before_anything_starts(studio: Studio, var: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = studio("--port", str(port))
        said = process.communicate(timeout=30)[0]
    assert process.returncode == 1
    assert f"Port {port} is in use" in said
    assert not (var / "postgres").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "70000"), "'70000' is not a port"),
        (("--web-only", "--worker-only"), "not allowed with"),
        (("--no-embedded",), "set DATABASE_URL and BROKER_URL to the real"),
    ],
)
def test_wrong_options_are_explained(studio: Studio, arguments: tuple[str, ...], message: str) -> None:
    process = studio(*arguments)
    said = process.communicate(timeout=30)[0]
    assert process.returncode != 0
    assert message in said
    assert "Traceback" not in said


def test_a_database_that_does_not_answer_is_named_without_its_password(var: Path, python: Python) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql://app:secret@127.0.0.1:{nobody.getsockname()[1]}/studio"
        said = python(UNREACHABLE, var, url).communicate(timeout=30)[0]
    assert "The database does not answer" in said
    assert "127.0.0.1" in said
    assert "secret" not in said
