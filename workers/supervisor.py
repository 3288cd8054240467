"""Supervising one run: from claim to end, through any death on the way.

The training process never depends on its supervisor: a worker that comes back finds the run directory, and in it the
process or how it ended. Nor does it outlive the lease by long: where no supervisor can renew that, or another place has
taken the run over, it is ended, so that no run is ever worked on twice at once.
"""

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from polm_core.context import DatasetSpec, ModelSpec, RunSpec, dump_spec
from polm_core.errors import PolmError, disk_full, is_disk_full
from polm_core.evaluation.results import read_figures
from polm_core.formats import Format
from polm_core.run import EXIT_DISK_FULL
from polm_core.run_dir import Outcome, Progress, Result, RunDir, Wish, write_atomic
from polm_core.training.faults import as_polm_error
from webapp import artifacts
from webapp.datasets.models import DatasetVersion
from webapp.datasets.storing import images_key
from webapp.evaluations.services import results_record
from webapp.registry.models import BaseModel
from webapp.runs.leases import (
    ABANDONED_AFTER,
    Claim,
    LeaseLost,
    lease_release,
    lease_renew,
    run_child_started,
    run_finish,
    run_progress,
    run_resumed,
)
from webapp.runs.models import Run, Status, Worker
from webapp.studio.identity import wait_until
from workers import children
from workers.judges import judge_env
from workers.models import local_path
from workers.shipping import Shipper
from workers.tailer import Tailer
from workers.watchdog import Watchdog, note

logger = logging.getLogger(__name__)

TICK = 0.25
# How soon a line that comes after a quiet time is noticed.
GLANCE = 0.05
RENEW = 5.0
# A process that was asked to stop gets this long to reach its next step and write its checkpoint.
STOP_GRACE = 600.0
KILL_SECONDS = 30.0
PROBE_BYTES = 256 * 1024
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
        self.watchdog = Watchdog(claim, self.run_dir, self.child)
        # How the run ends, when that is not for the process to say: a full disk, a stall.
        self.verdict: Result | None = None
        self.told: Wish | None = None
        self.told_at = 0.0
        self.progress: Progress | None = None

    def run(self) -> None:
        """Supervise to the end. Every failure on the way ends the run or leaves it for the next worker."""
        try:
            self._carry()
        except (OperationalError, InterfaceError) as error:
            logger.warning("Run %s: the database does not answer (%s); left to the next.", self.claim.run_id, error)
            connection.close()
        except PolmError as error:
            self._fail(error.as_dict())
        except OSError as error:
            full = as_polm_error(error)
            if full is None:
                raise
            self._fail(full.as_dict())
        except children.ForkServerDown as error:
            logger.error("Run %s: no training process could be started: %s", self.claim.run_id, error)
            lease_release(self.claim)

    def _fail(self, error: dict[str, Any]) -> None:
        try:
            run_finish(self.claim, Result(outcome=Outcome.FAILED, error=error))
        except LeaseLost:
            logger.info("Run %s: failed here, but another worker has it.", self.claim.run_id)

    def _carry(self) -> None:
        try:
            self._clear_what_is_out_of_date()
            self._start_or_adopt()
            self._follow()
        except LeaseLost:
            self._leave()

    def _leave(self) -> None:
        """Another worker has the run. At this place it looks after our process; elsewhere it has one of its own."""
        logger.info("Run %s: another worker has taken over.", self.claim.run_id)
        taken_by = Run.objects.filter(pk=self.claim.run_id).values_list("worker__boot_id", flat=True).first()
        if taken_by != self.worker.boot_id:
            self._clear_away()

    # --- starting ---------------------------------------------------------------------------------------------------

    def _clear_what_is_out_of_date(self) -> None:
        """Remove a directory that is not the one of the claim before this: the run has been elsewhere since."""
        root, mark = self.run_dir.root, self.run_dir.root / ".epoch"
        if not root.exists():
            return
        if mark.exists() and mark.read_text() == str(self.claim.epoch - 1):
            write_atomic(mark, str(self.claim.epoch))
            return
        self._clear_away()

    def _clear_away(self) -> None:
        """End what works on the run here, and remove its directory."""
        logger.info("Run %s: what is here of it is out of date.", self.claim.run_id)
        self.child.kill()
        if not wait_until(lambda: not self.child.alive(), time.monotonic() + KILL_SECONDS):
            raise children.ForkServerDown("an earlier process of the run does not end")
        shutil.rmtree(self.run_dir.root, ignore_errors=True)

    def _start_or_adopt(self) -> None:
        """Find the process of an earlier supervisor, or how it ended; else start one."""
        related = (
            "model__checkpoint__base_model",
            "reward_model__checkpoint__base_model",
            "judge_model__checkpoint__base_model",
            "teacher_model__checkpoint__base_model",
            "dataset_version",
            "eval_dataset_version",
            "documents_version",
        )
        run = Run.objects.select_related(*related).get(pk=self.claim.run_id)
        here = run.child is not None and run.child["boot_id"] == self.worker.boot_id and self.run_dir.root.exists()
        if self.child.alive():
            logger.info("Run %s: its process is still at work; taking it over.", self.claim.run_id)
        elif not here:
            with self._keeping_the_lease():
                self._start(run)
        keeper = self.child.keeper
        if keeper is not None:
            run_child_started(self.claim, {"pid": keeper.pid, "boot_id": self.worker.boot_id})

    def _start(self, run: Run) -> None:
        if not self.run_dir.root.exists():
            self.run_dir.create()
            self.tailer.start_fresh()
            self._fetch_checkpoint(run)
            # Last, so that a directory that was not finished is not gone on with.
            write_atomic(self.run_dir.root / ".epoch", str(self.claim.epoch))
        resume = self.run_dir.last_checkpoint()
        self._note_restart(resume)
        if resume is not None:
            run_resumed(self.claim, self.run_dir.step_of(resume))
        self.child.forget()
        write_atomic(self.run_dir.config, dump_spec(run_spec(run, resume=resume)))
        root = self.run_dir.root
        env = children.gpu_environment(run.devices) | judge_env(run.team_id, run.config)
        children.start("run", root, root, env=env, abandoned_after=ABANDONED_AFTER.total_seconds())

    def _note_restart(self, resume: Path | None) -> None:
        """Say in the run's own log how the process before ended and where the next one goes on."""
        if not self.run_dir.log.exists():
            return
        code = self.child.exit_code()
        ended = f"The training process was ended by signal {-code}. " if code is not None and code < 0 else ""
        onward = f"Resuming from {resume.name}." if resume else "Starting from the beginning: there is no checkpoint."
        if not resume and self.run_dir.made.exists():
            onward = "Going on with the rows that it has made: there is no checkpoint."
        note(self.run_dir.log, ended + onward)

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
        quiet = False
        try:
            while True:
                try:
                    alive = self.child.alive()
                    moved = self.tailer.read()
                    quiet = not moved.anything
                    if alive:
                        self.child.attend()
                        self._tell(moved.status)
                    self._report_progress(alive)
                    shipper.look()
                    self._mind_the_store(shipper)
                    if not alive and not moved.anything and (self.verdict is not None or shipper.done()):
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
                except OSError as error:
                    if not is_disk_full(error):
                        raise
                    self._pause_for_space("The disk is full: the run directory cannot be written to.")
                    self.child.kill()
                self._rest(quiet)
        finally:
            shipper.close()

    def _rest(self, quiet: bool) -> None:
        """Wait for the next look; after a quiet one no longer than until there is something to see."""
        if not quiet:
            self.shutting_down.wait(TICK)
            return
        until, seen = time.monotonic() + TICK, self.tailer.metrics_size()
        while time.monotonic() < until and self.tailer.metrics_size() == seen:
            if self.shutting_down.wait(GLANCE):
                return

    def _tell(self, status: Status) -> None:
        """Pass on what people ask; a process that does not listen is ended after a grace."""
        wish = _WISHES.get(status) if self.verdict is None else Wish.PAUSE
        if wish is None:
            return
        if wish != self.told:
            self.run_dir.ask(wish)
            self.told = wish
            self.told_at = time.monotonic()
        elif time.monotonic() > self.told_at + STOP_GRACE:
            self.child.kill()

    def _report_progress(self, alive: bool) -> None:
        progress = self.run_dir.read_progress()
        if alive and self.verdict is None:
            self.verdict = self.watchdog.look(progress)
        if progress is None:
            return
        told = progress.model_copy(update={"alive_at": 0.0})
        if told != self.progress:
            run_progress(self.claim, progress)
            self.progress = told

    def _mind_the_store(self, shipper: Shipper) -> None:
        if shipper.full and self.verdict is None:
            self._pause_for_space("The artifact store is full: a checkpoint could not be stored.")

    def _pause_for_space(self, message: str) -> None:
        logger.warning("Run %s: %s It is paused.", self.claim.run_id, message)
        self.verdict = Result(outcome=Outcome.FAILED, error=disk_full(message).as_dict())

    def _end(self) -> None:
        code = self.child.exit_code()
        if code is not None and code < 0:
            logger.warning("Run %s: its process was ended by signal %s.", self.claim.run_id, -code)
        result = self.verdict or self.run_dir.read_result() or self._unsaid(code)
        if result is not None and result.outcome is Outcome.SUCCEEDED:
            results_record(self.claim, read_figures(self.run_dir.figures))
        status = run_finish(self.claim, result)
        logger.info("Run %s: %s.", self.claim.run_id, status)

    def _unsaid(self, code: int | None) -> Result | None:
        """What a process that left no result would have said, where that can be told."""
        if self.child.abandoned():
            return Result(outcome=Outcome.PAUSED)
        if code == EXIT_DISK_FULL or _has_no_space(self.run_dir.root):
            error = disk_full("The disk is full: a file of the run could not be written.")
            return Result(outcome=Outcome.FAILED, error=error.as_dict())
        return None


def _has_no_space(folder: Path) -> bool:
    """Whether a file of some size cannot be written there now, quotas included."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
    except OSError as error:
        return is_disk_full(error)
    return False


def run_spec(run: Run, *, resume: Path | None = None) -> RunSpec:
    """The run as its process reads it, with everything it needs on this machine's disk."""
    merged = run.merge_models.select_related("model__checkpoint__base_model")
    return RunSpec(
        run_id=str(run.pk),
        method=run.method,
        model=model_spec(run.model),
        reward_model=model_spec(run.reward_model) if run.reward_model else None,
        judge_model=model_spec(run.judge_model) if run.judge_model else None,
        teacher_model=model_spec(run.teacher_model) if run.teacher_model else None,
        merge_models=[model_spec(one.model) for one in merged],
        dataset=dataset_spec(run.dataset_version) if run.dataset_version else None,
        eval_dataset=dataset_spec(run.eval_dataset_version) if run.eval_dataset_version else None,
        documents=dataset_spec(run.documents_version) if run.documents_version else None,
        config=run.config,
        resume=resume,
        code_version=run.code_version,
    )


def model_spec(model: BaseModel) -> ModelSpec:
    """A model on this machine's disk."""
    path, adapter = local_path(model)
    return ModelSpec(path=path, adapter=adapter, name=model.hub_id or model.name)


def dataset_spec(version: DatasetVersion) -> DatasetSpec:
    """A version's rows, and their images, on this machine's disk."""
    folder = artifacts.local_folder(version.rows_key)
    images = artifacts.local_folder(images_key(version.rows_key)) if version.has_images else None
    return DatasetSpec(path=folder / "rows.jsonl", format=Format(version.format), images=images)
