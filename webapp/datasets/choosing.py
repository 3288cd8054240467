"""New datasets of rows that are there: the sides of a split, those that fit, mixtures of several."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import transaction
from pydantic import ValidationError

from polm_core.data.choose import MAX_PARTS, Filter, Split, takes
from polm_core.formats import SPECS, Format
from webapp.accounts.access import Actor
from webapp.datasets.derivations import ChoiceDerivation, MixtureDerivation, MixturePart
from webapp.datasets.models import DatasetVersion, Origin
from webapp.datasets.selectors import version_to_use
from webapp.datasets.services import dataset_derive, free_name
from webapp.errors import Invalid

MAX_WEIGHT = 1e6

T = TypeVar("T", Split, Filter)


@dataclass(frozen=True)
class Part:
    """What a mixture takes rows from, and how much it counts beside the others."""

    version: DatasetVersion
    weight: float


def dataset_split(
    *, actor: Actor, version: DatasetVersion, share: Any, by: str = "random", seed: Any = 0
) -> tuple[DatasetVersion, DatasetVersion]:
    """Have a worker make two datasets of a ready version: most rows, and `share` of them held out.

    Raises Invalid with the fields at fault.
    """
    if version.rows < 2:
        raise Invalid("One row cannot be split.", advice="Add rows first.")
    sides = [_parsed(Split, side=side, share=share, by=by, seed=seed) for side in ("train", "held-out")]
    if by == "prompt" and "prompt" not in SPECS[Format(version.format)].columns:
        raise Invalid(
            "The rows have no prompts to split them by.", fields={"by": ["must be random or content for this format"]}
        )
    with transaction.atomic():
        train, held_out = (_chosen(actor, version, side, f"{version.dataset.name[:180]} {side.side}") for side in sides)
    return train, held_out


def dataset_filter(*, actor: Actor, version: DatasetVersion, name: str = "", **rules: Any) -> DatasetVersion:
    """Have a worker make a dataset of the rows of a ready version that fit `rules`, the fields of a `Filter`.

    Raises Invalid with the fields at fault.
    """
    choice = _parsed(Filter, **{rule: value for rule, value in rules.items() if value not in (None, "")})
    return _chosen(
        actor, version, choice, name or free_name(version.dataset.team_id, f"{version.dataset.name[:180]} filtered")
    )


def dataset_mix(
    *,
    actor: Actor,
    parts: Sequence[tuple[str | uuid.UUID, Any]],
    rows: int | None = None,
    seed: int = 0,
    name: str = "",
) -> DatasetVersion:
    """Have a worker make a dataset of rows of a team's others, given with their weights, all of one format.

    `rows` are how many in all; None takes as many as the weights allow. Raises Invalid with the fields at fault.
    """
    chosen = [Part(version_to_use(actor, ref), weight_of(weight)) for ref, weight in parts]
    taken = mixture_takes(chosen, rows)
    derivation = MixtureDerivation(
        format=Format(chosen[0].version.format),
        parts=[
            MixturePart(
                version=part.version.pk, name=str(part.version), rows=part.version.rows, take=take, weight=part.weight
            )
            for part, take in zip(chosen, taken, strict=True)
        ],
        seed=seed,
    )
    names = ", ".join(part.version.dataset.name for part in chosen)
    origins = {(part.version.dataset.origin, part.version.dataset.origin_model) for part in chosen}
    origin, origin_model = origins.pop() if len(origins) == 1 else (Origin.UNKNOWN, "")
    return dataset_derive(
        actor=actor,
        team=chosen[0].version.dataset.team,
        derivation=derivation,
        name=name or free_name(chosen[0].version.dataset.team_id, f"Mixture of {names}"[:180]),
        origin=origin,
        origin_model=origin_model,
    )


def mixture_takes(parts: Sequence[Part], rows: int | None) -> list[int]:
    """How many rows each part gives. Raises Invalid with the fields at fault."""
    if not 2 <= len(parts) <= MAX_PARTS:
        raise Invalid("A mixture has several parts.", fields={"parts": [f"must be 2 to {MAX_PARTS} datasets"]})
    if len({part.version.pk for part in parts}) < len(parts):
        raise Invalid("A dataset is named twice.", fields={"parts": ["must be different: raise one's weight instead"]})
    if len({part.version.dataset.team_id for part in parts}) > 1:
        raise Invalid("The datasets are of different teams.", fields={"parts": ["must all be of one team"]})
    formats = list(dict.fromkeys(part.version.format for part in parts))
    if len(formats) > 1:
        raise Invalid(
            f"The rows are of different formats: {', '.join(formats)}.",
            advice="Convert them to one of these first.",
            fields={"parts": ["must all have one format"]},
        )
    _refuse_images(parts[0].version)
    try:
        return takes([part.version.rows for part in parts], [part.weight for part in parts], rows)
    except ValueError as error:
        raise Invalid(f"The mixture cannot be made: {error}.", fields={"rows": [str(error)]}) from None


def _chosen(actor: Actor, version: DatasetVersion, choice: Split | Filter, name: str) -> DatasetVersion:
    _refuse_images(version)
    dataset = version.dataset
    return dataset_derive(
        actor=actor,
        team=dataset.team,
        derivation=ChoiceDerivation(format=Format(version.format), rows=version.rows, choice=choice),
        name=free_name(dataset.team_id, name),
        origin=dataset.origin,
        origin_model=dataset.origin_model,
        description=dataset.description,
        made_from=version,
    )


def _refuse_images(version: DatasetVersion) -> None:
    if version.has_images:
        raise Invalid(
            "Rows with images are kept together with them, and are not chosen from.",
            advice="Make the choice in the zip, and upload it.",
        )


def weight_of(weight: Any) -> float:
    """A weight as it was given. Raises Invalid."""
    try:
        value = float(weight)
    except (TypeError, ValueError):
        value = 0.0
    if not 0 < value <= MAX_WEIGHT:
        raise Invalid(
            "A weight is not accepted.", fields={"parts": [f"weights must be numbers above 0, up to {MAX_WEIGHT:,.0f}"]}
        )
    return value


def _parsed(kind: type[T], **values: Any) -> T:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fields = {
            str((one["loc"] or ("__all__",))[0]): [one["msg"].removeprefix("Value error, ")] for one in error.errors()
        }
        raise Invalid("The choice is not accepted.", fields=fields) from None
