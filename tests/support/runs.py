"""Runs that nothing has run: for tests of what hangs on a run."""

from collections.abc import Callable
from typing import Any

from webapp.accounts.models import Team
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.registry.models import BaseModel, ModelSource
from webapp.runs.models import Project, Run


def make_run(team: Team, name: str = "first", **values: Any) -> Run:
    """A queued run of `team`; `values` are further fields of the row, in place of the default ones."""
    defaults: dict[str, Callable[[Team], Any]] = {"dataset_version": _version, "model": _model, "project": _project}
    for field, make in defaults.items():
        if field not in values:
            values[field] = make(team)
    fields = {"method": "sft", "config": {}, "code_version": "0", **values}
    return Run.objects.create(team=team, name=name, **fields)


def _version(team: Team) -> DatasetVersion:
    dataset, _ = Dataset.objects.get_or_create(team=team, name="rows")
    ready = {"status": VersionStatus.READY, "filename": "rows.jsonl"}
    return DatasetVersion.objects.get_or_create(dataset=dataset, defaults=ready)[0]


def _model(team: Team) -> BaseModel:
    return BaseModel.objects.get_or_create(team=team, name="base", defaults={"source": ModelSource.PATH})[0]


def _project(team: Team) -> Project:
    return Project.objects.get_or_create(team=team, name="Experiments")[0]
