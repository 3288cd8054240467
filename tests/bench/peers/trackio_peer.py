"""trackio: store runs x keys x lines, print points a second. Runs in trackio's own environment.

Straight into its store, in batches of the size that its server gets from a client: its fastest way in.
"""

import json
import os
import random
import sys
import time

BATCH = 200


def main(folder: str, runs: int, keys: int, lines: int) -> None:
    os.environ["TRACKIO_DIR"] = folder
    from trackio.sqlite_storage import SQLiteStorage

    dice = random.Random(1)
    started = time.perf_counter()
    for number in range(runs):
        for first in range(0, lines, BATCH):
            steps = list(range(first, min(first + BATCH, lines)))
            rows = [{f"key/{key}": dice.gauss(0, 1) for key in range(keys)} for _ in steps]
            SQLiteStorage.bulk_log("bench", f"run-{number}", rows, steps=steps)
    print(json.dumps({"points_per_second": runs * keys * lines / (time.perf_counter() - started)}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
