"""Datasets with images: from the zip to the page, and to whom they are shown."""

import hashlib
from collections.abc import Callable

import pytest
from django.test import Client

from polm_core.context import DatasetSpec
from polm_core.training.rows import load_rows
from tests.support.factories import make_team, make_user
from tests.support.images import COLOURS, colour_zip, jsonl, picture, talk, zipped
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, User
from webapp.datasets.models import DatasetVersion, VersionStatus
from webapp.datasets.services import dataset_delete, version_folder
from webapp.datasets.storing import images_key
from workers.supervisor import dataset_spec

Prepared = Callable[..., DatasetVersion]
RED = f"{hashlib.sha256(picture('red')).hexdigest()}.png"


@pytest.fixture
def colours(make_prepared: Prepared) -> DatasetVersion:
    return make_prepared(colour_zip(12), "talks.zip")


@pytest.fixture
def page(member: User) -> Client:
    client = Client()
    client.force_login(member)
    return client


def test_a_zip_becomes_rows_and_images_that_a_run_can_read(colours: DatasetVersion) -> None:
    assert (colours.status, colours.format, colours.rows) == (VersionStatus.READY, "image-conversation", 12)
    spec: DatasetSpec = dataset_spec(colours)
    rows, _ = load_rows(spec, (spec.format,))
    assert {row["images"][0].rpartition("/")[2] for row in rows} == {
        f"{hashlib.sha256(picture(colour)).hexdigest()}.png" for colour in COLOURS
    }
    assert artifacts.digest(f"{images_key(colours.rows_key)}/{RED}") == RED.partition(".")[0]


def test_a_bad_zip_leaves_nothing_in_the_store(make_prepared: Prepared) -> None:
    version = make_prepared(zipped({"rows.jsonl": jsonl([talk("gone.png", "red")]), "a.png": picture()}), "talks.zip")
    assert (version.status, version.rows_key) == (VersionStatus.INVALID, "")
    assert version.report["problems"][0]["rule"] == "image.missing"
    assert version.report["problems"][0]["row"] == 1
    stored = artifacts.local_folder(version_folder(version.pk))
    assert [path.name for path in stored.rglob("*") if path.suffix == ".png"] == []


def test_the_page_shows_images_and_their_sizes(colours: DatasetVersion, page: Client) -> None:
    content = page.get(f"/datasets/{colours.dataset_id}").content.decode()
    assert f'src="/datasets/{colours.dataset_id}/images/{RED}?version=1&amp;small=1"' in content
    assert "16 × 16" in content


@pytest.mark.parametrize("more", ["", "&small=1"])
def test_an_image_is_served_as_what_it_is(colours: DatasetVersion, page: Client, more: str) -> None:
    answer = page.get(f"/datasets/{colours.dataset_id}/images/{RED}?version=1{more}")
    assert b"".join(answer.streaming_content) == picture("red")
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "private" in answer.headers["Cache-Control"]


def test_a_large_image_is_shown_small(make_prepared: Prepared, page: Client) -> None:
    large = picture(size=(900, 900))
    version = make_prepared(zipped({"rows.jsonl": jsonl([talk("a.png", "red")] * 5), "a.png": large}), "talks.zip")
    address = f"/datasets/{version.dataset_id}/images/{hashlib.sha256(large).hexdigest()}.png"
    small = page.get(f"{address}?small=1")
    assert small.headers["Content-Type"] == "image/webp"
    assert b"".join(small.streaming_content)[:4] == b"RIFF"
    assert b"".join(page.get(address).streaming_content) == large


@pytest.mark.parametrize("name", ["rows.jsonl", "..%2Frows.jsonl", f"{'0' * 64}.png", f"{'0' * 64}.svg", "red.png"])
def test_nothing_else_is_served(colours: DatasetVersion, page: Client, name: str) -> None:
    assert page.get(f"/datasets/{colours.dataset_id}/images/{name}").status_code == 404


def test_other_teams_see_no_image(colours: DatasetVersion) -> None:
    outsider = Client()
    outsider.force_login(make_user("olga", make_team("Blue"), Role.ADMIN))
    assert outsider.get(f"/datasets/{colours.dataset_id}/images/{RED}").status_code == 404
    assert Client().get(f"/datasets/{colours.dataset_id}/images/{RED}").status_code == 302


def test_images_go_with_their_dataset(
    colours: DatasetVersion, actor: Actor, django_capture_on_commit_callbacks: Callable[..., object]
) -> None:
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[attr-defined]
        dataset_delete(actor=actor, dataset=colours.dataset)
    assert not artifacts.exists(images_key(colours.rows_key))
