"""Noticing a training process that lives and does nothing."""

import datetime
import logging
import time
from enum import StrEnum
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from polm_core.errors import PolmError
from polm_core.run_dir import Outcome, Progress, Result, RunDir
from webapp.runs.leases import Claim, run_stalled
from workers.children import Child

logger = logging.getLogger(__name__)

# A process may be silent for this many of its own steps: evaluations and checkpoints come between them.
STEPS = 20
# Loading a large model or writing its checkpoint says nothing for long.
QUIET_PHASES = 5
# After this many times the silence that counts as a stall, the policy is carried out.
ACT_AFTER = 3


class Policy(StrEnum):
    """What becomes of a run that has stalled for long."""

    WAIT = "wait"
    RETRY = "retry"
    STOP = "stop"


class Watchdog:
    """Watches one run's signs of life, by this process's own clock."""

    def __init__(self, claim: Claim, run_dir: RunDir, child: Child) -> None:
        self.claim = claim
        self.run_dir = run_dir
        self.child = child
        self.stalled = False
        self._sign: float | None = None
        self._heard_at = time.monotonic()

    def look(self, progress: Progress | None) -> Result | None:
        """Note a stall or its end; returns how the run is to end when the policy's patience is over.

        Raises LeaseLost.
        """
        now = time.monotonic()
        sign = progress.alive_at if progress is not None else None
        if sign != self._sign:
            self._sign, self._heard_at = sign, now
            if self.stalled:
                self.stalled = False
                run_stalled(self.claim, since=None)
                self._say("There are signs of life again.")
            return None
        silence, patience = now - self._heard_at, patience_with(progress)
        if silence > patience and not self.stalled:
            self.stalled = True
            self._report(silence)
        if silence > ACT_AFTER * patience:
            return self._act(silence)
        return None

    def _report(self, silence: float) -> None:
        logger.warning("Run %s: no sign of life for %.0f s.", self.claim.run_id, silence)
        run_stalled(self.claim, since=timezone.now() - datetime.timedelta(seconds=silence))
        self._say(f"No sign of life for {silence:.0f} s. Where each thread of the training process is:")
        if problem := self.child.dump_stacks():
            self._say(problem)

    def _act(self, silence: float) -> Result | None:
        policy = Policy(settings.STALL_POLICY)
        if policy == Policy.WAIT:
            return None
        self._say(f"No sign of life for {silence:.0f} s: the training process is ended.")
        self.child.kill()
        error = PolmError(
            f"The training process gave no sign of life for {silence:.0f} s and was ended.",
            code="stalled",
            advice="The log shows where it hung; resuming goes on from the last checkpoint. If its steps really take "
            "that long, raise POLM_STALL_SECONDS on the worker.",
        )
        return Result(outcome=Outcome.CRASHED if policy == Policy.RETRY else Outcome.FAILED, error=error.as_dict())

    def _say(self, text: str) -> None:
        note(self.run_dir.log, text)


def patience_with(progress: Progress | None) -> float:
    """How many seconds without a sign of life are no reason to worry, by the run's own pace."""
    at_least = float(settings.STALL_SECONDS)
    if progress is None or not progress.seconds_per_step or progress.phase == "saving":
        return QUIET_PHASES * at_least
    return max(at_least, STEPS * progress.seconds_per_step)


def note(log: Path, text: str) -> None:
    """Add a line of the supervisor's to the run's own log."""
    with log.open("a") as file:
        file.write(f"{timezone.now():%Y-%m-%d %H:%M:%S} {text}\n")
