"""A real studio in a process of its own: `manage.py studio` with a state directory, driven over HTTP."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

# One line for each poll would bury what a failed test has to say.
logging.getLogger("httpx").setLevel(logging.WARNING)

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180
# Set by a test session or a developer's shell for its own use; a studio of its own must not see them.
_NOT_PASSED_ON = ("DATABASE_URL", "BROKER_URL", "ARTIFACT_URL", "DJANGO_SETTINGS_MODULE")


class RunningStudio:
    """A started studio: its address, its first admin's API, and the processes behind it."""

    def __init__(self, var: Path, **env: str) -> None:
        self.var = var
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **{name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON},
            "POLM_VAR": str(var),
            "PORT": str(self.port),
            "OMP_NUM_THREADS": "1",
            **env,
        }
        self.output = var / "studio.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.api = httpx.Client()

    def start(self) -> None:
        """Start and wait until it serves; the second time over the same state is a restart."""
        with self.output.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "studio"], cwd=ROOT, env=self.env, stdout=log, stderr=log
            )
        self.wait_for(self._serves, START_SECONDS, "the studio to serve")
        token = self.manage("api_token", "admin", "--create-admin").strip()
        self.api = httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
        )

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does, and wait until it has."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
        self.api.close()

    def manage(self, *arguments: str) -> str:
        """What a management command prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def wait_for(self, check: Callable[[], Any], seconds: float, what: str) -> Any:
        """Ask until the answer is true, and return it; fails with the end of the log after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            found = check()
            if found:
                return found
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the studio ended:\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s for {what}:\n{self.log_end()}")
            time.sleep(0.2)

    def log_end(self) -> str:
        """The last lines of every log."""
        logs = [self.output, *sorted((self.var / "logs").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists())

    def _serves(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v1/health", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    # --- what tests do with it --------------------------------------------------------------------------------------

    def upload(self, name: str, filename: str, content: bytes, **form: str) -> dict[str, Any]:
        """Upload a file and wait until it is processed; returns the dataset, ready or invalid."""
        answer = self.api.post("/datasets", files={"file": (filename, content)}, data={"name": name, **form})
        assert answer.status_code == 201, answer.text
        pk = answer.json()["id"]

        def processed() -> dict[str, Any] | None:
            dataset: dict[str, Any] = self.api.get(f"/datasets/{pk}").json()
            return dataset if dataset["status"] != "processing" else None

        return self.wait_for(processed, 60, f"{filename} to be processed")  # type: ignore[no-any-return]

    def add_model(self, path: Path, name: str) -> str:
        """Add a folder below the model root and wait until it is checked; returns its id."""
        answer = self.api.post("/models", json={"path": str(path), "name": name})
        assert answer.status_code == 201, answer.text
        pk: str = answer.json()["id"]
        self.wait_for(lambda: self._model(pk)["status"] == "ready", 60, f"the model {name}")
        return pk

    def wait_for_starter(self) -> None:
        """The starter model is converted on a studio's first start; that takes a while."""
        self.wait_for(lambda: self._model("starter")["status"] == "ready", 240, "the starter model")

    def _model(self, ref: str) -> dict[str, Any]:
        for model in self.api.get("/models").json()["items"]:
            if model["id"] == ref or (ref == "starter" and model["source"] == "starter"):
                return model  # type: ignore[no-any-return]
        raise AssertionError(f"no model {ref}")

    def launch(self, **body: Any) -> str:
        answer = self.api.post("/runs", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]  # type: ignore[no-any-return]

    def run(self, pk: str) -> dict[str, Any]:
        return self.api.get(f"/runs/{pk}").json()  # type: ignore[no-any-return]

    def wait_for_run(self, pk: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until the run has one of the statuses; by default until it ended."""
        wanted = statuses or ("succeeded", "failed", "stopped")

        def there() -> dict[str, Any] | None:
            run = self._going(pk, wanted)
            return run if run["status"] in wanted else None

        return self.wait_for(there, seconds, f"run {pk} to be {' or '.join(wanted)}")  # type: ignore[no-any-return]

    def wait_for_step(self, pk: str, step: int, seconds: float = 120) -> None:
        self.wait_for(lambda: self._going(pk)["step"] >= step, seconds, f"run {pk} to reach step {step}")

    def _going(self, pk: str, wanted: tuple[str, ...] = ()) -> dict[str, Any]:
        """The run; fails at once when it has failed and nobody waits for that."""
        run = self.run(pk)
        if run["status"] == "failed" and "failed" not in wanted:
            raise AssertionError(f"the run failed: {run['error']}\n{self.log_end()}")
        return run

    def points(self, pk: str, key: str) -> dict[str, Any]:
        return self.api.get(f"/runs/{pk}/metrics/{key}", params={"points": 5000}).json()  # type: ignore[no-any-return]

    def run_dir(self, pk: str) -> Path:
        return self.var / "runs" / pk


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
