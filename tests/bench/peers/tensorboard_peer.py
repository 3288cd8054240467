"""tensorboard: write runs x keys x lines to event files, print points a second. Runs in its own environment."""

import json
import random
import sys
import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter


def main(folder: str, runs: int, keys: int, lines: int) -> None:
    dice = random.Random(1)
    started = time.perf_counter()
    for number in range(runs):
        writer = EventFileWriter(f"{folder}/{number}")
        for step in range(lines):
            for key in range(keys):
                value = Summary.Value(tag=f"key/{key}", simple_value=dice.gauss(0, 1))
                writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=[value])))
        writer.close()
    print(json.dumps({"points_per_second": runs * keys * lines / (time.perf_counter() - started)}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
