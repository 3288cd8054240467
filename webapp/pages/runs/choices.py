"""What forms offer: models and checkpoints to start from, datasets with how they would serve, name and place."""

import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from polm_core.data.convert import compatible
from polm_core.formats import Format
from webapp.accounts.access import Actor
from webapp.datasets.models import Dataset, DatasetVersion, VersionStatus
from webapp.pages.runs.inputs import whole_number
from webapp.registry.models import BaseModel, Checkpoint, ModelSource
from webapp.registry.selectors import STARTER, checkpoints_visible, models_visible

MODELS = 100
CHECKPOINTS = 50
MAX_NAME = 200

Source = BaseModel | Checkpoint
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class DatasetChoice:
    """A dataset in the picker; `reason` says why it cannot be picked, `note` how it would be used."""

    dataset: Dataset
    version: DatasetVersion
    reason: str
    note: str


def dataset_choice(dataset: Dataset, version: DatasetVersion, formats: Collection[Format] | None) -> DatasetChoice:
    """The dataset for what takes `formats`; None where that is not chosen yet."""
    if version.status != VersionStatus.READY:
        return DatasetChoice(dataset, version, f"it is {version.get_status_display().lower()}.", "")
    if formats is None:
        return DatasetChoice(dataset, version, "", "")
    fit = compatible(formats, Format(version.format))
    return DatasetChoice(dataset, version, "" if fit.ok else fit.reason, fit.reason if fit.ok else "")


def models_to_choose(actor: Actor, chosen: str) -> list[BaseModel]:
    """The models of the current team, newest first, and the chosen one."""
    visible = models_visible(actor, actor.current_team.pk)
    return with_chosen(visible.order_by("-source", "-id"), chosen, MODELS)


def checkpoints_to_choose(actor: Actor, chosen: str) -> list[Checkpoint]:
    """The checkpoints that the current team may read, newest first, and the chosen one."""
    visible = checkpoints_visible(actor, actor.current_team.pk)
    return with_chosen(visible.order_by("-id"), chosen, CHECKPOINTS)


def source_called(name: str, models: Collection[BaseModel], checkpoints: Collection[Checkpoint]) -> Source | None:
    """The one that a picker names so: the starter by that word, others by their id."""
    sources: list[Source] = [*models, *checkpoints]
    for one in sources:
        named = STARTER if isinstance(one, BaseModel) and one.source == ModelSource.STARTER else str(one.pk)
        if named == name:
            return one
    return None


def with_chosen(query: QuerySet[M], chosen: str | Collection[str], limit: int) -> list[M]:
    """The first of `query`, and those with the ids `chosen` though they stand further down."""
    found = list(query[:limit])
    missing = {chosen} if isinstance(chosen, str) else set(chosen)
    missing -= {str(one.pk) for one in found}
    if len(found) == limit and missing:
        with suppress(ValueError):
            found += query.filter(pk__in=[uuid.UUID(one) for one in missing])
    return found


def naming(value: Callable[[str], str], problems: dict[str, list[str]], *, longest: int = MAX_NAME) -> dict[str, Any]:
    """What is launched is called, where it stands, and what it needs of a worker; noting problems by field."""
    if len(value("name")) > longest:
        problems["name"] = [f"must have at most {longest} characters"]
    priority = whole_number(value("priority"))
    if priority is None or not -10 <= priority <= 10:
        problems["priority"] = ["must be a whole number from -10 to 10"]
    memory = whole_number(value("gpu_memory_gb") or "0")
    if memory is None:
        problems["gpu_memory_gb"] = ["must be a whole number of GB, or empty for any"]
    return {
        "name": value("name"),
        "project": value("project") or None,
        "tags": _words(value("tags")),
        "priority": priority or 0,
        "labels": _words(value("labels")),
        "gpu_memory_gb": memory or 0,
    }


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
