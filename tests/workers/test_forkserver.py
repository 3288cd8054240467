"""Training processes forked from the warm server: recorded, reaped, and never two in one place."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from workers import children

pytestmark = pytest.mark.train


@pytest.fixture(scope="module", autouse=True)
def _stop_the_server_at_the_end() -> Iterator[None]:
    yield
    process = _server()
    process.terminate()
    psutil.wait_procs([process], timeout=10)


@pytest.fixture
def server() -> psutil.Process:
    children.ensure_fork_server()
    return _server()


def _server() -> psutil.Process:
    return psutil.Process(json.loads((settings.VAR_DIR / "forkserver.pid").read_text())["pid"])


def wait_until(check: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def folder_with(tmp_path: Path, config: str) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    return folder


def hanging_child(tmp_path: Path, abandoned_after: float | None = None) -> children.Child:
    """A child that waits for somebody to write into its configuration."""
    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / "config.yaml")
    child = children.start("run", folder, folder, abandoned_after=abandoned_after)
    wait_until(child.alive)
    return child


def test_a_child_runs_and_its_end_is_recorded(server: psutil.Process, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "method: nonsense\n")
    child = children.start("run", folder, folder)
    wait_until(lambda: child.exit_code() is not None)
    assert child.exit_code() == 2
    assert json.loads((folder / "result.json").read_text())["outcome"] == "failed"
    assert "nonsense" in (folder / "log.txt").read_text() or (folder / "log.txt").read_text()
    wait_until(lambda: not child.alive())


def test_a_second_server_leaves_the_first_alone(server: psutil.Process) -> None:
    second = children._launch()
    assert second.wait(30) == 0
    assert server.is_running()
    children.ensure_fork_server()


def test_a_killed_child_is_recorded_with_its_signal(server: psutil.Process, tmp_path: Path) -> None:
    child = hanging_child(tmp_path)
    assert child.keeper is not None
    psutil.Process(child.keeper.pid).children()[0].kill()
    wait_until(lambda: child.exit_code() is not None)
    assert child.exit_code() == -signal.SIGKILL


def test_a_killed_keeper_takes_its_child_along(server: psutil.Process, tmp_path: Path) -> None:
    child = hanging_child(tmp_path)
    assert child.keeper is not None
    trainer = psutil.Process(child.keeper.pid).children()[0]
    os.kill(child.keeper.pid, signal.SIGKILL)
    wait_until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)
    assert not child.alive()
    assert child.exit_code() is None


def test_a_folder_never_has_two_children(server: psutil.Process, tmp_path: Path) -> None:
    child = hanging_child(tmp_path)
    keeper = child.keeper
    assert children.start("run", child.folder, child.folder).keeper == keeper
    child.kill()
    wait_until(lambda: not child.alive())


def test_a_child_outlives_the_server(server: psutil.Process, tmp_path: Path) -> None:
    child = hanging_child(tmp_path)
    server.kill()
    server.wait(10)
    assert child.alive()
    child.signal(signal.SIGKILL)
    wait_until(lambda: not child.alive())


def test_only_known_entries_are_started(server: psutil.Process, tmp_path: Path) -> None:
    with pytest.raises(children.ForkServerDown):
        children.start("os:system", tmp_path, tmp_path)
    assert server.is_running()
    children.ensure_fork_server()


def test_children_do_not_see_the_studios_secrets(
    server: psutil.Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    server.kill()
    server.wait(10)
    child = hanging_child(tmp_path)
    assert child.keeper is not None
    environment = psutil.Process(child.keeper.pid).children()[0].environ()
    assert not {"SECRET_KEY", "DATABASE_URL", "BROKER_URL"} & set(environment)
    child.kill()


def test_a_child_that_nobody_attends_to_is_ended(server: psutil.Process, tmp_path: Path) -> None:
    child = hanging_child(tmp_path, abandoned_after=2)
    for _ in range(8):
        child.attend()
        time.sleep(0.5)
    assert child.alive()
    wait_until(lambda: not child.alive())
    assert child.exit_code() == -signal.SIGTERM
    assert child.abandoned()


def test_a_child_tells_where_it_hangs(server: psutil.Process, tmp_path: Path) -> None:
    child = hanging_child(tmp_path)

    def hangs() -> bool:
        """Asked as it starts, it tells where it is on the way."""
        return child.dump_stacks() == "" and "_read_yaml" in (child.folder / "log.txt").read_text()

    wait_until(hangs)
    assert child.alive()
    assert child.keeper is not None
    trainer = psutil.Process(child.keeper.pid).children()[0]
    trainer.suspend()
    wait_until(lambda: trainer.status() == psutil.STATUS_STOPPED)
    assert "SIGSTOP" in child.dump_stacks()
    child.kill()
    wait_until(lambda: not child.alive())


def environment_of(child: children.Child) -> dict[str, str]:
    assert child.keeper is not None
    return psutil.Process(child.keeper.pid).children()[0].environ()


def test_a_child_without_gpus_sees_none(server: psutil.Process, tmp_path: Path) -> None:
    child = hanging_child(tmp_path)
    assert environment_of(child)["CUDA_VISIBLE_DEVICES"] == ""
    assert server.environ()["CUDA_VISIBLE_DEVICES"] == ""
    child.kill()


def test_a_child_with_gpus_is_a_fresh_interpreter_that_sees_these_alone(server: psutil.Process, tmp_path: Path) -> None:
    """Forked from a process that may have asked the driver for its devices, it could not be given others."""
    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / "config.yaml")
    child = children.start("run", folder, folder, env=children.gpu_environment(["GPU-1", "GPU-3"]))
    assert child.keeper is not None
    (trainer,) = psutil.Process(child.keeper.pid).children()
    wait_until(lambda: "polm_core.run" in trainer.cmdline())
    assert trainer.environ()["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-3"
    assert psutil.Process(child.keeper.pid).children() == [trainer]
    child.kill()
    wait_until(lambda: not child.alive())


def test_a_full_disk_under_the_log_leaves_the_server_alone(server: psutil.Process, tmp_path: Path) -> None:
    """Whatever a child cannot print, it ends; it does not run on as a second server."""
    folder = folder_with(tmp_path, "method: nonsense\n")
    (folder / "log.txt").symlink_to("/dev/full")
    child = children.start("run", folder, folder)
    wait_until(lambda: child.exit_code() is not None)
    wait_until(lambda: not child.alive())
    assert child.exit_code() == 2
    children.start("preflight", folder, folder / "none.yaml", folder / "report.json")
    assert _server() == server


def test_a_child_with_gpus_runs_to_its_recorded_end(server: psutil.Process, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "method: nonsense\n")
    child = children.start("run", folder, folder, env=children.gpu_environment(["0"]))
    wait_until(lambda: child.exit_code() is not None, seconds=60)
    assert child.exit_code() == 2
    assert json.loads((folder / "result.json").read_text())["outcome"] == "failed"
