"""Runs that nothing has run: for tests of what hangs on a run."""

import datetime
from collections.abc import Callable
from typing import Any

from django.utils import timezone

from webapp.accounts.models import Team
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.registry.models import BaseModel, ModelSource
from webapp.runs.models import Project, Run, Status


def make_run(team: Team, name: str = "first", **values: Any) -> Run:
    """A queued run of `team`; `values` are further fields of the row, in place of the default ones."""
    defaults: dict[str, Callable[[Team], Any]] = {"dataset_version": _version, "model": _model, "project": _project}
    for field, make in defaults.items():
        if field not in values:
            values[field] = make(team)
    fields = {"method": "sft", "config": {}, "code_version": "0", **values}
    return Run.objects.create(team=team, name=name, **fields)


def finished_run(team: Team, *, estimated: float, took: float, **values: Any) -> Run:
    """A run of `team` that took so many seconds, where its preflight had said `estimated` on a CPU."""
    end = timezone.now()
    times = {"started_at": end - datetime.timedelta(seconds=took), "finished_at": end}
    known = {"estimated_seconds": estimated, "estimated_on": "cpu", "status": Status.SUCCEEDED, "lease_epoch": 1}
    return make_run(team, "finished", **{**known, **times, **values})


def _version(team: Team) -> DatasetVersion:
    dataset, _ = Dataset.objects.get_or_create(team=team, name="rows")
    ready = {"status": VersionStatus.READY, "filename": "rows.jsonl"}
    return DatasetVersion.objects.get_or_create(dataset=dataset, defaults=ready)[0]


def _model(team: Team) -> BaseModel:
    return BaseModel.objects.get_or_create(team=team, name="base", defaults={"source": ModelSource.PATH})[0]


def _project(team: Team) -> Project:
    return Project.objects.get_or_create(team=team, name="Experiments")[0]
