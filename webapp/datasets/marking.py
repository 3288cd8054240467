"""Rows that differ as pages show them: with the words marked that the other side does not have."""

from dataclasses import dataclass
from itertools import takewhile, zip_longest

from webapp.datasets.diffs import DiffItem, PlacedRow
from webapp.datasets.models import DatasetVersion
from webapp.datasets.presenting import MAX_TEXT, MAX_TURNS, Part, RowView, row_view, said, shown_turn
from webapp.ui.differences import Piece, both_sides

# What stays of a long beginning that both sides share, in characters.
LEAD = 200


@dataclass(frozen=True)
class MarkedTurn:
    """Something said, with what the other side does not say. `skipped` counts characters left out before it, which
    both sides share, `more` those after it."""

    role: str
    pieces: list[Piece]
    skipped: int = 0
    more: int = 0


@dataclass(frozen=True)
class MarkedSide:
    """A row of one version, the older or the newer. `more` counts texts left out."""

    is_old: bool
    number: int
    turns: list[MarkedTurn]
    more: int = 0


@dataclass(frozen=True)
class DiffLine:
    """A row on one side, with its number and whole; or one that changed: what both begin with, and how each goes on."""

    number: int
    view: RowView
    sides: list[MarkedSide]


def diff_line(item: DiffItem, before: DatasetVersion, after: DatasetVersion) -> DiffLine:
    """A row that differs, for reading."""
    if item.before is not None and item.after is not None:
        return _changed(item.before, item.after)
    for side, version in ((item.before, before), (item.after, after)):
        if side is not None:
            return DiffLine(side.number, row_view(version.format, side.row), [])
    raise ValueError("there is no row")


def _changed(before: PlacedRow, after: PlacedRow) -> DiffLine:
    old, new = said(before.row), said(after.row)
    alike = [first for first, _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))]
    old, new = old[len(alike) :], new[len(alike) :]
    turns = [_marked(first, second) for first, second in list(zip_longest(old, new))[:MAX_TURNS]]
    sides = [
        MarkedSide(is_old, row.number, [turn for turn in marked if turn], max(0, len(texts) - MAX_TURNS))
        for is_old, row, marked, texts in zip(
            (True, False), (before, after), zip(*turns, strict=True), (old, new), strict=True
        )
    ]
    shared = [shown_turn(role, text) for role, text in alike[:MAX_TURNS]]
    return DiffLine(before.number, RowView([Part("", shared, more=max(0, len(alike) - MAX_TURNS))]), sides)


def _marked(
    first: tuple[str, str] | None, second: tuple[str, str] | None
) -> tuple[MarkedTurn | None, MarkedTurn | None]:
    """Two texts that stand at the same place; a text without its like is new as a whole."""
    if first is None or second is None:
        return _alone(first), _alone(second)
    (old_role, old), (new_role, new) = first, second
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    start = same - LEAD if same > 2 * LEAD else 0
    pieces = both_sides(old[start : start + MAX_TEXT], new[start : start + MAX_TEXT])
    return (
        MarkedTurn(old_role, pieces[0], start, max(0, len(old) - start - MAX_TEXT)),
        MarkedTurn(new_role, pieces[1], start, max(0, len(new) - start - MAX_TEXT)),
    )


def _alone(text: tuple[str, str] | None) -> MarkedTurn | None:
    if text is None:
        return None
    role, words = text
    return MarkedTurn(role, [Piece(words[:MAX_TEXT], is_new=True)], 0, max(0, len(words) - MAX_TEXT))
