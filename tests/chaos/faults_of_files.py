"""What is done to files and disks."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.cluster import Cluster, fill, make_space, may_mount
from tests.chaos.faults import Inflict

FULL_SECONDS = 120.0


def spoilt(spoil: Callable[[Path], None]) -> Inflict:
    """The training process dies and its metrics lose or gain something at their end before the next one starts."""

    def inflict(cluster: Cluster, runs: Sequence[str]) -> None:
        run, machine = cluster.trained_on(runs)
        worker, keeper = machine.worker(), machine.keeper(run)
        assert keeper is not None
        worker.suspend()
        try:
            keeper.children()[0].send_signal(signal.SIGKILL)
            keeper.wait(20)
            spoil(machine.var / "runs" / run / "metrics.jsonl")
        finally:
            worker.resume()

    return inflict


def cut_short(metrics: Path) -> None:
    """Several lines and a half, of which most had been read already."""
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(b"".join(lines[:-3]) + lines[-3][:-7])


def corrupt(metrics: Path) -> None:
    with metrics.open("ab") as file:
        file.write(b'\x00\xff{"step": 3, "time": nonsense\n{"step": 4, "ti')


def full(folders: Callable[[Cluster], list[Path]]) -> Inflict:
    """No byte is left; the runs pause with advice, and go on once there is space."""

    def inflict(cluster: Cluster, runs: Sequence[str]) -> None:
        disks = folders(cluster)
        for disk in disks:
            fill(disk)
        try:
            cluster.wait_for_all(
                runs,
                lambda run: run["status"] == "paused" and (run["error"] or {}).get("code") == "resource.disk",
                FULL_SECONDS,
                "the runs to be paused for want of space",
            )
        finally:
            for disk in disks:
                make_space(disk)
        for pk in runs:
            answer = cluster.home.api.post(f"/runs/{pk}/resume")
            assert answer.status_code == 200, answer.text

    return inflict


def run_directories(cluster: Cluster) -> list[Path]:
    return [machine.var / "runs" for machine in cluster.machines.values()]


def artifact_store(cluster: Cluster) -> list[Path]:
    return [cluster.artifacts]


def no_mounts() -> str:
    return "" if may_mount() else "needs root and the right to mount a small tmpfs"
