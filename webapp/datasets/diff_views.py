"""The page that compares two versions of a dataset."""

import uuid
from dataclasses import dataclass
from typing import Any, get_args

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from polm_core.data.diff import RowsDiff
from webapp.accounts.access import requires
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Role
from webapp.datasets import diffs, selectors
from webapp.datasets.marking import DiffLine, diff_line
from webapp.datasets.models import DatasetVersion, VersionDiff, VersionStatus
from webapp.datasets.views import number_in

ROWS = 10


@dataclass(frozen=True)
class DiffTab:
    """A kind of difference, how many rows are of it, and whether it is the one that is shown."""

    part: diffs.DiffPart
    label: str
    count: int
    is_open: bool


@dataclass(frozen=True)
class DiffRows:
    """A page of rows that differ, with the offsets of its neighbours."""

    lines: list[DiffLine]
    page: diffs.DiffPage
    previous: int | None

    @property
    def first(self) -> int:
        return self.page.offset + 1

    @property
    def last(self) -> int:
        return self.page.offset + len(self.lines)

    @property
    def neighbours(self) -> list[tuple[int | None, str, str]]:
        """Offset, words and icon of the way back and the way on."""
        return [
            (self.previous, "Rows before", "chevron-left"),
            (self.page.next_offset, "Rows after", "chevron-right"),
        ]


@requires(Role.VIEWER)
@require_safe
@vary_on_headers("HX-Request")
def diff(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Two versions of a dataset beside each other; as a fragment, what is known of it until a worker is done."""
    dataset = selectors.dataset_get(request.actor, pk)
    before, after = diffs.versions_to_compare(dataset, number_in(request, "from"), number_in(request, "to"))
    compared = diffs.diff_of(before, after)
    found = diffs.rows_diff(compared)
    context: dict[str, Any] = {
        "dataset": dataset,
        "versions": [one for one in selectors.versions(dataset) if one.status == VersionStatus.READY],
        "before": before,
        "after": after,
        "diff": compared,
        "found": found,
        "differences": diffs.differences(before, after),
        "rows_total": before.rows + after.rows,
    }
    if found is not None:
        context |= _rows(request, compared, found, before, after)
    template = "datasets/_diff.html" if request.htmx else "datasets/diff.html"
    return render(request, template, context)


def _rows(
    request: StudioRequest, compared: VersionDiff, found: RowsDiff, before: DatasetVersion, after: DatasetVersion
) -> dict[str, Any]:
    """The kinds of difference, and a page of one: of the one asked for, else of the first that there is."""
    counts: dict[diffs.DiffPart, int] = {name: getattr(found, name) for name in get_args(diffs.DiffPart)}
    some: diffs.DiffPart = next((name for name, count in counts.items() if count), "changed")
    part: diffs.DiffPart = next((name for name in counts if name == request.GET.get("part")), some)
    offset = number_in(request, "offset") or 0
    page = diffs.diff_page(compared, found, part, offset=offset, limit=ROWS)
    labels = {
        "changed": "Changed",
        "only_before": f"Only in version {before.number}",
        "only_after": f"Only in version {after.number}",
    }
    return {
        "tabs": [DiffTab(name, labels[name], count, name == part) for name, count in counts.items()],
        "part": part,
        "version": before if part == "only_before" else after,
        "rows": DiffRows(
            [diff_line(item, before, after) for item in page.items], page, max(0, offset - ROWS) if offset else None
        ),
    }
