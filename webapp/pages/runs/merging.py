"""The models that a run merges with the one that it starts from, each with its weight, to be chosen one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from polm_core.context import MAX_MERGED
from polm_core.methods.integration.merge import FROM_BASE, UNWEIGHTED, MergeConfig
from polm_core.settings import as_text
from webapp.accounts.access import Actor
from webapp.pages.runs.choices import Source
from webapp.pages.runs.scorers import writers_to_choose
from webapp.runs.models import Run

_MODEL, _WEIGHT = "merge_models.{}", "weight.{}"
_EVEN = "1"
_METHOD = "config.merge_method"
_WEIGHTS = "config.weights"


@dataclass(frozen=True)
class MergeRow:
    """A model in the picker: the one that the run starts from has place 0, and the last row is for one more.

    `weight` is None for one that has none: the base of the others, and all where the merge finds the weights itself.
    """

    place: int
    chosen: Source | None
    weight: str | None


@dataclass(frozen=True)
class MergePicker:
    rows: list[MergeRow]
    offered: list[Source]
    starts_from_base: bool

    @property
    def chosen(self) -> list[Source]:
        """The further models."""
        return [row.chosen for row in self.rows if row.place and row.chosen is not None]


def merge_picker(actor: Actor, merge_method: str, values: Mapping[str, Any], start: Source | None) -> MergePicker:
    """The rows that `values` fill, as the form posts them and `choices_of` gives them."""
    named = [(ref, _weight(values, place)) for place in _places() if (ref := _ref(values, place))]
    offered = writers_to_choose(actor, [ref for ref, _ in named])
    by_ref = {str(one.pk): one for one in offered}
    chosen: list[tuple[Source | None, str]] = [(by_ref[ref], weight) for ref, weight in named if ref in by_ref]
    if len(chosen) < MAX_MERGED:
        chosen.append((None, _EVEN))
    weighted, from_base = merge_method not in UNWEIGHTED, merge_method in FROM_BASE
    rows = [MergeRow(0, start, _weight(values, 0) if weighted and not from_base else None)]
    rows += [MergeRow(place, one, weight if weighted else None) for place, (one, weight) in enumerate(chosen, 1)]
    return MergePicker(rows, offered, from_base)


def with_weights(posted: QueryDict) -> QueryDict:
    """What was posted, with the weights of the models as one setting; none where all count alike."""
    method = posted.get(_METHOD) or MergeConfig().merge_method
    places = [*([] if method in FROM_BASE else [0]), *(place for place in _places() if _ref(posted, place))]
    weights = [_weight(posted, place) for place in places]
    told = method not in UNWEIGHTED and any(weight != _EVEN for weight in weights)
    posted[_WEIGHTS] = ", ".join(weights) if told else ""
    return posted


def merging_fields(values: Mapping[str, Any]) -> dict[str, str]:
    """What `values` say of a merge, for a page that does not show it now."""
    names = [form.format(place) for place in range(MAX_MERGED + 1) for form in (_MODEL, _WEIGHT)]
    return {name: str(values[name]) for name in names if values.get(name)}


def choices_of(run: Run) -> dict[str, str]:
    """What a clone of the run starts with."""
    found, weights = {}, list(run.config.get("weights", ()))
    first = run.config.get("merge_method") in FROM_BASE
    for place, weight in enumerate(weights, first):
        found[_WEIGHT.format(place)] = as_text(weight)
    for one in run.merge_models.select_related("model"):
        found[_MODEL.format(one.place)] = str(one.model.checkpoint_id or one.model_id)
    return found


def _places() -> range:
    return range(1, MAX_MERGED + 1)


def _ref(values: Mapping[str, Any], place: int) -> str:
    return str(values.get(_MODEL.format(place), "") or "").strip()


def _weight(values: Mapping[str, Any], place: int) -> str:
    """As it was typed, but for what means the same as 1."""
    text = str(values.get(_WEIGHT.format(place), "") or "").strip()
    return _EVEN if text in ("", "1.0", "1.00") else text
