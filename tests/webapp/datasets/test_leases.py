"""Which worker prepares a version, and what a worker that lost it may still do."""

import datetime
from collections.abc import Callable

import pytest
from django.db.models import F
from django.utils import timezone

from polm_core.data.report import PrepareReport, Status
from polm_core.formats import Format
from tests.webapp.datasets import files
from webapp.datasets.leases import (
    LEASE,
    MAX_ATTEMPTS,
    REWAKE_AFTER,
    LeaseLost,
    lease_release,
    lease_renew,
    version_claim,
    version_crashed,
    version_finish,
    version_progress,
    versions_to_wake,
)
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus

Make = Callable[..., Dataset]
GOOD = PrepareReport(status=Status.READY, format=Format.CONVERSATION, rows_total=2, rows_used=2, sha256="ab", bytes=9)


@pytest.fixture
def version(make_dataset: Make) -> DatasetVersion:
    return make_dataset(files.conversations(2)).versions.get()


def expire(version: DatasetVersion) -> None:
    DatasetVersion.objects.filter(pk=version.pk).update(lease_until=timezone.now() - LEASE)


def age(version: DatasetVersion) -> None:
    past = REWAKE_AFTER + datetime.timedelta(seconds=1)
    DatasetVersion.objects.filter(pk=version.pk).update(
        created_at=F("created_at") - past, woken_at=F("woken_at") - past
    )


def test_one_worker_at_a_time(version: DatasetVersion) -> None:
    claim = version_claim(version_id=version.pk)
    assert claim is not None
    assert (claim.filename, claim.source_key) == ("rows.jsonl", version.source_key)
    assert version_claim(version_id=version.pk) is None


def test_an_expired_lease_is_taken_over_and_the_loser_writes_nothing(version: DatasetVersion) -> None:
    loser = version_claim(version_id=version.pk)
    expire(version)
    winner = version_claim(version_id=version.pk)
    assert loser is not None
    assert winner is not None
    assert winner.epoch > loser.epoch
    for write in (
        lambda: lease_renew(loser),
        lambda: version_progress(loser, {"rows": 1}),
        lambda: version_finish(loser, GOOD, rows_key="theirs"),
        lambda: version_crashed(loser),
    ):
        with pytest.raises(LeaseLost):
            write()
    lease_release(loser)
    version.refresh_from_db()
    assert (version.status, version.attempts, version.progress) == (VersionStatus.PROCESSING, 2, {})
    version_finish(winner, GOOD, rows_key="ours")
    version.refresh_from_db()
    assert (version.status, version.rows_key, version.rows) == (VersionStatus.READY, "ours", 2)


def test_a_finished_version_never_changes(version: DatasetVersion) -> None:
    claim = version_claim(version_id=version.pk)
    assert claim is not None
    version_finish(claim, GOOD, rows_key="ours")
    assert version_claim(version_id=version.pk) is None
    with pytest.raises(LeaseLost):
        version_finish(claim, PrepareReport(status=Status.INVALID))


def test_an_invalid_version_keeps_the_report_and_no_rows(version: DatasetVersion) -> None:
    claim = version_claim(version_id=version.pk)
    assert claim is not None
    version_finish(claim, GOOD.model_copy(update={"status": Status.INVALID}), rows_key="ours")
    version.refresh_from_db()
    assert (version.status, version.rows, version.rows_key) == (VersionStatus.INVALID, 0, "")
    assert version.report["rows_used"] == 2
    assert version.processed_at is not None


def test_a_preparation_that_keeps_dying_is_given_up(version: DatasetVersion) -> None:
    for attempt in range(MAX_ATTEMPTS):
        claim = version_claim(version_id=version.pk)
        assert claim is not None, f"attempt {attempt}"
        version_crashed(claim)
    version.refresh_from_db()
    assert version.status == VersionStatus.INVALID
    assert version.report["error"]["code"] == "data.crashed"
    assert "3 times" in version.report["error"]["message"]


def test_workers_that_keep_vanishing_are_counted_too(version: DatasetVersion) -> None:
    for _ in range(MAX_ATTEMPTS):
        assert version_claim(version_id=version.pk) is not None
        expire(version)
    assert version_claim(version_id=version.pk) is None
    version.refresh_from_db()
    assert version.status == VersionStatus.INVALID


def test_handing_back_costs_no_attempt(version: DatasetVersion) -> None:
    for _ in range(MAX_ATTEMPTS + 2):
        claim = version_claim(version_id=version.pk)
        assert claim is not None
        lease_release(claim)
    version.refresh_from_db()
    assert (version.status, version.attempts) == (VersionStatus.PROCESSING, 0)


def test_the_reaper_wakes_what_nobody_comes_for_and_not_at_every_round(version: DatasetVersion) -> None:
    assert versions_to_wake() == []
    age(version)
    assert versions_to_wake() == [version.pk]
    assert versions_to_wake() == []
    age(version)
    assert versions_to_wake() == [version.pk]


def test_the_reaper_wakes_what_a_lost_worker_left(version: DatasetVersion) -> None:
    claim = version_claim(version_id=version.pk)
    assert claim is not None
    age(version)
    assert versions_to_wake() == []
    expire(version)
    assert versions_to_wake() == [version.pk]
    version_finish(claim, GOOD)
    age(version)
    assert versions_to_wake() == []
