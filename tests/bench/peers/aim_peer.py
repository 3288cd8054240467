"""aim: log runs x keys x lines, print points a second. Runs in aim's own environment."""

import json
import random
import sys
import time

from aim import Repo, Run


def main(folder: str, runs: int, keys: int, lines: int) -> None:
    Repo.from_path(folder, init=True)
    dice = random.Random(1)
    started = time.perf_counter()
    for _ in range(runs):
        run = Run(repo=folder, system_tracking_interval=None, capture_terminal_logs=False)
        for step in range(lines):
            for key in range(keys):
                run.track(dice.gauss(0, 1), name=f"key/{key}", step=step)
        run.close()
    print(json.dumps({"points_per_second": runs * keys * lines / (time.perf_counter() - started)}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
