"""What must hold after every fault."""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.cluster import Cluster
from tests.chaos.watch import Watcher, trainers

ORPHAN_SECONDS = 10.0
POINTS = 5000


def violations(cluster: Cluster, watcher: Watcher, runs: Sequence[str], ends: str) -> dict[str, list[str]]:
    """What is wrong after a fault, by check; each list is empty when all is well. `ends` is how each run must end."""
    return {
        "lost": [f"{pk} is {found['status']}" for pk in runs if (found := _run(cluster, pk))["status"] != ends],
        "twice": watcher.twice(runs),
        "points": [problem for pk in runs for problem in _points(cluster, pk)],
        "orphans": _orphans(cluster, runs),
        "half checkpoints": [problem for pk in runs for problem in _checkpoints(cluster, pk)],
    }


def _run(cluster: Cluster, pk: str) -> dict[str, Any]:
    return cluster.home.run(pk)


def _points(cluster: Cluster, pk: str) -> list[str]:
    """Where the stored points are not the newest line written for each step, each once."""
    run, written = _run(cluster, pk), _written(cluster, pk)
    problems = []
    loss = run["summary"].get("loss", {}).get("count", 0)
    if loss != run["step"]:
        problems.append(f"{pk}: {loss} points of loss for {run['step']} steps")
    for key, summary in run["summary"].items():
        stored = cluster.home.api.get(f"/runs/{pk}/metrics/{key}", params={"points": POINTS}).json()
        if stored["level"]:
            problems.append(f"{pk}: over {POINTS} points of {key}, too many to compare")
            continue
        if summary["count"] != len(set(stored["step"])):
            problems.append(f"{pk}: {summary['count']} points of {key} at {len(set(stored['step']))} steps")
        lines = written.get(key, {})
        wrong = [
            step
            for step, value in zip(stored["step"], stored["mean"], strict=True)
            if step in lines and value is not None and not math.isclose(value, lines[step], rel_tol=1e-4, abs_tol=1e-9)
        ]
        if wrong or not set(lines) <= set(stored["step"]):
            problems.append(f"{pk}: {key} differs from the file at {wrong or set(lines) - set(stored['step'])}")
    if missing := set(written) - set(run["summary"]):
        problems.append(f"{pk}: {', '.join(sorted(missing))} not stored")
    return problems


def _written(cluster: Cluster, pk: str) -> dict[str, dict[int, float]]:
    """The values of the last line of each step in the metrics of the machine that had the run last."""
    files = [machine.var / "runs" / pk / "metrics.jsonl" for machine in cluster.machines.values()]
    newest = max((file for file in files if file.exists()), key=_last_claim, default=None)
    found: dict[str, dict[int, float]] = {}
    for raw in newest.read_bytes().splitlines() if newest else []:
        try:
            line = json.loads(raw)
            for key, value in line["values"].items():
                found.setdefault(key, {})[int(line["step"])] = float(value)
        except (ValueError, KeyError, TypeError):
            continue  # a line that a fault has spoilt
    return found


def _last_claim(file: Path) -> int:
    mark = file.with_name(".epoch")
    return int(mark.read_text()) if mark.exists() else 0


def _orphans(cluster: Cluster, runs: Sequence[str]) -> list[str]:
    deadline = time.monotonic() + ORPHAN_SECONDS
    while True:
        left = [f"{run} is still trained by {pids}" for run, pids in trainers(cluster.base).items() if run in runs]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def _checkpoints(cluster: Cluster, pk: str) -> list[str]:
    """Listed checkpoints that are not whole in the store; a run that ended well lists at least its last."""
    items = cluster.home.api.get(f"/runs/{pk}/checkpoints").json()["items"]
    problems = [] if items else [f"{pk} lists no checkpoint"]
    for item in items:
        folder = cluster.artifacts / "runs" / pk / f"step-{item['step']}"
        for file in cluster.home.api.get(f"/checkpoints/{item['id']}").json()["files"]:
            path = folder / file["path"]
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                problems.append(f"{pk}: {path} is not what is listed")
    return problems
