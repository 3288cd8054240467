"""A claimed run with its run directory."""

from pathlib import Path

import pytest
from django.utils import timezone

from polm_core.run_dir import RunDir
from tests.support.factories import make_team
from tests.support.runs import make_run
from webapp.runs.claims import run_claim
from webapp.runs.leases import Claim
from webapp.runs.models import Run, Worker


@pytest.fixture
def run(db: None) -> Run:
    return make_run(make_team("Red"))


@pytest.fixture
def claim(run: Run) -> Claim:
    worker = Worker.objects.create(name="w1", host="w1", boot_id="boot-1", queues=["runs"], heartbeat_at=timezone.now())
    found = run_claim(worker=worker)
    assert found is not None
    return found


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "run")
    made.create()
    return made
