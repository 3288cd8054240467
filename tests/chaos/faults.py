"""What is done to processes, servers, messages and clocks.

A fault is a function of the cluster and the runs that are being trained; it returns when it is over. One whose recovery
counts from an earlier moment returns that moment, by the monotonic clock.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from celery import Celery

from tests.chaos.cluster import ROOT, Cluster, recorded
from webapp.studio.embedded import default_broker_url

OUTAGE_SECONDS = 60.0
Inflict = Callable[[Cluster, Sequence[str]], float | None]


@dataclass(frozen=True)
class Fault:
    """One row of the campaign. `bar` bounds the recovery in seconds; `obstacle` says why it cannot be tried here.

    Runs that must outlast the fault whatever the machine's speed have very many steps and are stopped once they have
    recovered (`outlasts`).
    """

    name: str
    what: str
    inflict: Inflict
    bar: int = 60
    runs: int = 2
    outlasts: bool = False
    quick: bool = False
    obstacle: Callable[[], str] = lambda: ""

    @property
    def steps(self) -> int:
        return 20_000 if self.outlasts else 300

    @property
    def save_steps(self) -> int:
        return 100 if self.outlasts else 25

    @property
    def ends(self) -> str:
        """The status in which every run must end."""
        return "stopped" if self.outlasts else "succeeded"


# --- workers, children, keepers, fork servers -------------------------------------------------------------------------
def worker(number: signal.Signals) -> Inflict:
    def inflict(cluster: Cluster, runs: Sequence[str]) -> None:
        _, machine = cluster.trained_on(runs)
        machine.worker().send_signal(number)

    return inflict


def child(number: signal.Signals) -> Inflict:
    def inflict(cluster: Cluster, runs: Sequence[str]) -> None:
        _trainer(cluster, runs).send_signal(number)

    return inflict


def keeper(cluster: Cluster, runs: Sequence[str]) -> None:
    run, machine = cluster.trained_on(runs)
    if found := machine.keeper(run):
        found.kill()


def fork_server(cluster: Cluster, runs: Sequence[str]) -> None:
    """The server and a child of it at once, so that the run needs a new one."""
    run, machine = cluster.trained_on(runs)
    trainer = _trainer(cluster, [run])
    machine.fork_server().kill()
    trainer.kill()


def child_hangs(cluster: Cluster, runs: Sequence[str]) -> None:
    """The file that the loop reads at each step never answers, as on a network disk that hangs."""
    run, machine = cluster.trained_on(runs)
    os.mkfifo(machine.var / "runs" / run / "control")


def worker_hangs(cluster: Cluster, runs: Sequence[str]) -> float:
    """Launcher and worker of a machine stand still, not its training process, until another machine has the run."""
    run, machine = cluster.trained_on(runs)
    assert machine.launcher is not None
    frozen = [psutil.Process(machine.launcher.pid), machine.worker()]
    began = time.monotonic()
    for process in frozen:
        process.suspend()
    try:
        others = [one for one in cluster.machines.values() if one is not machine]
        cluster.wait(lambda: any(one.keeper(run) for one in others), 240, "another machine to take over")
    finally:
        for process in frozen:
            process.resume()
    return began


def machine_gone(cluster: Cluster, runs: Sequence[str]) -> None:
    _, machine = cluster.trained_on(runs)
    machine.power_off()
    cluster.unmount(machine.var / "runs")
    shutil.rmtree(machine.var)


def machine_power_failure(cluster: Cluster, runs: Sequence[str]) -> None:
    _, machine = cluster.trained_on(runs)
    machine.power_off()
    machine.start()


def launcher(cluster: Cluster, runs: Sequence[str]) -> None:
    """Its programs live on, and the next launcher has to find them."""
    _, machine = cluster.trained_on(runs)
    assert machine.launcher is not None
    machine.launcher.kill()
    machine.launcher.wait(10)
    machine.start()


def two_supervisors(cluster: Cluster, runs: Sequence[str]) -> None:
    """A second worker in a machine's state directory takes a run over while the first stands still, then both run."""
    run, machine = cluster.trained_on(runs)
    first, epoch = machine.worker(), _epoch(cluster, run)
    first.suspend()
    command = [sys.executable, "-m", "celery", "-A", "workers.app:app", "worker", "-Q", "runs", "-n", "second@%h"]
    with (machine.var / "second.log").open("ab") as log:
        command += ["-P", "threads", "-c", "2", "--loglevel", "INFO"]
        second = subprocess.Popen(command, cwd=ROOT, env=machine.env, stdout=log, stderr=log)
    try:
        cluster.wait(lambda: _epoch(cluster, run) > epoch, 60, "the second worker to take over")
        first.resume()
        time.sleep(3)
    finally:
        first.resume()
        second.terminate()
        second.wait(30)


# --- the studio's own programs and servers ----------------------------------------------------------------------------
def program(name: str, number: signal.Signals) -> Inflict:
    def inflict(cluster: Cluster, runs: Sequence[str]) -> None:
        recorded(cluster.home.var / "studio" / "all" / f"{name}.json").send_signal(number)

    return inflict


def postgres_of(cluster: Cluster) -> psutil.Process:
    return _server(cluster.home.var / "postgres" / "data" / "postmaster.pid")


def broker_of(cluster: Cluster) -> psutil.Process:
    return _server(cluster.home.var / "valkey" / "data" / "valkey.pid")


def killed(server: Callable[[Cluster], psutil.Process]) -> Inflict:
    def inflict(cluster: Cluster, runs: Sequence[str]) -> None:
        server(cluster).kill()

    return inflict


def outage(server: Callable[[Cluster], psutil.Process], meanwhile: Callable[[Cluster], None] | None = None) -> Inflict:
    """The server is down and nobody starts it again: for a minute, or for as long as what is done `meanwhile` takes."""

    def inflict(cluster: Cluster, runs: Sequence[str]) -> None:
        assert cluster.home.process is not None
        watching = psutil.Process(cluster.home.process.pid)
        watching.suspend()
        try:
            server(cluster).kill()
            if meanwhile is None:
                time.sleep(OUTAGE_SECONDS)
            else:
                time.sleep(1)
                meanwhile(cluster)
        finally:
            watching.resume()

    return inflict


def hang(server: Callable[[Cluster], psutil.Process]) -> Inflict:
    """The server accepts connections and answers nothing for a minute."""

    def inflict(cluster: Cluster, runs: Sequence[str]) -> None:
        main = server(cluster)
        frozen = [main, *main.children(recursive=True)]
        for process in frozen:
            process.suspend()
        try:
            time.sleep(OUTAGE_SECONDS)
        finally:
            for process in frozen:
                process.resume()

    return inflict


def wipe_broker(cluster: Cluster) -> None:
    for path in (cluster.home.var / "valkey" / "data").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- messages and clocks ----------------------------------------------------------------------------------------------
def wake_ups(cluster: Cluster, runs: Sequence[str]) -> None:
    """Two hundred at once, and fifty that arrive late."""
    with Celery(broker=default_broker_url(cluster.home.var)) as sender:
        for number in range(250):
            sender.send_task("runs.wake", queue="runs", countdown=10 if number >= 200 else None)
    time.sleep(12)


def clock_forward(cluster: Cluster, runs: Sequence[str]) -> None:
    """Leases are timed by the database's clock alone, so its jump is a shift of every lease the other way."""
    cluster.sql("UPDATE runs_run SET lease_until = lease_until - interval '1 hour' WHERE lease_until IS NOT NULL")


def clock_back(cluster: Cluster, runs: Sequence[str]) -> None:
    """With the worker dead, so that nobody renews the lease that seems to end in an hour."""
    run, machine = cluster.trained_on(runs)
    machine.worker().kill()
    cluster.sql("UPDATE runs_run SET lease_until = lease_until + interval '1 hour' WHERE id = %s", run)


def _trainer(cluster: Cluster, runs: Sequence[str]) -> psutil.Process:
    run, machine = cluster.trained_on(runs)
    found = machine.keeper(run)
    assert found is not None
    return found.children()[0]


def _server(pid_file: Path) -> psutil.Process:
    return psutil.Process(int(pid_file.read_text().split()[0]))


def _epoch(cluster: Cluster, run: str) -> int:
    return int(cluster.sql("SELECT lease_epoch FROM runs_run WHERE id = %s", run)[0][0])
