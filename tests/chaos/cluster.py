"""A studio with two worker machines on this one: each machine is a launcher with a state directory of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from tests.support.lookalikes import alpaca, sharegpt_preference
from tests.support.studio import ROOT, RunningStudio
from tests.support.tiny import build_model
from webapp.studio.embedded import default_broker_url, default_database_url, forkserver_socket

MACHINES = ("m1", "m2")
# Each run with fixed seeds, in turn.
METHODS = ("sft", "dpo", "lora")
STALL_SECONDS = 5
RUNS_BYTES = 192 * 1024**2
STORE_BYTES = 384 * 1024**2
FILLING = "filling"
STEP = re.compile(rb'\{"step": (\d+)')


class Machine:
    """A worker machine: `manage.py studio --worker-only`, its worker, fork server and training processes."""

    def __init__(self, name: str, var: Path, env: dict[str, str]) -> None:
        self.name = name
        self.var = var
        self.env = {**env, "POLM_VAR": str(var)}
        self.launcher: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.var.mkdir(exist_ok=True)
        command = [sys.executable, "manage.py", "studio", "--no-embedded", "--worker-only"]
        with (self.var / "studio.log").open("ab") as log:
            self.launcher = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log)

    def runs_on(self) -> bool:
        return self.launcher is not None and self.launcher.poll() is None

    def stop(self) -> None:
        if self.launcher is not None and self.runs_on():
            self.launcher.send_signal(signal.SIGINT)
            try:
                self.launcher.wait(60)
            except subprocess.TimeoutExpired:
                self.launcher.kill()

    def worker(self) -> psutil.Process:
        return recorded(self.var / "studio" / "worker" / "worker-runs.json")

    def fork_server(self) -> psutil.Process:
        return recorded(self.var / "forkserver.pid")

    def keeper(self, run: str) -> psutil.Process | None:
        """The living keeper of a run's training process here."""
        with suppress(OSError, ValueError, psutil.Error):
            found = recorded(self.var / "runs" / run / "child.json")
            return found if found.status() != psutil.STATUS_ZOMBIE else None
        return None

    def power_off(self) -> None:
        """Kill everything the machine runs at once, as a power failure does."""
        doomed = [self.launcher.pid] if self.launcher else []
        doomed += [process.pid for process in processes_of(self.var)]
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.launcher is not None:
            self.launcher.wait(10)


class Cluster:
    """Web, scheduler, light worker and the servers in one place; two machines that train."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="polm-chaos-"))
        self.base.chmod(0o711)
        self.home = RunningStudio(self.base / "home")
        self.artifacts = self.base / "artifacts"
        self.mounts: list[Path] = []
        self.launched = 0
        self.machines: dict[str, Machine] = {}
        self.model = self.conversations = self.preferences = ""

    def start(self) -> None:
        for var in (self.home.var, *(self.base / name for name in MACHINES)):
            var.mkdir()
            var.chmod(0o711)
        self.artifacts.mkdir()
        if may_mount():
            self._mount(self.artifacts, STORE_BYTES)
            for name in MACHINES:
                self._mount(self.base / name / "runs", RUNS_BYTES)
        self.home.env |= {
            "ARTIFACT_URL": f"file://{self.artifacts}",
            "POLM_WORKER_QUEUES": "light",
            "POLM_STALL_SECONDS": str(STALL_SECONDS),
        }
        self.home.start()
        env = {
            **self.home.env,
            "DATABASE_URL": default_database_url(self.home.var),
            "BROKER_URL": default_broker_url(self.home.var),
            "SECRET_KEY": (self.home.var / "secret_key").read_text().strip(),
            "POLM_MODEL_ROOTS": str(self.home.var / "models"),
            "POLM_WORKER_QUEUES": "runs",
        }
        self.machines = {name: Machine(name, self.base / name, env) for name in MACHINES}
        for machine in self.machines.values():
            machine.start()
        self.model = self.home.add_model(build_model(self.home.var / "models" / "tiny"), "tiny")
        self.conversations = self.home.upload("instructions", "instructions.json", alpaca(120))["id"]
        self.preferences = self.home.upload("preferences", "preferences.jsonl", sharegpt_preference(120))["id"]
        self.heal()

    def stop(self) -> None:
        for machine in self.machines.values():
            machine.stop()
        self.home.stop()
        for folder in list(self.mounts):
            self.unmount(folder)

    def remove(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    def _mount(self, folder: Path, size: int) -> None:
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)], check=True)
        self.mounts.append(folder)

    def unmount(self, folder: Path) -> None:
        if folder in self.mounts:
            self.mounts.remove(folder)
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    # --- work -------------------------------------------------------------------------------------------------------

    def launch(self, count: int, *, steps: int, save_steps: int) -> list[str]:
        """Launch runs of mixed methods, the n-th of a campaign always with the same seed."""
        found = []
        for _ in range(count):
            method = METHODS[self.launched % len(METHODS)]
            config = {
                "max_steps": steps,
                "batch_size": 2,
                "max_length": 128,
                "logging_steps": 1,
                "save_steps": save_steps,
                "eval_steps": 0,
                "generation": {"samples": 0},
                "seed": 1000 + self.launched,
            }
            dataset = self.preferences if method == "dpo" else self.conversations
            found.append(self.home.launch(method=method, model=self.model, dataset=dataset, config=config))
            self.launched += 1
        return found

    def forget(self, runs: Sequence[str]) -> None:
        """Delete runs with all they left, so that small disks last for a whole campaign."""
        for pk in runs:
            answer = self.home.api.delete(f"/runs/{pk}")
            assert answer.status_code == 204, answer.text
            for machine in self.machines.values():
                shutil.rmtree(machine.var / "runs" / pk, ignore_errors=True)

    def stop_runs(self, runs: Sequence[str], *, if_possible: bool = False) -> None:
        for pk in runs:
            answer = self.home.api.post(f"/runs/{pk}/stop")
            assert if_possible or answer.status_code == 200, answer.text

    def run(self, pk: str) -> dict[str, Any] | None:
        """The run as the API tells it; None while that does not answer."""
        try:
            answer = self.home.api.get(f"/runs/{pk}", timeout=5)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def wait(self, check: Callable[[], Any], seconds: float, what: str) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := check()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:.0f} s for {what}")
            time.sleep(0.1)
        return found

    def wait_for_all(
        self, runs: Sequence[str], check: Callable[[dict[str, Any]], bool], seconds: float, what: str
    ) -> None:
        def hold() -> bool:
            return all((found := self.run(pk)) is not None and check(found) for pk in runs)

        self.wait(hold, seconds, what)

    def logged_step(self, pk: str) -> int:
        """The newest step that a run has written down on any machine."""
        files = [machine.var / "runs" / pk / "metrics.jsonl" for machine in self.machines.values()]
        lines = [line for file in files if file.exists() for line in file.read_bytes().splitlines()]
        return max((int(found[1]) for line in lines if (found := STEP.match(line))), default=0)

    def place_of(self, run: str) -> Machine | None:
        """The machine on which a run is being trained."""
        return next((machine for machine in self.machines.values() if machine.keeper(run)), None)

    def trained_on(self, runs: Sequence[str]) -> tuple[str, Machine]:
        """One of the runs that is being trained now, and where."""
        for run in runs:
            if machine := self.place_of(run):
                return run, machine
        raise TimeoutError("none of the runs is being trained")

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(default_database_url(self.home.var), autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def heal(self) -> None:
        """Bring back what a fault took for good, and wait until everything is as it was."""
        for machine in self.machines.values():
            if not machine.runs_on():
                machine.start()
            if self.mounts and not any(folder.is_relative_to(machine.var) for folder in self.mounts):
                self._mount(machine.var / "runs", RUNS_BYTES)

        def whole() -> bool:
            try:
                workers = self.home.api.get("/workers", timeout=5).json()["items"]
            except (httpx.HTTPError, ValueError, KeyError):
                return False
            alive = [one for one in workers if one["alive"]]
            training = sum("runs" in one["queues"] for one in alive)
            warm = all(forkserver_socket(machine.var).exists() for machine in self.machines.values())
            return training == len(MACHINES) and len(alive) > len(MACHINES) and warm

        self.wait(whole, 180, "web process and all workers")


def may_mount() -> bool:
    """Whether small file systems of our own can be mounted here."""
    folder = Path(tempfile.mkdtemp(prefix="polm-mount-"))
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", str(folder)], check=True)
        return True
    finally:
        folder.rmdir()


def recorded(path: Path) -> psutil.Process:
    """The process that a record of the studio names."""
    return psutil.Process(json.loads(path.read_text())["pid"])


def processes_of(var: Path) -> list[psutil.Process]:
    """Every process that was started for a state directory, whatever became of its parents."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("POLM_VAR") == str(var):
                found.append(process)
    return found


def fill(folder: Path) -> None:
    """Leave no byte free on the file system of a folder."""
    with suppress(OSError), (folder / FILLING).open("ab", buffering=0) as file:
        for size in (1024 * 1024, 4096, 512):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def make_space(folder: Path) -> None:
    (folder / FILLING).unlink(missing_ok=True)
