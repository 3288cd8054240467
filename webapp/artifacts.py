"""The artifact store: large files under slash-separated keys, on a disk or in an S3 bucket (`ARTIFACT_URL`)."""

import errno
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
from django.conf import settings

from polm_core.run_dir import sha256_of
from webapp.errors import NotFound

CHUNK = 1024 * 1024


@lru_cache(maxsize=1)
def _store(url: str) -> tuple[Any, str]:
    filesystem, root = fsspec.core.url_to_fs(url)
    return filesystem, root.rstrip("/")


def _locate(key: str) -> tuple[Any, str]:
    """The filesystem and full path of `key`; refuses a key that could leave the store."""
    path = PurePosixPath(key)
    if not key or path.is_absolute() or "\\" in key or "\0" in key or any(part in {"..", "."} for part in path.parts):
        raise NotFound("There is no such file.")
    filesystem, root = _store(settings.ARTIFACT_URL)
    return filesystem, f"{root}/{path}"


def is_local() -> bool:
    """Whether the store is a folder that this machine reads directly."""
    return bool(settings.ARTIFACT_URL.startswith("file://"))


def put(source: Path, key: str) -> None:
    """Copy a file into the store. On a disk it appears whole or not at all.

    Within one disk the copy is a hard link, which costs nothing: what is stored must not be written to afterwards.
    """
    filesystem, path = _locate(key)
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    if not is_local():
        filesystem.put_file(str(source), path)
        return
    draft = Path(f"{path}.{uuid.uuid4().hex}.part")
    try:
        _link_or_copy(source, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def take(source: Path, key: str) -> None:
    """As `put`, but `source` is gone afterwards: on the same disk it is moved, which costs nothing."""
    if is_local():
        target = Path(_locate(key)[1])
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return
    put(source, key)
    source.unlink()


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def put_verified(source: Path, key: str, sha256: str) -> None:
    """As `put`, then read back and compare; a copy that is already there and right is kept."""
    if exists(key) and digest(key) == sha256:
        return
    put(source, key)
    if digest(key) != sha256:
        raise OSError(f"{key} did not arrive whole in the artifact store")


def digest(key: str) -> str:
    """The SHA-256 of a stored file, in hex."""
    filesystem, path = _locate(key)
    if is_local():
        return sha256_of(Path(path))
    return _remote_sha256(filesystem, path)


def _remote_sha256(filesystem: Any, path: str) -> str:
    found = hashlib.sha256()
    with filesystem.open(path, "rb") as file:
        while piece := file.read(CHUNK):
            found.update(piece)
    return found.hexdigest()


def open_read(key: str) -> IO[bytes]:
    """A stored file, opened for reading and seeking. Raises NotFound."""
    filesystem, path = _locate(key)
    try:
        return filesystem.open(path, "rb")  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise NotFound("The file is no longer in the artifact store.") from None


def chunks(key: str) -> Iterator[bytes]:
    """The content of a stored file, piece by piece."""
    with open_read(key) as file:
        while piece := file.read(CHUNK):
            yield piece


def exists(key: str) -> bool:
    filesystem, path = _locate(key)
    return bool(filesystem.exists(path))


def size(key: str) -> int:
    """The length of a stored file in bytes. Raises NotFound."""
    filesystem, path = _locate(key)
    try:
        return int(filesystem.size(path))
    except FileNotFoundError:
        raise NotFound("The file is no longer in the artifact store.") from None


def delete(key: str) -> None:
    """Remove a file or a whole folder; what is not there is no error."""
    filesystem, path = _locate(key)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def local_folder(key: str) -> Path:
    """A folder of the store as a folder of this machine: itself on a disk, else a copy kept in the cache."""
    filesystem, path = _locate(key)
    if is_local():
        return Path(path)
    target: Path = settings.CACHE_DIR / key
    if not target.exists():
        draft = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
        draft.parent.mkdir(parents=True, exist_ok=True)
        filesystem.get(path, str(draft), recursive=True)
        try:
            draft.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    return target
