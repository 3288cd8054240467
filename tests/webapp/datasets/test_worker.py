"""The worker's function, with its real child process."""

import datetime
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.db import connection

from polm_core.data.rows import read_rows
from polm_core.run_dir import sha256_of
from tests.webapp.datasets import files
from webapp import artifacts
from webapp.datasets import leases, services
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from workers import datasets as worker
from workers import presence

Make = Callable[..., Dataset]

# Large enough to be watched for a second or two.
LARGE = 60_000


def scratch() -> list[Path]:
    root = Path(settings.CACHE_DIR) / "prepare"
    return list(root.iterdir()) if root.exists() else []


@pytest.fixture
def in_thread() -> Iterator[Callable[[DatasetVersion], threading.Thread]]:
    """Starts the worker's function beside the test."""
    threads: list[threading.Thread] = []

    def start(version: DatasetVersion) -> threading.Thread:
        def work() -> None:
            try:
                worker.process(str(version.pk))
            finally:
                connection.close()

        thread = threading.Thread(target=work)
        thread.start()
        threads.append(thread)
        return thread

    yield start
    for thread in threads:
        thread.join(30)


def child_of(version: DatasetVersion) -> psutil.Process:
    """The preparing process, once it runs."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for process in psutil.Process().children():
            if any(str(version.pk) in part for part in process.cmdline()):
                return process
        time.sleep(0.01)
    raise AssertionError("the child did not start")


def test_a_good_file_becomes_rows_in_the_store(make_dataset: Make) -> None:
    version = make_dataset(files.preferences(50)).versions.get()
    worker.process(str(version.pk))
    version.refresh_from_db()
    assert (version.status, version.format, version.rows) == (VersionStatus.READY, "preference", 50)
    folder = artifacts.local_folder(version.rows_key)
    assert sha256_of(folder / "rows.jsonl") == version.sha256
    assert (folder / "rows.jsonl").stat().st_size == version.bytes
    assert read_rows(folder, 49, 10)[0]["prompt"] == [{"role": "user", "content": "What is 49 + 1?"}]
    assert artifacts.exists(f"{services.head_folder(version.pk)}/head.jsonl")
    assert scratch() == []


def test_a_bad_file_is_invalid_and_stores_no_rows(make_dataset: Make) -> None:
    version = make_dataset(os.urandom(1000), "junk.jsonl").versions.get()
    worker.process(str(version.pk))
    version.refresh_from_db()
    assert (version.status, version.rows_key) == (VersionStatus.INVALID, "")
    assert version.report["error"]["message"]
    assert scratch() == []


def test_what_was_asked_for_overrules_detection(make_dataset: Make) -> None:
    version = make_dataset(files.preferences(), format="prompt").versions.get()
    worker.process(str(version.pk))
    version.refresh_from_db()
    assert (version.status, version.format) == (VersionStatus.READY, "prompt")


def test_a_second_message_does_nothing(make_dataset: Make) -> None:
    version = make_dataset(files.conversations()).versions.get()
    worker.process(str(version.pk))
    first = DatasetVersion.objects.get()
    worker.process(str(version.pk))
    assert DatasetVersion.objects.get().processed_at == first.processed_at


def test_a_lost_source_is_said(make_dataset: Make) -> None:
    version = make_dataset(files.conversations()).versions.get()
    artifacts.delete(version.source_key)
    worker.process(str(version.pk))
    version.refresh_from_db()
    assert version.status == VersionStatus.INVALID
    assert "no longer in the artifact store" in version.report["error"]["message"]


def test_the_child_gets_no_secrets(make_dataset: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_KEY", "hush")
    monkeypatch.setenv("DATABASE_URL", "postgresql://hush")
    passed = worker._environment(tmp_path)
    assert "hush" not in "".join(passed.values())
    assert passed["PATH"] == os.environ["PATH"]


@pytest.mark.django_db(transaction=True)
def test_progress_is_passed_on_while_it_runs(
    make_dataset: Make, in_thread: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PROGRESS_SECONDS", 0.05)
    version = make_dataset(files.conversations(LARGE)).versions.get()
    thread = in_thread(version)
    seen: dict[str, Any] = {}
    while thread.is_alive() and not seen:
        version.refresh_from_db()
        seen = version.progress
    assert seen["bytes_total"] == version.source_bytes
    assert 0 <= seen["bytes_done"] <= seen["bytes_total"]
    thread.join(60)
    version.refresh_from_db()
    assert (version.status, version.rows) == (VersionStatus.READY, LARGE)


@pytest.mark.django_db(transaction=True)
def test_a_killed_child_is_tried_again(make_dataset: Make, in_thread: Any) -> None:
    version = make_dataset(files.conversations(LARGE)).versions.get()
    thread = in_thread(version)
    child_of(version).kill()
    thread.join(30)
    version.refresh_from_db()
    assert (version.status, version.attempts, version.lease_until) == (VersionStatus.PROCESSING, 1, None)
    assert scratch() == []
    worker.process(str(version.pk))
    version.refresh_from_db()
    assert (version.status, version.rows, version.attempts) == (VersionStatus.READY, LARGE, 2)


@pytest.mark.django_db(transaction=True)
def test_a_hanging_child_is_killed(make_dataset: Make, in_thread: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STALL_SECONDS", 0.5)
    version = make_dataset(files.conversations(LARGE)).versions.get()
    thread = in_thread(version)
    child = child_of(version)
    child.send_signal(signal.SIGSTOP)
    thread.join(30)
    assert not child.is_running()
    version.refresh_from_db()
    assert (version.status, version.attempts) == (VersionStatus.PROCESSING, 1)


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_shuts_down_hands_the_version_back(
    make_dataset: Make, in_thread: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "shutting_down", threading.Event())
    version = make_dataset(files.conversations(LARGE)).versions.get()
    thread = in_thread(version)
    child = child_of(version)
    presence.shutting_down.set()
    thread.join(30)
    assert not child.is_running()
    version.refresh_from_db()
    assert (version.status, version.attempts, version.lease_until) == (VersionStatus.PROCESSING, 0, None)
    assert scratch() == []


@pytest.mark.django_db(transaction=True)
def test_a_deleted_dataset_ends_its_preparation(
    make_dataset: Make, in_thread: Any, actor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PROGRESS_SECONDS", 0.05)
    dataset = make_dataset(files.conversations(LARGE))
    version = dataset.versions.get()
    thread = in_thread(version)
    child = child_of(version)
    services.dataset_delete(actor=actor, dataset=dataset)
    thread.join(30)
    assert not child.is_running()
    assert not artifacts.exists(services.version_folder(version.pk))
    assert scratch() == []


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_worker_left_is_ended_by_the_next(
    make_dataset: Make, in_thread: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_dataset(files.conversations(LARGE)).versions.get()
    claim = leases.version_claim(version_id=version.pk)
    assert claim is not None
    left = Path(settings.CACHE_DIR) / "prepare" / f"{version.pk}-{claim.epoch}"
    left.mkdir(parents=True)
    orphan = psutil.Popen(["sleep", "60"], start_new_session=True)
    identity = worker.Identity.of(orphan.pid)
    assert identity is not None
    identity.write(left / "child.json")
    DatasetVersion.objects.update(lease_until=version.created_at)
    worker.process(str(version.pk))
    assert orphan.wait(5) == -signal.SIGKILL
    assert scratch() == []
    version.refresh_from_db()
    assert (version.status, version.attempts) == (VersionStatus.READY, 2)


@pytest.mark.django_db(transaction=True)
def test_a_lease_is_kept_while_the_child_works(
    make_dataset: Make, in_thread: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = datetime.timedelta(seconds=0.4)
    monkeypatch.setattr(worker, "LEASE", short)
    monkeypatch.setattr(leases, "LEASE", short)
    monkeypatch.setattr(worker, "PROGRESS_SECONDS", 3600.0)
    version = make_dataset(files.conversations(LARGE)).versions.get()
    thread = in_thread(version)
    child = child_of(version)
    child.send_signal(signal.SIGSTOP)
    time.sleep(1)
    assert leases.version_claim(version_id=version.pk) is None
    child.send_signal(signal.SIGCONT)
    thread.join(60)
    version.refresh_from_db()
    assert (version.status, version.attempts) == (VersionStatus.READY, 1)
