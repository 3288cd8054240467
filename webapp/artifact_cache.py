"""Folders of a remote artifact store, kept on this machine's disk as long as there is room for them.

What was used longest ago goes first (`POLM_CACHE_BYTES`), but nothing that was asked for within the last hour, and
nothing that a run at work on this machine names in its `config.yaml`.
"""

import fcntl
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from django.conf import settings

from webapp.studio.identity import Identity

logger = logging.getLogger(__name__)

# A folder that was asked for may be about to be read.
KEPT_SECONDS = 3600.0
ABANDONED_SECONDS = 24 * 3600.0


def fetched(key: str, size: int, fetch: Callable[[Path], None]) -> Path:
    """The folder `key`, which `fetch` writes when it is not here; `size` is what that will take, in bytes."""
    target = _root() / key
    if _use(key):
        return target
    make_room(size)
    draft = _drafts() / uuid.uuid4().hex
    try:
        fetch(draft)
        with _locked():
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                draft.rename(target)
            _record(key).write_text(str(size))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def find(key: str) -> Path | None:
    """The folder when it is here; that counts as a use of it."""
    return _root() / key if _use(key) else None


def forget(key: str) -> None:
    """Remove the folder and what is below it: the store has it no more."""
    with _locked():
        gone = [_take_out(known) for known in _known() if known == key or known.startswith(f"{key}/")]
    _remove(gone)


def make_room(needed: int) -> None:
    """Remove what was not used for longest until `needed` bytes more are within the limit."""
    gone = [draft for draft in _drafts().iterdir() if _age(draft) > ABANDONED_SECONDS]
    with _locked():
        sizes = {key: _size(key) for key in _known()}
        too_much = sum(sizes.values()) + needed - settings.CACHE_BYTES
        if too_much > 0:
            named = _named_by_live_runs()
            for key in sorted(sizes, key=lambda key: -_age(_record(key))):
                if too_much > 0 and _age(_record(key)) > KEPT_SECONDS and str(_root() / key) not in named:
                    gone.append(_take_out(key))
                    too_much -= sizes[key]
    _remove(gone)
    if too_much > 0:
        logger.warning("The cache is %d bytes over POLM_CACHE_BYTES: all of it is in use.", too_much)


def _use(key: str) -> bool:
    with _locked():
        there = (_root() / key).exists() and _record(key).exists()
        if there:
            os.utime(_record(key))
        return there


def _named_by_live_runs() -> str:
    """The settings of the runs that this machine trains now: they name every folder that is read."""
    texts = []
    for record in settings.RUNS_DIR.glob("*/child.json"):
        child, config = Identity.read(record), record.with_name("config.yaml")
        if child is not None and child.alive() and config.exists():
            texts.append(config.read_text(encoding="utf-8"))
    return "\n".join(texts)


def _known() -> list[str]:
    return [unquote(record.name) for record in _records().iterdir()]


def _take_out(key: str) -> Path:
    """Have the folder be no more in the cache; what it holds is still to be removed."""
    trash = _drafts() / uuid.uuid4().hex
    _record(key).unlink(missing_ok=True)
    if (_root() / key).exists():
        (_root() / key).rename(trash)
    return trash


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _size(key: str) -> int:
    try:
        return int(_record(key).read_text())
    except (OSError, ValueError):
        return 0


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _root() -> Path:
    root: Path = settings.CACHE_DIR / "store"
    return root


def _record(key: str) -> Path:
    """The file that says how large a folder is and, by its own time, when it was last used."""
    return _records() / quote(key, safe="")


def _records() -> Path:
    return _made(_root() / ".records")


def _drafts() -> Path:
    return _made(_root() / ".drafts")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked() -> Iterator[None]:
    """One process at a time decides what is in the cache."""
    with (_made(_root()) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
