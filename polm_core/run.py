"""Running what a run directory describes, from its `config.yaml` to its `result.json`."""

import faulthandler
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import cast

from polm_core import catalogue
from polm_core.blocks import RunConfig
from polm_core.context import PREEMPTED, Ending, InterruptedRun, RunContext, RunSpec, finite, load_spec
from polm_core.environment import set_environment
from polm_core.errors import DISK_FULL, PolmError
from polm_core.method import Method
from polm_core.ranks import ENDING_SIGNALS, run_ranks
from polm_core.run_dir import STACKS, Outcome, Result, RunDir

EXIT_OK = 0
EXIT_CRASHED = 1
EXIT_FAILED = 2
EXIT_DISK_FULL = 3


def preload() -> None:
    """Import what every run needs, for a fork server; starts no Python thread and computes nothing."""
    set_environment()
    import bitsandbytes  # noqa: F401
    import datasets  # noqa: F401
    import datasketch  # noqa: F401
    import peft  # noqa: F401
    import torch._dynamo  # noqa: F401
    import transformers  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401
    from trl import DPOTrainer, RLOOTrainer, SFTTrainer  # noqa: F401

    import polm_core.training.reporting  # noqa: F401


def execute(run_dir: Path) -> int:
    """Run what `run_dir/config.yaml` describes and leave a `result.json`, whatever happens.

    A run of several processes is started as such, and waited for. SIGTERM has the run saved and paused, SIGINT saved
    and stopped, SIGUSR1 has the stacks of all threads printed. What is printed goes to the process's own output: the
    caller points that at the run's log. Returns 0 when the run succeeded, stopped or paused, 2 when it failed for a
    reason the result tells, 1 when it crashed (the traceback is printed), 3 when the disk is full, in which case there
    may be no result.
    """
    faulthandler.register(STACKS, file=2)
    directory = RunDir(run_dir)
    directory.create()
    set_environment()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # What every process of a run would say is said by the first.
    logging.getLogger("polm_core").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    try:
        spec = load_spec(directory.config)
        method = catalogue.get(spec.method)
        config = cast(RunConfig, method.parse(spec.config))
        if config.processes > 1 and "WORLD_SIZE" not in os.environ:
            return _launch(directory, config)
        result, code = _run(directory, spec, method, config), EXIT_OK
    except BaseException as error:  # noqa: BLE001 - the last word on the run is written whatever went wrong
        result, code = _fault(error)
    try:
        _leave(directory, result, code)
    except OSError:
        return EXIT_DISK_FULL
    return code


def _run(directory: RunDir, spec: RunSpec, method: Method, config: RunConfig) -> Result:
    with RunContext(directory, spec) as context, _signals(context):
        try:
            metrics = method.run(config, context)
        except InterruptedRun:
            metrics = {}
        ending = context.ending or Ending(Outcome.SUCCEEDED)
    return Result(outcome=ending.outcome, metrics=finite(metrics), error=ending.error)


def _launch(directory: RunDir, config: RunConfig) -> int:
    """Run in several processes, which leave one result; its exit code stands for all."""
    from polm_core.training.loading import has_accelerator

    directory.result.unlink(missing_ok=True)
    gpus = has_accelerator(config)
    if not gpus:
        preload()
    lost = run_ranks(execute, directory.root, config.processes, start="spawn" if gpus else "fork")
    result = directory.read_result()
    # Ranks that lose another crash over it: what ended that one is what happened.
    if result is None or (lost and result.outcome is Outcome.CRASHED):
        raise RuntimeError(lost or "the training processes ended and left no result")
    return {Outcome.FAILED: EXIT_FAILED, Outcome.CRASHED: EXIT_CRASHED}.get(result.outcome, EXIT_OK)


def _leave(directory: RunDir, result: Result, code: int) -> None:
    """Write the result. Of several processes the first reports a good end, and whoever fails first a bad one."""
    rank = os.environ.get("RANK")
    if rank is None or (not directory.result.exists() if code else rank == "0"):
        directory.write_result(result)


def _fault(error: BaseException) -> tuple[Result, int]:
    from polm_core.training.faults import as_polm_error

    with suppress(OSError):  # the log may be on the disk that is full
        traceback.print_exception(error)
    expected = as_polm_error(error)
    if expected is not None:
        code = EXIT_DISK_FULL if expected.code == DISK_FULL else EXIT_FAILED
        return Result(outcome=Outcome.FAILED, error=expected.as_dict()), code
    crash = PolmError(f"{type(error).__name__}: {error}", code="crash", advice="The log holds the traceback.")
    return Result(outcome=Outcome.CRASHED, error=crash.as_dict()), EXIT_CRASHED


@contextmanager
def _signals(context: RunContext) -> Iterator[None]:
    """End the run at its next step on SIGTERM (pause) and SIGINT (stop; a second one interrupts at once)."""

    def on_terminate(number: int, frame: FrameType | None) -> None:
        context.ask(PREEMPTED)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        context.ask(Ending(Outcome.STOPPED))
        signal.signal(signal.SIGINT, signal.default_int_handler)

    handlers = zip(ENDING_SIGNALS, (on_terminate, on_interrupt), strict=True)
    before = [(number, signal.signal(number, handler)) for number, handler in handlers]
    try:
        yield
    finally:
        for number, previous in before:
            signal.signal(number, previous)


if __name__ == "__main__":
    sys.exit(execute(Path(sys.argv[1])))
