"""Runs whose training process is played: the studio's own worker finds it at work, takes it over and follows it."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from polm_core.run_dir import Outcome, Progress, Result, RunDir, metric_line, write_atomic
from webapp.studio.identity import Identity

KEYS = 20


class SimulatedChild:
    """The process of one run and the files it would write."""

    def __init__(self, folder: Path, *, seconds: float, rate: float) -> None:
        self.run_dir = RunDir(folder)
        self.run_dir.create()
        self.total = int(seconds * rate)
        self.step = 0
        # When each step was written, to tell how long it took to reach a listener.
        self.written_at: dict[int, float] = {}
        command = [sys.executable, "-c", "import time; time.sleep(1e9)"]
        self.process = subprocess.Popen(command, start_new_session=True)
        identity = Identity.of(self.process.pid)
        assert identity is not None
        identity.write(folder / "child.json")
        # As a supervisor before the first claim would have left it.
        write_atomic(folder / ".epoch", "0")
        self._metrics = self.run_dir.metrics.open("a", buffering=1)

    def log(self) -> None:
        """One more step: a line of metrics, a line of log, the progress."""
        self.step += 1
        now = time.time()
        values = {f"metric/{key}": math.sin(self.step / 50 + key) + key for key in range(KEYS)}
        self._metrics.write(metric_line(self.step, now, values))
        self.written_at[self.step] = now
        self.run_dir.write_progress(Progress(step=self.step, total_steps=self.total, phase="training", alive_at=now))
        if self.step % 25 == 0:
            with self.run_dir.log.open("a") as log:
                log.write(f"step {self.step} of {self.total}\n")

    def end(self) -> None:
        """The process has done its work and ends."""
        self._metrics.close()
        self.run_dir.write_result(Result(outcome=Outcome.SUCCEEDED))
        write_atomic(self.run_dir.root / "exit.json", json.dumps({"code": 0}))
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
