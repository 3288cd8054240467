"""Runs in processes of their own that start warm: forked, as a worker's are, from one that has done the imports."""

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess

from polm_core.run import execute
from polm_core.run_dir import RunDir

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.warm_imports"])


def start_warm(run_dir: RunDir) -> ForkServerProcess:
    """Carry out a run in a session of its own, silently, as `python -m polm_core.run` does seconds later."""
    process = _context.Process(target=_carry_out, args=(run_dir,))
    process.start()
    return process


def _carry_out(run_dir: RunDir) -> None:
    os.setsid()
    with run_dir.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.exit(execute(run_dir.root))
