"""Running what a run directory describes, from its `config.yaml` to its `result.json`."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from polm_core.blocks import TrainConfig
from polm_core.context import PREEMPTED, Ending, InterruptedRun, RunContext, finite, load_spec
from polm_core.environment import set_environment
from polm_core.errors import ConfigError, PolmError
from polm_core.run_dir import Outcome, Result, RunDir

EXIT_OK = 0
EXIT_CRASHED = 1
EXIT_FAILED = 2


def preload() -> None:
    """Import what every run needs, for a fork server; starts no Python thread and computes nothing."""
    set_environment()
    import bitsandbytes  # noqa: F401
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch._dynamo
    import transformers  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401
    from trl import DPOTrainer, SFTTrainer  # noqa: F401

    import polm_core.catalogue
    import polm_core.training.reporting  # noqa: F401


def launch_command(run_dir: Path, config: TrainConfig) -> list[str]:
    """The command that runs `run_dir` in a process of its own, or in as many as the run asks for."""
    module = ["polm_core.run", str(run_dir)]
    if config.processes == 1:
        return [sys.executable, "-m", *module]
    hardware = ["--cpu"] if config.devices == "cpu" else []
    processes = ["--num_processes", str(config.processes), "--num_machines", "1", "--mixed_precision", "no"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *hardware, *processes, "--dynamo_backend", "no"]
    return [*launcher, "--module", *module]


def execute(run_dir: Path) -> int:
    """Run what `run_dir/config.yaml` describes and leave a `result.json`, whatever happens.

    SIGTERM has the run saved and paused, SIGINT saved and stopped. What is printed goes to the process's own output:
    the caller points that at the run's log. Returns 0 when the run succeeded, stopped or paused, 2 when it failed
    for a reason the result tells, 1 when it crashed (the traceback is printed).
    """
    directory = RunDir(run_dir)
    directory.create()
    set_environment()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("polm_core").setLevel(logging.INFO)
    try:
        result, code = _run(directory)
    except BaseException as error:  # noqa: BLE001 - the last word on the run is written whatever went wrong
        result, code = _fault(error)
    if os.environ.get("RANK", "0") == "0":
        directory.write_result(result)
    return code


def _run(directory: RunDir) -> tuple[Result, int]:
    from polm_core import catalogue

    spec = load_spec(directory.config)
    method = catalogue.get(spec.method)
    config = method.parse(spec.config)
    _check_processes(config)
    with RunContext(directory, spec) as context, _signals(context):
        try:
            metrics = method.run(config, context)
        except InterruptedRun:
            metrics = {}
        ending = context.ending or Ending(Outcome.SUCCEEDED)
    return Result(outcome=ending.outcome, metrics=finite(metrics), error=ending.error), EXIT_OK


def _check_processes(config: Any) -> None:
    """A run of several processes needs all of them: this one alone would train something else."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != config.processes:
        problem = f"must be {started}, the number of processes that were started"
        raise ConfigError(
            f"processes {problem}.",
            fields={"config.processes": [problem]},
            advice="`python -m polm_core run` starts as many as the config asks for.",
        )


def _fault(error: BaseException) -> tuple[Result, int]:
    from polm_core.training.faults import as_polm_error

    traceback.print_exception(error)
    expected = as_polm_error(error)
    if expected is not None:
        return Result(outcome=Outcome.FAILED, error=expected.as_dict()), EXIT_FAILED
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

    before: dict[int, Any] = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, on_terminate),
        signal.SIGINT: signal.signal(signal.SIGINT, on_interrupt),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(execute(Path(sys.argv[1])))
