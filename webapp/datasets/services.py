"""What people do to datasets."""

import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from pydantic import ValidationError

from polm_core.data.convert import conversions_of
from polm_core.data.values import is_storable
from polm_core.formats import SPECS, Format
from polm_core.gym.tasks import TaskChoice, table
from webapp import artifacts
from webapp.accounts.access import Actor
from webapp.accounts.models import Role, Team
from webapp.accounts.services import audit
from webapp.datasets.derivations import ConversionDerivation, Derivation, TaskDerivation
from webapp.datasets.mappings import check_columns, clean_format, clean_mapping
from webapp.datasets.models import Dataset, DatasetVersion, Origin, VersionStatus
from webapp.errors import Conflict, Invalid
from webapp.live.notify import publish
from webapp.tasks import DATASETS_PROCESS, wake

MAX_DESCRIPTION = 10_000


def dataset_create(
    *,
    actor: Actor,
    team: Team,
    file: Path,
    filename: str,
    name: str,
    format: str = "",
    mapping: MappingType[str, Any] | None = None,
    origin: str = Origin.UNKNOWN,
    origin_model: str = "",
    description: str = "",
) -> Dataset:
    """Take `file` into the store and have a worker prepare it as the first version of a new dataset.

    The file is moved where the store is on the same disk. `format` and `mapping` overrule what would be detected.
    Raises Invalid with the fields at fault.
    """
    actor.require(team.pk, Role.MEMBER, "team")
    values = {
        "name": _clean_name(name),
        "origin": _clean_origin(origin),
        "origin_model": clean_text("origin_model", origin_model, 200),
        "description": clean_text("description", description, MAX_DESCRIPTION),
    }
    wanted = {"requested_format": clean_format(format), "requested_mapping": clean_mapping(mapping, format=format)}
    if not file.stat().st_size:
        raise Invalid(
            "The file is empty.",
            code="data.empty",
            advice="Upload a file with at least one row.",
            fields={"file": ["is empty"]},
        )
    _refuse_taken_name(team.pk, values["name"])
    version = DatasetVersion(
        filename=filename[-255:], source_bytes=file.stat().st_size, created_by=actor.user, **wanted
    )
    version.source_key = f"{version_folder(version.pk)}/source"
    artifacts.take(file, version.source_key)
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(team=team, created_by=actor.user, **values)
            _version_start(dataset, version)
            audit(actor=actor, team_id=team.pk, verb="dataset.create", target=dataset, detail={"file": filename})
    except BaseException as error:
        artifacts.delete(version.source_key)
        if isinstance(error, IntegrityError):
            _refuse_taken_name(team.pk, values["name"])
        raise
    return dataset


def dataset_create_from_path(
    *, actor: Actor, team: Team, path: Path, name: str, origin: str = Origin.UNKNOWN, description: str = ""
) -> Dataset:
    """As `dataset_create`, from a file that stays where it is."""
    handle, draft = tempfile.mkstemp(suffix=".upload", dir=settings.UPLOADS_DIR)
    os.close(handle)
    try:
        shutil.copyfile(path, draft)
        return dataset_create(
            actor=actor,
            team=team,
            file=Path(draft),
            filename=path.name,
            name=name,
            origin=origin,
            description=description,
        )
    finally:
        Path(draft).unlink(missing_ok=True)


def dataset_remap(
    *, actor: Actor, dataset: Dataset, format: str = "", mapping: MappingType[str, Any] | None = None
) -> DatasetVersion:
    """Prepare the same file again, read another way, as the dataset's next version.

    Raises Conflict while a version is being prepared, Invalid or DataError for what does not fit the file.
    """
    actor.require(dataset.team_id, Role.MEMBER, "dataset")
    wanted: dict[str, Any] = {
        "requested_format": clean_format(format),
        "requested_mapping": clean_mapping(mapping, format=format),
    }
    with transaction.atomic():
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        last = dataset.versions.latest("number")
        if last.status == VersionStatus.PROCESSING:
            raise Conflict("The dataset is still being processed.", advice="Change the mapping when it is done.")
        if last.derivation:
            raise Conflict(
                "The rows were not read from a file, so there is no mapping to change.",
                advice="Convert them to another format instead.",
            )
        check_columns(wanted["requested_mapping"], last.report)
        version = DatasetVersion(
            number=last.number + 1,
            filename=last.filename,
            source_key=last.source_key,
            source_bytes=last.source_bytes,
            created_by=actor.user,
            **wanted,
        )
        _version_start(dataset, version)
        audit(
            actor=actor,
            team_id=dataset.team_id,
            verb="dataset.remap",
            target=dataset,
            detail={"version": version.number, **wanted},
        )
    return version


def dataset_derive(
    *,
    actor: Actor,
    team: Team,
    derivation: Derivation,
    name: str,
    origin: str,
    origin_model: str = "",
    description: str = "",
    made_from: DatasetVersion | None = None,
) -> DatasetVersion:
    """Have a worker make the rows of a new dataset as `derivation` says. Raises Invalid with the fields at fault."""
    actor.require(team.pk, Role.MEMBER, "team")
    name = _clean_name(name)
    _refuse_taken_name(team.pk, name)
    version = DatasetVersion(
        requested_format=derivation.format,
        derivation=derivation.model_dump(mode="json"),
        made_from=made_from,
        source_bytes=made_from.bytes if made_from else 0,
        created_by=actor.user,
    )
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(
                team=team,
                name=name,
                origin=_clean_origin(origin),
                origin_model=clean_text("origin_model", origin_model, 200),
                description=clean_text("description", description, MAX_DESCRIPTION),
                created_by=actor.user,
            )
            _version_start(dataset, version)
            audit(actor=actor, team_id=team.pk, verb="dataset.derive", target=dataset, detail=version.derivation)
    except IntegrityError:
        _refuse_taken_name(team.pk, name)
        raise
    return version


def dataset_extend(*, actor: Actor, dataset: Dataset, derivation: Derivation) -> DatasetVersion:
    """Have a worker add rows, made as `derivation` says, to those of the dataset, as its next version.

    Raises Conflict while a version is being prepared or when there are no rows, and Invalid for another format.
    """
    actor.require(dataset.team_id, Role.MEMBER, "dataset")
    with transaction.atomic():
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        last = dataset.versions.latest("number")
        if last.status == VersionStatus.PROCESSING:
            raise Conflict("The dataset is still being processed.", advice="Add rows when it is done.")
        base = dataset.versions.filter(status=VersionStatus.READY).order_by("-number").first()
        if base is None:
            raise Conflict("The dataset has no rows to add to.", advice="Make a new dataset instead.")
        if base.format != derivation.format:
            raise Invalid(
                f"{dataset.name} holds {SPECS[Format(base.format)].title.lower()}, "
                f"and the rows are {SPECS[derivation.format].title.lower()}.",
                fields={"dataset": ["has another format: choose one of the same, or make a new dataset"]},
            )
        version = DatasetVersion(
            number=last.number + 1,
            requested_format=derivation.format,
            derivation=derivation.model_dump(mode="json"),
            made_from=base,
            source_bytes=base.bytes,
            created_by=actor.user,
        )
        _version_start(dataset, version)
        audit(
            actor=actor,
            team_id=dataset.team_id,
            verb="dataset.extend",
            target=dataset,
            detail={"version": version.number, **version.derivation},
        )
    return version


def dataset_convert(*, actor: Actor, version: DatasetVersion, to: str, name: str = "") -> DatasetVersion:
    """Have a worker turn the rows of a ready version into another format, as a new dataset.

    Without a name it is called after the dataset and the format. Raises Invalid for a format that the rows cannot
    become, and when it is known that no row would come of it.
    """
    dataset, source = version.dataset, Format(version.format)
    conversions = conversions_of(source)
    if to not in conversions:
        raise Invalid(
            f"Rows of the format {SPECS[source].title.lower()} cannot become '{to[:40]}'.",
            fields={"to": [f"must be one of {', '.join(conversions)}" if conversions else "there is no conversion"]},
        )
    target = Format(to)
    if not most_rows(version, target):
        raise Invalid(
            f"No row would come of it. {SPECS[target].title} takes: {conversions[target].says}",
            code="data.nothing-converted",
            advice="Convert to another format, or add rows that have what this one needs.",
            fields={"to": ["would give no rows"]},
        )
    return dataset_derive(
        actor=actor,
        team=dataset.team,
        derivation=ConversionDerivation(source=source, format=target),
        name=name or free_name(dataset.team_id, f"{dataset.name[:150]} as {SPECS[target].title.lower()}"),
        origin=dataset.origin,
        origin_model=dataset.origin_model,
        description=dataset.description,
        made_from=version,
    )


def dataset_generate(
    *,
    actor: Actor,
    team: Team,
    task: str,
    level: int | None = None,
    size: int,
    seed: int = 0,
    name: str = "",
    description: str = "",
) -> DatasetVersion:
    """Have a worker make up the rows of a new dataset by a task of reasoning-gym: prompts with answers.

    Without a name it is called after the task. Raises Invalid with the fields at fault.
    """
    try:
        choice = TaskChoice(task=task, level=level, size=size, seed=seed)
    except ValidationError as error:
        fields = {str(one["loc"][-1]): [one["msg"].removeprefix("Value error, ")] for one in error.errors()}
        raise Invalid("The task is not accepted.", fields=fields) from None
    return dataset_derive(
        actor=actor,
        team=team,
        derivation=TaskDerivation(**choice.model_dump(), version=table().version),
        name=name or free_name(team.pk, f"{choice.task}, {f'level {level}, ' if level else ''}{size:,} rows"),
        origin=Origin.SYNTHETIC,
        description=description,
    )


def most_rows(version: DatasetVersion, target: Format) -> int:
    """How many rows a ready version gives at most in another format, as far as its report tells."""
    labels = version.report.get("stats", {}).get("labels", {})
    return conversions_of(Format(version.format))[target].most(version.rows, labels)


def dataset_update(
    *,
    actor: Actor,
    dataset: Dataset,
    name: str | None = None,
    description: str | None = None,
    origin: str | None = None,
    origin_model: str | None = None,
) -> Dataset:
    """Change what people say about a dataset; its rows stay as they are. What is None stays too."""
    actor.require(dataset.team_id, Role.MEMBER, "dataset")
    changes: dict[str, str] = {}
    if name is not None:
        changes["name"] = _clean_name(name)
        _refuse_taken_name(dataset.team_id, changes["name"], besides=dataset.pk)
    if description is not None:
        changes["description"] = clean_text("description", description, MAX_DESCRIPTION)
    if origin is not None:
        changes["origin"] = _clean_origin(origin)
    if origin_model is not None:
        changes["origin_model"] = clean_text("origin_model", origin_model, 200)
    try:
        with transaction.atomic():
            for field, value in changes.items():
                setattr(dataset, field, value)
            dataset.save(update_fields=list(changes))
            audit(
                actor=actor,
                team_id=dataset.team_id,
                verb="dataset.update",
                target=dataset,
                detail={"changed": sorted(changes)},
            )
    except IntegrityError:
        _refuse_taken_name(dataset.team_id, changes.get("name", ""), besides=dataset.pk)
        raise
    return dataset


def dataset_delete(*, actor: Actor, dataset: Dataset) -> None:
    """Delete a dataset with its versions and files. Raises Conflict naming what used one of them."""
    actor.require(dataset.team_id, Role.MEMBER, "dataset")
    with transaction.atomic():
        versions = list(dataset.versions.select_for_update())
        folders = [version_folder(version.pk) for version in versions]
        audit(
            actor=actor,
            team_id=dataset.team_id,
            verb="dataset.delete",
            target=dataset,
            detail={"name": dataset.name, "rows": max((version.rows for version in versions), default=0)},
        )
        publish(f"team:{dataset.team_id}", "status", {"dataset": str(dataset.pk), "status": "deleted"})
        try:
            dataset.delete()
        except ProtectedError as error:
            raise _in_use(error) from None
        transaction.on_commit(lambda: _delete_files(folders), robust=True)


def announce(version: DatasetVersion) -> None:
    """Tell open pages where a version is: the dataset's own page, and the team's lists."""
    dataset = version.dataset
    publish(f"dataset:{dataset.pk}", "status", {"version": version.number, "status": version.status})
    publish(f"team:{dataset.team_id}", "status", {"dataset": str(dataset.pk), "status": version.status})


def version_folder(version_id: uuid.UUID) -> str:
    """The folder of the artifact store that belongs to a version."""
    return f"datasets/{version_id}"


def head_folder(version_id: uuid.UUID) -> str:
    """The folder of the store with the first source rows of a version, on which mappings are tried out."""
    return f"{version_folder(version_id)}/head"


def _version_start(dataset: Dataset, version: DatasetVersion) -> None:
    version.dataset = dataset
    version.save(force_insert=True)
    announce(version)
    wake(DATASETS_PROCESS, version.pk)


def _delete_files(folders: list[str]) -> None:
    for folder in folders:
        artifacts.delete(folder)


def _in_use(error: ProtectedError) -> Conflict:
    """The refusal to delete what runs used, indexes are made of, or stages of pipelines will use."""
    used_by: dict[str, list[str]] = {}
    for user in error.protected_objects:
        used_by.setdefault(str(user._meta.verbose_name), []).append(str(user.pk))
    if runs := sorted(used_by.pop("run", [])):
        many = len(runs) > 1
        return Conflict(
            f"{len(runs)} runs used this dataset, so it is kept."
            if many
            else "A run used this dataset, so it is kept.",
            advice=f"Delete the run{'s' if many else ''} first: {', '.join(runs[:20])}{' …' if len(runs) > 20 else ''}",
            fields={"runs": runs},
        )
    if indexes := sorted(used_by.pop("document index", [])):
        return Conflict(
            "An index of documents is made of this dataset, so it is kept.",
            advice=f"Delete it first: {', '.join(indexes[:20])}{' …' if len(indexes) > 20 else ''}",
            fields={"indexes": indexes},
        )
    return Conflict(
        f"A {' or '.join(used_by)} is to train on this dataset, so it is kept.", advice="Delete the pipeline first."
    )


def _clean_name(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise Invalid("The name is not accepted.", fields={"name": ["must have 1 to 200 printable characters"]})
    return name


def free_name(team_id: uuid.UUID, name: str) -> str:
    """`name`, with a number behind it where it is taken."""
    taken = {
        found.lower()
        for found in Dataset.objects.filter(team_id=team_id, name__istartswith=name).values_list("name", flat=True)
    }
    numbered = (f"{name} {number}" for number in itertools.count(2))
    return next(found for found in itertools.chain([name], numbered) if found.lower() not in taken)


def _clean_origin(origin: str) -> str:
    if origin not in Origin.values:
        raise Invalid("The origin is not accepted.", fields={"origin": [f"must be one of {', '.join(Origin.values)}"]})
    return origin


def clean_text(field: str, text: str, length: int) -> str:
    """The text without blanks around it. Raises Invalid for one that is too long or that no database holds."""
    if len(text) > length:
        raise Invalid("The text is too long.", fields={field: [f"must have at most {length:,} characters"]})
    if not is_storable(text):
        raise Invalid("The text is not accepted.", fields={field: ["holds a NUL or half a character"]})
    return text.strip()


def _refuse_taken_name(team_id: uuid.UUID, name: str, *, besides: uuid.UUID | None = None) -> None:
    others = Dataset.objects.filter(team_id=team_id, name__iexact=name)
    if (others.exclude(pk=besides) if besides else others).exists():
        raise Invalid(
            f"The team already has a dataset called {name}.",
            fields={"name": ["is taken: choose another, or delete the other dataset"]},
        )
