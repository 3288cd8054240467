"""Bringing complete checkpoints into the artifact store, beside the training that goes on."""

import logging
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from django.db import connection

from polm_core.errors import ResourceError
from polm_core.run_dir import Manifest, RunDir, sha256_of
from webapp import artifacts
from webapp.runs.checkpoints import run_checkpoint_add, run_checkpoint_steps
from webapp.runs.leases import Claim, LeaseLost
from webapp.runs.projects import run_retain

logger = logging.getLogger(__name__)

# After a failed upload the store is left alone for this long, in seconds.
RETRY = 5.0


class Shipper:
    """Uploads each checkpoint of one run once; a checkpoint is listed only when all of it is stored and verified."""

    def __init__(self, claim: Claim, run_dir: RunDir) -> None:
        self.claim = claim
        self.run_dir = run_dir
        self.known = run_checkpoint_steps(claim.run_id)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ship")
        self._current: Future[None] | None = None
        self._not_before = 0.0
        self.behind = False
        # Why the last upload failed, when that was for want of room.
        self.full: ResourceError | None = None

    def look(self) -> None:
        """Start on the oldest checkpoint that is not stored yet, unless one is under way."""
        if self._current is not None and not self._current.done():
            return
        self._collect()
        waiting = [(folder, m) for folder, m in self.run_dir.complete_checkpoints() if m.step not in self.known]
        self.behind = bool(waiting)
        if waiting and time.monotonic() >= self._not_before:
            self._current = self._pool.submit(self._ship, *waiting[0])

    def done(self) -> bool:
        """Whether every complete checkpoint is stored."""
        self.look()
        return not self.behind

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _collect(self) -> None:
        """Hear how the last upload went; a failed one is tried again at the next look."""
        if self._current is None:
            return
        future, self._current = self._current, None
        error = future.exception()
        self.full = error if isinstance(error, ResourceError) else None
        if isinstance(error, LeaseLost):
            raise error
        if error is not None:
            logger.warning("A checkpoint of run %s is not stored yet: %s", self.claim.run_id, error)
            self._not_before = time.monotonic() + RETRY

    def _ship(self, folder: Path, manifest: Manifest) -> None:
        try:
            key = f"runs/{self.claim.run_id}/{folder.name}"
            for file in manifest.files:
                artifacts.put_verified(folder / file.path, f"{key}/{file.path}", file.sha256)
            digest = sha256_of(folder / "manifest.json")
            artifacts.put_verified(folder / "manifest.json", f"{key}/manifest.json", digest)
            run_checkpoint_add(self.claim, manifest=manifest, key=key, sha256=digest)
            self.known.add(manifest.step)
            self._clear_before(manifest.step)
            run_retain(run_id=self.claim.run_id)
        finally:
            connection.close()

    def _clear_before(self, step: int) -> None:
        """Older checkpoints are in the store, and only the newest is ever resumed from: free their disk here."""
        for folder, manifest in self.run_dir.complete_checkpoints():
            if manifest.step < step and manifest.step in self.known:
                shutil.rmtree(folder, ignore_errors=True)
