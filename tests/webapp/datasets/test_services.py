"""What people do to datasets."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from tests.support.runs import make_run
from tests.support.s3 import S3Server
from tests.webapp.datasets import files
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Team, User
from webapp.datasets import selectors, services
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.errors import Conflict, Forbidden, Invalid, NotFound
from workers.datasets import process

Make = Callable[..., Dataset]
MakePrepared = Callable[..., DatasetVersion]

MAPPING = {"format": "preference", "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}}


def stored_files() -> list[Path]:
    root = artifacts.local_folder("datasets")
    return [path for path in root.rglob("*") if path.is_file()] if root.exists() else []


def test_create_moves_the_file_into_the_store(make_dataset: Make, upload: Any) -> None:
    dataset = make_dataset(files.conversations(3), "talk.jsonl", name="  Small   talk ")
    version = dataset.versions.get()
    assert dataset.name == "Small talk"
    assert (version.number, version.status, version.filename) == (1, VersionStatus.PROCESSING, "talk.jsonl")
    assert artifacts.open_read(version.source_key).read() == files.conversations(3)
    assert not list(Path(settings.UPLOADS_DIR).iterdir())
    assert AuditEvent.objects.get(verb="dataset.create").target_id == str(dataset.pk)


def test_create_from_a_path_leaves_the_file(actor: Actor, team: Team, tmp_path: Path) -> None:
    sample = tmp_path / "sample.jsonl"
    sample.write_bytes(files.questions(3))
    dataset = services.dataset_create_from_path(actor=actor, team=team, path=sample, name="Sums", origin="synthetic")
    assert sample.read_bytes() == artifacts.open_read(dataset.versions.get().source_key).read()
    assert (dataset.origin, dataset.versions.get().filename) == ("synthetic", "sample.jsonl")
    assert not list(Path(settings.UPLOADS_DIR).iterdir())


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "n" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"origin": "stolen"}, "origin"),
        ({"description": "d" * 10_001}, "description"),
        ({"format": "tables"}, "format"),
        ({"mapping": {"format": "text"}}, "mapping.columns"),
        ({"mapping": {"format": "text", "columns": {"text": "a"}, "script": "rm"}}, "mapping.script"),
        ({"mapping": {"format": "text", "columns": {"prompt": "a"}}}, "mapping"),
        ({"mapping": MAPPING, "format": "text"}, "format"),
    ],
)
def test_create_refuses_and_stores_nothing(make_dataset: Make, values: dict[str, Any], field: str) -> None:
    before = stored_files()
    with pytest.raises(Invalid) as refusal:
        make_dataset(files.conversations(1), **values)
    assert field in refusal.value.fields
    assert not Dataset.objects.exists()
    assert stored_files() == before


def test_create_refuses_an_empty_file(make_dataset: Make) -> None:
    with pytest.raises(Invalid, match="empty") as refusal:
        make_dataset(b"")
    assert refusal.value.fields == {"file": ["is empty"]}


def test_names_are_unique_in_a_team_whatever_their_case(make_dataset: Make, outsider: User, other_team: Team) -> None:
    make_dataset(files.conversations(1), name="Talk")
    before = stored_files()
    with pytest.raises(Invalid, match="already has a dataset called TALK"):
        make_dataset(files.conversations(1), name="TALK")
    assert stored_files() == before
    path = Path(settings.UPLOADS_DIR) / "theirs"
    path.write_bytes(b"{}")
    services.dataset_create(actor=Actor(outsider), team=other_team, file=path, filename="a.jsonl", name="Talk")


def test_viewers_and_strangers_create_nothing(viewer: User, outsider: User, team: Team, upload: Any) -> None:
    for user, refusal in ((viewer, Forbidden), (outsider, NotFound)):
        with pytest.raises(refusal):
            services.dataset_create(actor=Actor(user), team=team, file=upload(b"{}"), filename="a.jsonl", name="a")
    (Path(settings.UPLOADS_DIR) / "fixture.upload").unlink()


def test_remap_makes_a_version_from_the_same_file(make_prepared: MakePrepared, actor: Actor) -> None:
    first = make_prepared(files.preferences())
    second = services.dataset_remap(
        actor=actor,
        dataset=first.dataset,
        mapping={"format": "conversation", "columns": {"prompt": "prompt", "completion": "chosen"}},
    )
    assert (second.number, second.source_key) == (2, first.source_key)
    process(str(second.pk))
    second.refresh_from_db()
    assert (second.status, second.format, second.rows) == (VersionStatus.READY, "conversation", 20)
    first.refresh_from_db()
    assert (first.status, first.format) == (VersionStatus.READY, "preference")
    assert AuditEvent.objects.get(verb="dataset.remap").detail["version"] == 2


def test_remap_waits_until_the_last_version_is_done(make_dataset: Make, actor: Actor) -> None:
    dataset = make_dataset(files.preferences())
    with pytest.raises(Conflict, match="still being processed"):
        services.dataset_remap(actor=actor, dataset=dataset, format="text")
    assert dataset.versions.count() == 1


def test_update_changes_what_is_given(make_dataset: Make, actor: Actor) -> None:
    dataset = make_dataset(files.conversations(1), name="old", description="kept")
    services.dataset_update(actor=actor, dataset=dataset, name="new", origin="distilled", origin_model="a teacher")
    dataset.refresh_from_db()
    assert (dataset.name, dataset.description) == ("new", "kept")
    assert (dataset.origin, dataset.origin_model) == ("distilled", "a teacher")
    assert AuditEvent.objects.get(verb="dataset.update").detail == {"changed": ["name", "origin", "origin_model"]}


def test_update_refuses_a_taken_name(make_dataset: Make, actor: Actor) -> None:
    make_dataset(files.conversations(1), name="one")
    second = make_dataset(files.conversations(1), name="two")
    with pytest.raises(Invalid, match="already has"):
        services.dataset_update(actor=actor, dataset=second, name="ONE")
    services.dataset_update(actor=actor, dataset=second, name="TWO")
    second.refresh_from_db()
    assert second.name == "TWO"


def test_delete_removes_rows_and_files(
    make_prepared: MakePrepared, actor: Actor, django_capture_on_commit_callbacks: Any
) -> None:
    version = make_prepared(files.conversations())
    assert stored_files()
    with django_capture_on_commit_callbacks(execute=True):
        services.dataset_delete(actor=actor, dataset=version.dataset)
    assert not Dataset.objects.exists()
    assert not artifacts.exists(services.version_folder(version.pk))
    assert AuditEvent.objects.get(verb="dataset.delete").detail == {"name": "sums", "rows": 20}


@pytest.mark.parametrize("relation", ["dataset_version", "eval_dataset_version"])
def test_delete_names_the_runs_that_used_it(
    make_prepared: MakePrepared, actor: Actor, team: Team, relation: str
) -> None:
    version = make_prepared(files.conversations())
    runs = [make_run(team, name, **{relation: version}) for name in ("first", "second")]
    with pytest.raises(Conflict, match="2 runs used this dataset") as refusal:
        services.dataset_delete(actor=actor, dataset=version.dataset)
    assert refusal.value.fields["runs"] == sorted(str(run.pk) for run in runs)
    assert artifacts.exists(version.rows_key)
    assert not AuditEvent.objects.filter(verb="dataset.delete").exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_uploads_under_one_name_one_wins(actor: Actor, team: Team) -> None:
    uploads = [Path(settings.UPLOADS_DIR) / f"{number}.upload" for number in range(4)]
    for path in uploads:
        path.write_bytes(files.conversations(1))
    before = len(stored_files())
    together = threading.Barrier(len(uploads))

    def create(path: Path) -> bool:
        try:
            together.wait(10)
            services.dataset_create(actor=actor, team=team, file=path, filename="a.jsonl", name="Same")
        except Invalid as refusal:
            return "name" not in refusal.fields
        finally:
            connection.close()
            path.unlink(missing_ok=True)
        return True

    with ThreadPoolExecutor(len(uploads)) as pool:
        assert sorted(pool.map(create, uploads)) == [False, False, False, True]
    assert Dataset.objects.count() == 1
    assert len(stored_files()) == before + 1


def test_a_file_from_another_disk_is_moved_too(actor: Actor, team: Team, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.jsonl"
    path.write_bytes(files.conversations(2))
    dataset = services.dataset_create(actor=actor, team=team, file=path, filename="a.jsonl", name="moved")
    assert artifacts.open_read(dataset.versions.get().source_key).read() == files.conversations(2)
    assert not path.exists()


def test_a_store_that_is_no_disk(
    make_prepared: MakePrepared, actor: Actor, s3_store: S3Server, django_capture_on_commit_callbacks: Any
) -> None:
    version = make_prepared(files.preferences())
    assert (version.status, version.rows) == (VersionStatus.READY, 20)
    assert selectors.rows_page(version, offset=19).items[0]["chosen"][0]["content"] == "19 + 1 = 20."
    assert len(selectors.version_preview(version, limit=5).rows) == 5
    with django_capture_on_commit_callbacks(execute=True):
        services.dataset_delete(actor=actor, dataset=version.dataset)
    assert not artifacts.exists(services.version_folder(version.pk))
