"""Datasets made the way people make them, and prepared by the real worker function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.services import dataset_create
from workers.datasets import process

Make = Callable[..., Dataset]


@pytest.fixture
def upload() -> Callable[[bytes], Path]:
    """Puts content where the upload handler would have put it."""

    def put(content: bytes) -> Path:
        path = Path(settings.UPLOADS_DIR) / "fixture.upload"
        path.write_bytes(content)
        return path

    return put


@pytest.fixture
def make_dataset(actor: Actor, team: Team, upload: Callable[[bytes], Path]) -> Make:
    """Creates a dataset that no worker has looked at yet."""

    def make(content: bytes, filename: str = "rows.jsonl", name: str = "sums", **values: Any) -> Dataset:
        return dataset_create(actor=actor, team=team, file=upload(content), filename=filename, name=name, **values)

    return make


@pytest.fixture
def make_prepared(make_dataset: Make) -> Callable[..., DatasetVersion]:
    """Creates a dataset and has it prepared; the version is ready or invalid."""

    def make(*arguments: Any, **values: Any) -> DatasetVersion:
        version = make_dataset(*arguments, **values).versions.get()
        process(str(version.pk))
        version.refresh_from_db()
        return version

    return make
