"""The artifact store: large files under slash-separated keys, on a disk or in an S3 bucket (`ARTIFACT_URL`)."""

import errno
import hashlib
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
from django.conf import settings

from polm_core.errors import ResourceError, is_disk_full
from polm_core.run_dir import sha256_of
from webapp import artifact_cache, artifact_s3
from webapp.errors import NotFound

CHUNK = 1024 * 1024
# A copy that was begun so long ago belongs to a process that was killed.
ABANDONED_SECONDS = 24 * 3600.0
_S3_OPTIONS = {
    # What another process stored or deleted is to be seen at once.
    "use_listings_cache": False,
    "default_block_size": 8 * CHUNK,
}


@lru_cache(maxsize=1)
def _store(url: str) -> tuple[Any, str]:
    options = _S3_OPTIONS if url.startswith("s3://") else {}
    filesystem, root = fsspec.core.url_to_fs(url, **options)
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
    """Copy a file into the store; it appears whole or not at all. Raises ResourceError when the store is full.

    Within one disk the copy is a hard link, which costs nothing: what is stored must not be written to afterwards.
    """
    with _storing():
        _put(source, key)


def take(source: Path, key: str) -> None:
    """As `put`, but `source` is gone afterwards: on the same disk it is moved, which costs nothing."""
    with _storing():
        if is_local():
            target = _local_target(key)
            try:
                source.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            else:
                return
        _put(source, key)
        source.unlink()


def put_verified(source: Path, key: str, sha256: str) -> None:
    """As `put`, and certain that what is stored has that digest; a copy that is there already and right is kept.

    On a disk the stored file is read again. In a bucket nothing is (see `artifact_s3`), and parts that an upload that
    was cut off has stored are not sent again. Raises OSError when the file did not arrive as it was.
    """
    with _storing():
        if not is_local():
            _put(source, key, sha256)
            return
        if exists(key) and digest(key) == sha256:
            return
        _put(source, key)
        if digest(key) != sha256:
            raise OSError(f"{key} did not arrive whole in the artifact store")


def _put(source: Path, key: str, sha256: str | None = None) -> None:
    if not is_local():
        filesystem, path = _locate(key)
        artifact_s3.upload(filesystem, path, source, sha256, lambda: _remote_sha256(filesystem, path))
        return
    target = _local_target(key)
    draft = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        _link_or_copy(source, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _local_target(key: str) -> Path:
    """Where a file goes on the disk; half copies of it that a killed process left are removed."""
    target = Path(_locate(key)[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob("*.part"):
        if left.name.startswith(f"{target.name}.") and left.stat().st_ctime < time.time() - ABANDONED_SECONDS:
            left.unlink(missing_ok=True)
    return target


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def _storing() -> Iterator[None]:
    """Tell a store without room from other failures."""
    try:
        yield
    except OSError as error:
        response = getattr(error.__cause__, "response", None) or {}
        if is_disk_full(error) or response.get("Error", {}).get("Code") in artifact_s3.FULL:
            raise ResourceError(
                "The artifact store is full: a file could not be stored.",
                code="resource.disk",
                advice="Free space there, or have projects keep fewer checkpoints; then resume or try again.",
            ) from error
        raise


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
    if not is_local():
        artifact_cache.forget(key)


def local_folder(key: str) -> Path:
    """A folder of the store as a folder of this machine: itself on a disk, else a copy in the cache, which is bounded.

    Raises FileNotFoundError when a bucket has no such folder, ResourceError when there is no room for the copy.
    """
    filesystem, path = _locate(key)
    if is_local():
        return Path(path)
    if cached := artifact_cache.find(key):
        return cached
    sizes = {name: entry["size"] for name, entry in filesystem.find(path, detail=True).items()}
    if not sizes:
        raise FileNotFoundError(key)

    def fetch(folder: Path) -> None:
        for name, size in sizes.items():
            target = folder / PurePosixPath(name).relative_to(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(name, str(target))
            if target.stat().st_size != size:
                raise OSError(f"{name} did not arrive whole from the artifact store")

    try:
        return artifact_cache.fetched(key, sum(sizes.values()), fetch)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise ResourceError(
            "The disk is full: a file could not be fetched from the artifact store.",
            code="resource.disk",
            advice="Free space on this machine, or lower POLM_CACHE_BYTES.",
        ) from error
