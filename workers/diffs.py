"""Comparing the rows of two versions of a dataset, in a child process."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from django.conf import settings

from polm_core.data.diff import DiffJob
from polm_core.errors import PolmError
from webapp import artifacts
from webapp.datasets.diffs import diff_claim, diff_fail, diff_finish, diff_progress, diff_release, diffs_wait
from webapp.datasets.models import VersionDiff
from webapp.errors import NotFound
from workers import presence
from workers.jobs import TICK, JobInterrupted, ask_child
from workers.turns import take_turns

SECONDS = 3600.0
_DIED = PolmError(
    "The process that compares the rows",
    code="diff.crashed",
    advice="See that the worker has enough memory and disk, then look again in a minute.",
)

_comparing = threading.Lock()


def compare(_diff_id: str = "") -> None:
    """Compare what waits, until nothing does."""
    take_turns(_comparing, diffs_wait, diff_claim, _carry_out)


def _carry_out(diff: VersionDiff) -> None:
    folder: Path = settings.VAR_DIR / "diffs" / f"{diff.pk}-{diff.attempts}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        job = DiffJob(before=_rows(diff, diff.before.rows_key), after=_rows(diff, diff.after.rows_key))
        answer = ask_child(
            "polm_core.data.diff",
            job,
            folder,
            tell=lambda progress: diff_progress(diff=diff, progress=progress),
            seconds=SECONDS,
            died=_DIED,
        )
        diff_finish(diff=diff, report=answer["diff"])
    except JobInterrupted:
        diff_release(diff=diff)  # does nothing for one whose dataset was deleted
    except PolmError as error:
        diff_fail(diff=diff, error=error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rows(diff: VersionDiff, rows_key: str) -> Path:
    """The folder of a version's rows on this machine; the claim is renewed while they are fetched."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch") as pool:
        fetched = pool.submit(artifacts.local_folder, rows_key)
        while not wait([fetched], timeout=TICK).done:
            if presence.shutting_down.is_set() or not diff_progress(diff=diff, progress={}):
                raise JobInterrupted
        try:
            return fetched.result()
        except FileNotFoundError:
            raise NotFound("The rows of a version are no longer in the artifact store.") from None
