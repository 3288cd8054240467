"""`python -m tests.chaos`: the whole campaign; `ONLY=name,name` some faults, `SHORT=1` the quick ones."""

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.chaos import report
from tests.chaos.checks import violations
from tests.chaos.cluster import Cluster, processes_of
from tests.chaos.faults import Fault
from tests.chaos.table import FAULTS
from tests.chaos.watch import Watcher

START_SECONDS = 180.0
END_SECONDS = 300.0
FIRST_STEP = 6


@contextmanager
def campaign() -> Iterator[tuple[Cluster, Watcher]]:
    """A cluster and who watches it; what they leave is removed."""
    cluster = Cluster()
    watcher = Watcher(cluster.base)
    try:
        cluster.start()
        watcher.start()
        yield cluster, watcher
        watcher.stop()
    finally:
        cluster.stop()
        cluster.remove()


def attempt(cluster: Cluster, watcher: Watcher, fault: Fault) -> dict[str, Any]:
    """Do it while runs are being trained, wait until they recover and end, and check everything: a row of the table."""
    row: dict[str, Any] = {"name": fault.name, "what": fault.what, "unit": "s to recover", "bar": fault.bar}
    if reason := fault.obstacle():
        return {**row, "figure": None, "ok": True, "note": f"skipped: {reason}"}
    cluster.heal()
    runs = cluster.launch(fault.runs, steps=fault.steps, save_steps=fault.save_steps)
    try:
        cluster.wait(lambda: _at_work(cluster, runs), START_SECONDS, "every machine to be at work on a run")
        since = fault.inflict(cluster, runs)
        figure = _recovery(cluster, runs, since or time.monotonic())
        if fault.outlasts:
            cluster.stop_runs(runs)
        cluster.wait_for_all(runs, lambda run: run["status"] in ENDED, END_SECONDS, "the runs to end")
    except (TimeoutError, AssertionError) as error:
        cluster.stop_runs(runs, if_possible=True)
        return {**row, "figure": None, "ok": False, "note": f"**{error}**", "runs": len(runs)}
    found = violations(cluster, watcher, runs, fault.ends)
    row |= {"figure": round(figure, 1), **{check: len(problems) for check, problems in found.items()}}
    row |= {"runs": len(runs), "executions": sum(len(watcher.executions[pk]) for pk in runs)}
    row["problems"] = [problem for problems in found.values() for problem in problems]
    row["ok"] = not row["problems"] and figure <= fault.bar
    cluster.forget(runs)
    return row


ENDED = ("succeeded", "failed", "stopped")


def _at_work(cluster: Cluster, runs: Sequence[str]) -> bool:
    """Whether as many runs as there is room for are being trained. One that has ended already will not be."""
    found = [run for pk in runs if (run := cluster.run(pk)) is not None]
    going = [run for run in found if run["step"] >= FIRST_STEP and cluster.place_of(run["id"]) is not None]
    ended = [run for run in found if run["status"] in ENDED]
    if len(ended) == len(runs):
        raise TimeoutError("the runs had ended before anything could be done to them")
    return bool(going) and len(going) + len(ended) >= min(len(runs), len(cluster.machines))


def _recovery(cluster: Cluster, runs: Sequence[str], since: float) -> float:
    """Seconds until every run has gone beyond what it had logged, or has ended, and the API tells so."""
    # What the API told may be all that is left, when a disk is gone.
    before = {pk: max(cluster.logged_step(pk), (cluster.run(pk) or {"step": 0})["step"]) for pk in runs}
    waiting = list(runs)

    def all_went_on() -> bool:
        for pk in list(waiting):
            run = cluster.run(pk)
            if run is None:
                continue
            if run["status"] in ENDED or run["step"] > before[pk]:
                waiting.remove(pk)
        return not waiting

    cluster.wait(all_went_on, END_SECONDS, "every run to go on")
    return time.monotonic() - since


def main() -> int:
    known = {fault.name: fault for fault in FAULTS}
    only = [name for name in os.environ.get("ONLY", "").split(",") if name]
    if unknown := set(only) - set(known):
        print(f"There is no fault {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
        return 2
    short = os.environ.get("SHORT", "0") == "1"
    chosen = [known[name] for name in only] or [fault for fault in FAULTS if fault.quick or not short]
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    with campaign() as (cluster, watcher):
        for fault in chosen:
            try:
                row = attempt(cluster, watcher, fault)
            except Exception as error:  # noqa: BLE001 (the other faults are still to be tried)
                traceback.print_exc()
                row = {"name": fault.name, "what": fault.what, "unit": "s to recover", "bar": fault.bar}
                row |= {"figure": None, "ok": False, "note": f"**{type(error).__name__}: {error}**"}
            rows.append(row)
            print(f"{time.monotonic() - began:6.0f} s  {row}", flush=True)
            if not row["ok"] and os.environ.get("KEEP"):
                print(cluster.home.log_end())
            report.save(rows, list(known))
        base = cluster.base
    if left := processes_of(base / "home") + [p for name in cluster.machines for p in processes_of(base / name)]:
        print(f"Left over at the end: {left}")
        return 1
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
