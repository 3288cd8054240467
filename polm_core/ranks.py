"""A run of several processes on one machine: forked warm, told things through the first, and ended together.

torchrun and `accelerate launch` would start each process cold, give it half a minute to save its work when the machine
asks for room, and leave it running when they are killed themselves. So the ranks are forked by torch's own
multiprocessing, as accelerate's notebook launcher does it, and die with the process that forked them.
"""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from polm_core.environment import die_with_parent

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What is left of a run gets so many seconds to end by itself once one of its processes has.
GRACE = 10.0
_POLL = 1.0


def run_ranks(entry: Callable[[Path], int], root: Path, count: int, *, start: Literal["fork", "spawn"]) -> str:
    """Call `entry(root)` in `count` processes of one torch.distributed group.

    Returns when all have ended: an empty string, or how the first that did not end well did. `fork` starts them warm;
    nothing may have been computed with torch in this process before, as its threads do not survive the fork, and no
    GPU asked for anything, as the driver does not either: with GPUs, take `spawn`.
    """
    from torch import multiprocessing
    from torch.multiprocessing import ProcessExitedException

    arguments = (entry, root, count, _free_port(), os.getpid())
    ranks = multiprocessing.start_processes(_rank, arguments, nprocs=count, join=False, start_method=start)
    with _passing_on(ranks.pids()[0]):
        try:
            while not ranks.join(timeout=_POLL, grace_period=GRACE):
                if ranks.processes[0].exitcode == 0:
                    _end(ranks.processes[1:])
        except ProcessExitedException as error:
            how = f"was ended by {error.signal_name}" if error.signal_name else f"ended with code {error.exit_code}"
            return f"process {error.error_index + 1} of {count} {how}"
    return ""


def _rank(rank: int, entry: Callable[[Path], int], root: Path, count: int, port: int, launcher: int) -> None:
    import torch

    _die_with(launcher)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    # Ranks that each take every core wait for one another more than they compute.
    threads = max(1, torch.get_num_threads() // count)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    code = 1
    try:
        code = entry(root)
    except Exception:  # noqa: BLE001 (else torch would write it to a file, for which there may be no room)
        traceback.print_exc()
    sys.exit(code)


def _die_with(parent: int) -> None:
    """End with the parent, so that no rank trains on unsupervised."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def _passing_on(first: int) -> Iterator[None]:
    """Pass signals on to the first rank, which decides for all at which step the run ends."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(first, number)

    before = [(number, signal.signal(number, pass_on)) for number in ENDING_SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _end(others: list[Any]) -> None:
    """The first rank has said the last word: end those that still wait for it in vain."""
    deadline = time.monotonic() + GRACE
    for process in others:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
