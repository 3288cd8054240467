"""Supervising one run: from claim to end, through any death on the way.

The training process never depends on its supervisor: a worker that comes back finds the run directory, and in it the
process or how it ended.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from polm_core.context import DatasetSpec, ModelSpec, RunSpec, dump_spec
from polm_core.errors import PolmError
from polm_core.formats import Format
from polm_core.run_dir import Outcome, Progress, Result, RunDir, Wish, write_atomic
from webapp import artifacts
from webapp.datasets.models import DatasetVersion
from webapp.runs.leases import (
    Claim,
    LeaseLost,
    lease_release,
    lease_renew,
    run_child_started,
    run_finish,
    run_progress,
)
from webapp.runs.models import Run, Status, Worker
from webapp.studio.identity import boot_id
from workers import children
from workers.models import local_path
from workers.shipping import Shipper
from workers.tailer import Tailer

logger = logging.getLogger(__name__)

TICK = 0.25
RENEW = 5.0
# A process that was asked to stop gets this long to reach its next step and write its checkpoint.
STOP_GRACE = 600.0
_WISHES = {Status.STOPPING: Wish.STOP, Status.PAUSING: Wish.PAUSE}


class Supervisor:
    """Carries one claimed run until it ends, the lease is lost, or the worker shuts down."""

    def __init__(self, claim: Claim, worker: Worker, shutting_down: threading.Event) -> None:
        self.claim = claim
        self.worker = worker
        self.shutting_down = shutting_down
        self.run_dir = RunDir(settings.RUNS_DIR / str(claim.run_id))
        self.child = children.Child(self.run_dir.root)
        self.tailer = Tailer(claim, self.run_dir)
        self.told: Wish | None = None
        self.told_at = 0.0
        self.progress: Progress | None = None

    def run(self) -> None:
        """Supervise to the end. Every failure on the way ends the run or leaves it for the next worker."""
        try:
            self._start_or_adopt()
            self._follow()
        except LeaseLost:
            logger.info("Run %s: another worker has taken over.", self.claim.run_id)
        except PolmError as error:
            self._fail(error.as_dict())
        except children.ForkServerDown as error:
            logger.error("Run %s: no training process could be started: %s", self.claim.run_id, error)
            lease_release(self.claim)

    def _fail(self, error: dict[str, Any]) -> None:
        try:
            run_finish(self.claim, Result(outcome=Outcome.FAILED, error=error))
        except LeaseLost:
            logger.info("Run %s: failed here, but another worker has it.", self.claim.run_id)

    # --- starting ---------------------------------------------------------------------------------------------------

    def _start_or_adopt(self) -> None:
        """Find the process of an earlier supervisor, or how it ended; else start one."""
        related = ("model__checkpoint__base_model", "dataset_version", "eval_dataset_version")
        run = Run.objects.select_related(*related).get(pk=self.claim.run_id)
        here = run.child is not None and run.child["boot_id"] == boot_id() and self.run_dir.root.exists()
        if self.child.alive():
            logger.info("Run %s: its process is still at work; taking it over.", self.claim.run_id)
        elif not here:
            with self._keeping_the_lease():
                self._start(run)
        keeper = self.child.keeper
        if keeper is not None:
            run_child_started(self.claim, {"pid": keeper.pid, "boot_id": keeper.boot_id})

    def _start(self, run: Run) -> None:
        if not self.run_dir.root.exists():
            self.run_dir.create()
            self.tailer.start_fresh()
            self._fetch_checkpoint(run)
        resume = self.run_dir.last_checkpoint()
        self._note_restart(resume)
        self.child.forget()
        write_atomic(self.run_dir.config, dump_spec(run_spec(run, resume=resume)))
        children.start("run", self.run_dir.root, self.run_dir.root, env=children.gpu_environment(run.devices))

    def _note_restart(self, resume: Path | None) -> None:
        """Say in the run's own log how the process before ended and where the next one goes on."""
        if not self.run_dir.log.exists():
            return
        code = self.child.exit_code()
        ended = f"The training process was ended by signal {-code}. " if code is not None and code < 0 else ""
        onward = f"Resuming from {resume.name}." if resume else "Starting from the beginning: there is no checkpoint."
        with self.run_dir.log.open("a") as log:
            log.write(f"{timezone.now():%Y-%m-%d %H:%M:%S} {ended}{onward}\n")

    @contextmanager
    def _keeping_the_lease(self) -> Iterator[None]:
        """Renew the lease while something takes long: warming up, or fetching a model from the store."""
        done = threading.Event()

        def renew() -> None:
            try:
                while not done.wait(RENEW):
                    with suppress(OperationalError):
                        lease_renew(self.claim)
            except LeaseLost:
                pass  # the next write of this supervisor finds out
            finally:
                connection.close()

        thread = threading.Thread(target=renew, name="keep-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _fetch_checkpoint(self, run: Run) -> None:
        """A run that moves here from another machine brings its last checkpoint along."""
        last = run.run_checkpoints.select_related("checkpoint").order_by("-step").first()
        if last is None or not last.checkpoint.trainer_state:
            return
        target = self.run_dir.checkpoint(last.step)
        if not target.exists():
            shutil.copytree(artifacts.local_folder(last.checkpoint.key), target)

    # --- following --------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        shipper = Shipper(self.claim, self.run_dir)
        try:
            while True:
                try:
                    alive = self.child.alive()
                    moved = self.tailer.read()
                    self._tell(moved.status)
                    self._report_progress()
                    shipper.look()
                    if not alive and not moved.anything and shipper.done():
                        self._end()
                        return
                    if self.shutting_down.is_set():
                        lease_release(self.claim)
                        return
                except (OperationalError, InterfaceError) as error:
                    logger.warning("Run %s: the database does not answer (%s).", self.claim.run_id, error)
                    connection.close()
                    if self.shutting_down.is_set():
                        return
                self.shutting_down.wait(TICK)
        finally:
            shipper.close()

    def _tell(self, status: Status) -> None:
        """Pass on what people ask; a process that does not listen is ended after a grace."""
        wish = _WISHES.get(status)
        if wish is None:
            return
        if wish != self.told:
            self.run_dir.ask(wish)
            self.told = wish
            self.told_at = time.monotonic()
        elif time.monotonic() > self.told_at + STOP_GRACE:
            self.child.kill()

    def _report_progress(self) -> None:
        progress = self.run_dir.read_progress()
        if progress is not None and progress != self.progress:
            run_progress(self.claim, progress)
            self.progress = progress

    def _end(self) -> None:
        result = self.run_dir.read_result()
        code = self.child.exit_code()
        if result is None and code is not None and code < 0:
            logger.warning("Run %s: its process was ended by signal %s.", self.claim.run_id, -code)
        status = run_finish(self.claim, result)
        logger.info("Run %s: %s.", self.claim.run_id, status)


def run_spec(run: Run, *, resume: Path | None = None) -> RunSpec:
    """The run as its process reads it, with everything it needs on this machine's disk."""
    model_path, adapter = local_path(run.model)
    return RunSpec(
        run_id=str(run.pk),
        method=run.method,
        model=ModelSpec(path=model_path, adapter=adapter, name=run.model.hub_id or run.model.name),
        dataset=dataset_spec(run.dataset_version),
        eval_dataset=dataset_spec(run.eval_dataset_version) if run.eval_dataset_version else None,
        config=run.config,
        resume=resume,
        code_version=run.code_version,
    )


def dataset_spec(version: DatasetVersion) -> DatasetSpec:
    """A version's rows on this machine's disk."""
    folder = artifacts.local_folder(version.rows_key)
    return DatasetSpec(path=folder / "rows.jsonl", format=Format(version.format))
