"""Preparing uploaded files: each in a child process, so that a hostile file ends that process and nothing else."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings
from django.db import DatabaseError, connection

from polm_core.data.preview import HEAD_NAME
from polm_core.data.report import PrepareProgress, PrepareReport, Status, read_progress, read_report
from polm_core.errors import ResourceError
from webapp import artifacts
from webapp.datasets.leases import (
    LEASE,
    Claim,
    LeaseLost,
    lease_release,
    lease_renew,
    version_claim,
    version_crashed,
    version_finish,
    version_progress,
)
from webapp.datasets.models import DatasetVersion
from webapp.datasets.services import head_folder, version_folder
from webapp.datasets.storing import rows_discard, rows_store
from webapp.errors import Invalid, NotFound
from webapp.studio.identity import Identity
from workers import presence
from workers.derived import derived_job, fetched

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
PROGRESS_SECONDS = 1.0
# A child that reports nothing new for so long is stuck.
STALL_SECONDS = 600.0
LOG_TAIL = 4000
# Some tasks make rows by the order of a set, and the same seed is to give the same rows.
FIXED_HASHES = {"PYTHONHASHSEED": "0"}


class ChildDied(Exception):
    """The preparing process ended without a report, or hung; the message is the end of what it printed."""


class ShuttingDown(Exception):
    """The worker is to end before the file is read."""


def process(version_id: str) -> None:
    """Prepare a dataset version, unless another worker does, and leave it ready or invalid.

    A preparation that dies is tried again, three times in all. A worker that is told to stop hands the version back.
    """
    claim = version_claim(version_id=uuid.UUID(version_id))
    if claim is None:
        return
    with _scratch(claim) as folder, _renewed(claim) as lost:
        try:
            _prepare(claim, folder, lost)
        except LeaseLost:
            logger.info("Dataset version %s is no longer ours; stopped.", claim.version_id)
            if not DatasetVersion.objects.filter(pk=claim.version_id).exists():
                artifacts.delete(version_folder(claim.version_id))
        except ShuttingDown:
            lease_release(claim)
        except ChildDied as error:
            logger.error("Preparing dataset version %s died: %s", claim.version_id, error)
            with suppress(LeaseLost):
                version_crashed(claim)


def _prepare(claim: Claim, folder: Path, lost: threading.Event) -> None:
    try:
        parts = derived_job(claim, folder) if claim.derivation else {"source": str(_uploaded(claim, folder))}
    except (NotFound, Invalid) as error:
        version_finish(claim, PrepareReport(status=Status.INVALID, error=error.as_dict()))
        return
    out = folder / "out"
    report = _run_child(claim, folder, parts, out, lost)
    if (out / HEAD_NAME).exists():
        artifacts.put(out / HEAD_NAME, f"{head_folder(claim.version_id)}/{HEAD_NAME}")
    if report.status != Status.READY:
        version_finish(claim, report)
        return
    rows_key = f"{version_folder(claim.version_id)}/rows-{claim.epoch}"
    try:
        rows_store(out, rows_key, report.sha256)
        version_finish(claim, report, rows_key=rows_key)
    except ResourceError as error:
        rows_discard(rows_key)
        version_finish(claim, PrepareReport(status=Status.INVALID, error=error.as_dict()))
    except BaseException:
        rows_discard(rows_key)
        raise


def _run_child(claim: Claim, folder: Path, parts: dict[str, Any], out: Path, lost: threading.Event) -> PrepareReport:
    """Have the file read, or the rows made up, by a process of its own, passing its progress on.

    `parts` are those fields of the job that say where the rows come from.
    """
    job = {
        "filename": claim.filename,
        "out": str(out),
        "format": claim.format or None,
        "mapping": claim.mapping,
        **parts,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    log = folder / "log.txt"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "polm_core.data.prepare", str(folder / "job.yaml")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=settings.BASE_DIR,
            env=_environment(folder) | (FIXED_HASHES if "task" in job else {}),
            start_new_session=True,
        )
    try:
        if identity := Identity.of(child.pid):
            identity.write(folder / "child.json")
        _watch(claim, child, out, lost)
    finally:
        _kill(child)
    report = read_report(out)
    if report is None:
        raise ChildDied(f"exit code {child.returncode}\n{_tail(log)}")
    return report


def _watch(claim: Claim, child: subprocess.Popen[bytes], out: Path, lost: threading.Event) -> None:
    """Pass progress on until the child ends. Raises LeaseLost, ShuttingDown, or ChildDied for a child that hangs."""
    told: PrepareProgress | None = None
    changed_at = told_at = time.monotonic()
    while not _ended(child):
        if lost.is_set():
            raise LeaseLost
        if presence.shutting_down.is_set():
            raise ShuttingDown
        now = time.monotonic()
        progress = read_progress(out)
        if progress == told:
            if now - changed_at > STALL_SECONDS:
                raise ChildDied(f"no progress for {STALL_SECONDS:.0f} s")
            continue
        changed_at = now
        if progress is not None and now - told_at >= PROGRESS_SECONDS:
            version_progress(claim, progress.model_dump(mode="json"))
            told, told_at = progress, now


def _ended(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _tail(log: Path) -> str:
    return log.read_bytes()[-LOG_TAIL:].decode(errors="replace")


def _uploaded(claim: Claim, folder: Path) -> Path:
    """The uploaded file, on this machine's disk. Raises NotFound."""
    if artifacts.is_local():
        path = artifacts.local_folder(claim.source_key)
        if not path.is_file():
            raise NotFound("The uploaded file is no longer in the artifact store.", advice="Upload it again.")
        return path
    return fetched(claim.source_key, folder / "source")


def _environment(folder: Path) -> dict[str, str]:
    """What the child may know: how to run and where to put temporary files, but none of the studio's secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH") if name in os.environ}
    return {**kept, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}


@contextmanager
def _scratch(claim: Claim) -> Iterator[Path]:
    """A folder for this attempt; what a worker that was killed left of an earlier one is ended and removed."""
    root: Path = settings.CACHE_DIR / "prepare"
    for left in root.glob(f"{claim.version_id}-*"):
        if orphan := Identity.read(left / "child.json"):
            orphan.kill_group()
        shutil.rmtree(left, ignore_errors=True)
    folder = root / f"{claim.version_id}-{claim.epoch}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _renewed(claim: Claim) -> Iterator[threading.Event]:
    """Keep the lease while the block runs; the event is set when it was lost."""
    lost, done = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(LEASE.total_seconds() / 4):
            try:
                lease_renew(claim)
            except LeaseLost:
                lost.set()
                return
            except DatabaseError as error:
                logger.warning("The lease of dataset version %s was not renewed: %s", claim.version_id, error)
            finally:
                connection.close()

    thread = threading.Thread(target=renew, name=f"lease-{claim.version_id}", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()
