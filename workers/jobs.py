"""Short work in a child process: what could crash, hang or fill the memory must not take the worker with it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from pydantic import BaseModel

from polm_core.errors import PolmError, ResourceError
from polm_core.run_dir import write_atomic
from webapp.studio.identity import Identity
from workers import presence

TICK = 0.5
# What reaches the database or the artifact store or signs for the studio is none of a child's business.
_KEPT_BACK = frozenset(
    {
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
        "DATABASE_URL",
        "BROKER_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "EMAIL_HOST_PASSWORD",
    }
)


class JobInterrupted(Exception):
    """The child was ended before it was done, because nobody waits for it here any more."""


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without the studio's secrets, and with `more`."""
    return {name: value for name, value in os.environ.items() if name not in _KEPT_BACK} | dict(more or {})


def run_job(
    command: Sequence[str],
    *,
    log: Path,
    go_on: Callable[[], bool],
    seconds: float,
    env: Mapping[str, str] | None = None,
    stopping: threading.Event | None = None,
) -> int:
    """Run `command` to its end and return its exit code (negative for a signal).

    `go_on` is asked twice a second. When it answers no, or `stopping` is set, the child and all it started are killed
    and JobInterrupted is raised; after `seconds` they are killed with a ResourceError. What they print goes to `log`.
    What a worker that was killed left running under the same log is ended first.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    record = log.with_suffix(".child.json")
    if orphan := Identity.read(record):
        orphan.kill_group()
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=child_environment(env),
            cwd=settings.BASE_DIR,
            start_new_session=True,
        )
    try:
        if identity := Identity.of(child.pid):
            identity.write(record)
        return _wait(child, go_on, seconds, stopping or threading.Event())
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        record.unlink(missing_ok=True)


def ask_child(
    module: str,
    job: BaseModel,
    folder: Path,
    *,
    tell: Callable[[dict[str, Any]], bool],
    seconds: float,
    died: PolmError,
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Have `python -m <module>` do a job in `folder`, and return its `answer.json`.

    `tell` is called twice a second with its `progress.json`, and says whether to go on. Raises what `run_job` does,
    what the child tells, and `died`, with how it ended, when it tells nothing.
    """
    path, log = folder / "job.json", folder / "log.txt"
    for left in ("answer.json", "progress.json"):  # by a worker that was lost at it
        (folder / left).unlink(missing_ok=True)
    write_atomic(path, job.model_dump_json())
    code = run_job(
        [sys.executable, "-m", module, str(path)],
        log=log,
        go_on=lambda: tell(_read_json(folder / "progress.json") or {}),
        seconds=seconds,
        env=env,
        stopping=presence.shutting_down,
    )
    answer = _read_json(folder / "answer.json")
    if answer is None:
        raise PolmError(f"{died.message} {how_it_ended(code, log)}", code=died.code, advice=died.advice)
    if told := answer.get("error"):
        raise PolmError(told["message"], code=told["code"], advice=told["advice"])
    return answer


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found


def how_it_ended(code: int, log: Path) -> str:
    """Why a job came to nothing, to go on a sentence with: how it ended, and the last that it printed."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    how = f"was killed (signal {-code})" if code < 0 else "failed"
    return f"{how}: {lines[-1][:300] if lines else 'it printed nothing'}"


def _wait(child: subprocess.Popen[bytes], go_on: Callable[[], bool], seconds: float, stopping: threading.Event) -> int:
    end = time.monotonic() + seconds
    while True:
        if stopping.is_set() or not go_on():
            raise JobInterrupted
        try:
            return child.wait(timeout=TICK)
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                break
    raise ResourceError(
        f"The work took over {seconds / 60:.0f} minutes and was ended.",
        code="resource.time",
        advice="See that the machine is not overloaded, then try again.",
    )
