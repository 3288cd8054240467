"""The artifact store: on a disk, and in a bucket of a real S3 server."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from polm_core.errors import ResourceError
from tests.support.s3 import S3Server
from webapp import artifact_cache, artifact_s3, artifacts
from webapp.errors import NotFound
from webapp.studio.identity import Identity

MB = 1024**2
HOUR = 3600


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(os.urandom(1000))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """The limit on file size stands in for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- on a disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk_store(settings: Any) -> Iterator[Path]:
    """A store on another disk than `tmp_path`, so that files are copied into it."""
    root = Path("/dev/shm") / f"polm-store-{os.getpid()}"  # noqa: S108
    settings.ARTIFACT_URL = f"file://{root}"
    artifacts._store.cache_clear()
    yield root
    shutil.rmtree(root, ignore_errors=True)
    artifacts._store.cache_clear()


def test_a_full_disk_is_told_and_leaves_no_half_file(disk_store: Path, file: Path) -> None:
    for put in (
        lambda: artifacts.put(file, "a/b"),
        lambda: artifacts.put_verified(file, "a/b", sha256(file)),
        lambda: artifacts.take(file, "a/b"),
    ):
        with no_file_over(500), pytest.raises(ResourceError) as refused:
            put()
        assert refused.value.code == "resource.disk"
        assert refused.value.advice
        assert [path for path in disk_store.rglob("*") if path.is_file()] == []
    assert file.exists()
    artifacts.put_verified(file, "a/b", sha256(file))
    assert artifacts.digest("a/b") == sha256(file)


def test_half_copies_of_a_killed_process_are_removed_when_they_are_old(
    disk_store: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.put(file, "a/b")
    for name in ("b.0123.part", "c.0123.part"):
        (disk_store / "a" / name).write_bytes(b"half")
    artifacts.put(file, "a/b")
    assert (disk_store / "a" / "b.0123.part").exists()
    monkeypatch.setattr(artifacts, "ABANDONED_SECONDS", -1)
    artifacts.put(file, "a/b")
    assert sorted(path.name for path in (disk_store / "a").iterdir()) == ["b", "c.0123.part"]


# --- in a bucket ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest parts that S3 takes."""
    monkeypatch.setattr(artifact_s3, "part_bytes", 5 * MB)


def test_a_bucket_keeps_what_it_is_given(s3_store: S3Server, file: Path) -> None:
    artifacts.put_verified(file, "a/b", sha256(file))
    assert artifacts.exists("a/b")
    assert artifacts.exists("a")
    assert artifacts.size("a/b") == 1000
    assert artifacts.digest("a/b") == sha256(file)
    assert b"".join(artifacts.chunks("a/b")) == file.read_bytes()
    with artifacts.open_read("a/b") as stored:
        stored.seek(990)
        assert stored.read() == file.read_bytes()[990:]
    artifacts.take(file, "a/c")
    assert not file.exists()
    artifacts.delete("a")
    assert not artifacts.exists("a/b")
    assert not artifacts.exists("a/c")
    artifacts.delete("a")


def test_what_a_bucket_does_not_hold_is_told(s3_store: S3Server) -> None:
    with pytest.raises(NotFound):
        artifacts.open_read("a/b")
    with pytest.raises(NotFound):
        artifacts.size("a/b")
    with pytest.raises(FileNotFoundError):
        artifacts.local_folder("a")
    with pytest.raises(NotFound):
        artifacts.exists("../other/secret")


def test_an_empty_file_is_stored(s3_store: S3Server, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    artifacts.put_verified(tmp_path / "empty", "a/empty", hashlib.sha256().hexdigest())
    assert artifacts.size("a/empty") == 0


def test_what_is_there_is_neither_sent_nor_read_again(s3_store: S3Server, small_parts: None, tmp_path: Path) -> None:
    for name, size in (("small", 1000), ("large", 11 * MB)):
        (tmp_path / name).write_bytes(os.urandom(size))
        artifacts.put_verified(tmp_path / name, f"a/{name}", sha256(tmp_path / name))
        before = len(s3_store.requests())
        artifacts.put_verified(tmp_path / name, f"a/{name}", sha256(tmp_path / name))
        assert [line.split()[0] for line in s3_store.requests()[before:]] == ["HEAD"]
        assert artifacts.digest(f"a/{name}") == sha256(tmp_path / name)


def test_what_somebody_overwrote_is_sent_again(s3_store: S3Server, file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(os.urandom(1000))
    artifacts.put(tmp_path / "other", "a/b")
    artifacts.put_verified(file, "a/b", sha256(file))
    assert artifacts.digest("a/b") == sha256(file)


def test_a_file_that_changed_after_its_checksum_is_not_stored(s3_store: S3Server, file: Path) -> None:
    before = sha256(file)
    file.write_bytes(b"changed")
    with pytest.raises(OSError, match="has changed"):
        artifacts.put_verified(file, "a/b", before)
    assert not artifacts.exists("a/b")


_KILLED_AFTER_THREE_PARTS = """
import os, signal, sys
from pathlib import Path
import fsspec
from webapp import artifact_s3
artifact_s3.part_bytes = 5 * 1024**2
filesystem, _ = fsspec.core.url_to_fs("s3://models")
send, sent = artifact_s3._send, []
def counted(*arguments):
    if len(sent) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    sent.append(1)
    return send(*arguments)
artifact_s3._send = counted
artifact_s3.upload(filesystem, "models/studio/a/b", Path(sys.argv[1]), None, str)
"""


def test_an_upload_that_was_cut_off_goes_on_with_what_is_missing(
    s3_store: S3Server, small_parts: None, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(23 * MB))
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    killed = subprocess.run([sys.executable, "-c", _KILLED_AFTER_THREE_PARTS, str(path)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not artifacts.exists("a/b")
    before = len(s3_store.requests())
    artifacts.put_verified(path, "a/b", sha256(path))
    parts = [line for line in s3_store.requests()[before:] if line.startswith("PUT")]
    assert sorted(line.split("partNumber=")[1].split("&")[0] for line in parts) == ["4", "5"]
    assert not [line for line in s3_store.requests()[before:] if line.startswith("GET") and "uploadId" not in line][1:]
    assert artifacts.digest("a/b") == sha256(path)


def test_parts_of_another_content_are_not_taken_over(s3_store: S3Server, small_parts: None, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(23 * MB))
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", _KILLED_AFTER_THREE_PARTS, str(path)], env=env, check=False)
    path.write_bytes(os.urandom(23 * MB))
    artifacts.put_verified(path, "a/b", sha256(path))
    assert artifacts.digest("a/b") == sha256(path)


class _FullStore(BaseHTTPRequestHandler):
    """Answers as MinIO does when its disks are full."""

    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer(404)

    def do_PUT(self) -> None:
        self._answer(507, b"<Error><Code>XMinioStorageFull</Code><Message>no room</Message></Error>")

    def log_message(self, *_: object) -> None:
        pass


def test_a_full_bucket_is_told(s3_store: S3Server, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _FullStore) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setitem(artifacts._S3_OPTIONS, "skip_instance_cache", True)
        artifacts._store.cache_clear()
        with pytest.raises(ResourceError) as refused:
            artifacts.put_verified(file, "a/b", sha256(file))
        server.shutdown()
    assert refused.value.code == "resource.disk"
    assert file.exists()


# --- the cache of a bucket --------------------------------------------------------------------------------------------


@pytest.fixture
def folders(s3_store: S3Server, tmp_path: Path) -> list[str]:
    """Three folders of 1,000 bytes in the bucket."""
    keys = ["models/one", "models/two", "runs/x/step-3"]
    for key in keys:
        path = tmp_path / "file"
        path.write_bytes(os.urandom(900))
        artifacts.put(path, f"{key}/weights")
        path.write_bytes(os.urandom(100))
        artifacts.put(path, f"{key}/nested/config.json")
    return keys


def age(key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(artifact_cache._record(key), (then, then))


def cached(keys: list[str]) -> list[str]:
    return [key for key in keys if (settings.CACHE_DIR / "store" / key).exists()]


def test_a_folder_is_fetched_once(s3_store: S3Server, folders: list[str]) -> None:
    folder = artifacts.local_folder(folders[0])
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "nested/config.json",
        "weights",
    ]
    assert sha256(folder / "weights") == artifacts.digest(f"{folders[0]}/weights")
    before = len(s3_store.requests())
    assert artifacts.local_folder(folders[0]) == folder
    assert len(s3_store.requests()) == before


def test_the_cache_drops_what_was_used_longest_ago(folders: list[str], settings: Any) -> None:
    settings.CACHE_BYTES = 2500
    for key, seconds in zip(folders[:2], (2 * HOUR, 3 * HOUR), strict=True):
        artifacts.local_folder(key)
        age(key, seconds)
    artifacts.local_folder(folders[2])
    assert cached(folders) == [folders[0], folders[2]]
    assert artifacts.local_folder(folders[1]).exists()


def test_the_cache_keeps_what_was_just_asked_for(folders: list[str], settings: Any) -> None:
    settings.CACHE_BYTES = 1500
    for key in folders:
        artifacts.local_folder(key)
    assert cached(folders) == folders


def test_the_cache_keeps_what_a_run_at_work_names(folders: list[str], settings: Any, tmp_path: Path) -> None:
    settings.CACHE_BYTES = 1500
    settings.RUNS_DIR = tmp_path / "runs"
    run = settings.RUNS_DIR / "r"
    run.mkdir(parents=True)
    me = Identity.of(os.getpid())
    assert me is not None
    me.write(run / "child.json")
    (run / "config.yaml").write_text(f"model:\n  path: {artifacts.local_folder(folders[0])}\n")
    age(folders[0], 9 * HOUR)
    artifacts.local_folder(folders[1])
    assert cached(folders) == folders[:2]
    (run / "child.json").unlink()
    artifacts.local_folder(folders[2])
    assert cached(folders) == folders[1:]


def test_what_is_deleted_from_the_store_leaves_the_cache(folders: list[str]) -> None:
    for key in folders:
        artifacts.local_folder(key)
    artifacts.delete("models")
    assert cached(folders) == folders[2:]


def test_a_full_disk_while_fetching_is_told_and_leaves_nothing(folders: list[str]) -> None:
    with no_file_over(500), pytest.raises(ResourceError) as refused:
        artifacts.local_folder(folders[0])
    assert refused.value.code == "resource.disk"
    assert list((settings.CACHE_DIR / "store").rglob("weights")) == []
    assert artifacts.local_folder(folders[0]).exists()
