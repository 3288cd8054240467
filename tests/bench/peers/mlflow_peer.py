"""mlflow with its server on Postgres. Runs in mlflow's own environment.

`mlflow_peer.py ingest DATABASE RUNS KEYS LINES` logs in batches of 1,000, the most that it takes, from two clients;
`mlflow_peer.py chart DATABASE RUNS POINTS REPEATS` asks for one key of many runs, 320 points of each.
"""

import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2

API = "api/2.0/mlflow"
BATCH = 1_000
CLIENTS = 2


class Server:
    """`mlflow server` with two workers, for as long as the context lasts."""

    def __init__(self, database: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.database = database

    def __enter__(self) -> "Server":
        url = self.database.replace("postgresql://", "postgresql+psycopg2://")
        mlflow = [sys.executable, "-m", "mlflow"]
        environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}  # noqa: PTH120
        # Two workers that both find no tables end each other.
        subprocess.run([*mlflow, "db", "upgrade", url], check=True, capture_output=True, env=environment)
        command = [*mlflow, "server", "--backend-store-uri", url, "--workers", "2", "--port", str(self.port)]
        with open("mlflow-server.log", "ab") as log:  # noqa: PTH123
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2)
                return self
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError("mlflow's server does not start") from None
                time.sleep(0.5)

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.port}/{API}/{path}"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        return json.load(urllib.request.urlopen(request, timeout=120))  # noqa: S310

    def get(self, path: str, query: Any) -> bytes:
        address = f"http://127.0.0.1:{self.port}/{path}?{urllib.parse.urlencode(query, doseq=True)}"
        return urllib.request.urlopen(address, timeout=300).read()  # type: ignore[no-any-return]

    def new_run(self) -> str:
        made = self.post("runs/create", {"experiment_id": "0", "start_time": int(time.time() * 1000)})
        return made["run"]["info"]["run_id"]  # type: ignore[no-any-return]


def ingest(database: str, runs: int, keys: int, lines: int) -> dict[str, float]:
    with Server(database) as server:
        ids = [server.new_run() for _ in range(runs)]
        dice = random.Random(1)

        def log(run: str) -> None:
            points = [(key, step) for step in range(lines) for key in range(keys)]
            for first in range(0, len(points), BATCH):
                metrics = [
                    {"key": f"key/{key}", "value": dice.gauss(0, 1), "timestamp": 1_790_000_000_000, "step": step}
                    for key, step in points[first : first + BATCH]
                ]
                server.post("runs/log-batch", {"run_id": run, "metrics": metrics})

        # What a worker loads with its first requests is not counted.
        for _ in range(8):
            server.post("runs/log-batch", {"run_id": server.new_run(), "metrics": []})
        started = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(log, ids))
        return {"points_per_second": runs * keys * lines / (time.perf_counter() - started)}


def chart(database: str, runs: int, points: int, repeats: int) -> dict[str, Any]:
    """The points go straight into mlflow's own table, as its server would take half an hour for them."""
    with Server(database) as server:
        ids = [server.new_run() for _ in range(runs)]
        with psycopg2.connect(database) as connection, connection.cursor() as cursor:
            for run in ids:
                cursor.execute(
                    "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)"
                    " SELECT 'loss', CASE WHEN step = 7777 THEN 500 ELSE random() END, 1790000000000 + step, %s, step,"
                    " false FROM generate_series(0, %s) AS step",
                    [run, points - 1],
                )
        connection.close()
        analyse = psycopg2.connect(database)
        analyse.autocommit = True
        analyse.cursor().execute("VACUUM ANALYZE metrics")
        analyse.close()
        times, answer = [], b""
        for _ in range(repeats):
            started = time.perf_counter()
            query = {"run_ids": ids, "metric_key": "loss", "max_results": 320}
            answer = server.get("ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", query)
            times.append(time.perf_counter() - started)
        found = json.loads(answer)["metrics"]
        kept = any(one["value"] == 500 for one in found)
        return {"seconds": statistics.median(times), "points": len(found) / runs, "spike_kept": kept}


if __name__ == "__main__":
    what, where = {"ingest": ingest, "chart": chart}[sys.argv[1]], sys.argv[2]
    print(json.dumps(what(where, *map(int, sys.argv[3:]))))  # noqa: T201
