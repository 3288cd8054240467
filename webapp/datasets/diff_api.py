"""Two versions of a dataset compared, over the API."""

from dataclasses import asdict
from typing import Any, Literal

from ninja import Query, Router, Schema
from pydantic import Field

from webapp.datasets import diffs, selectors
from webapp.datasets.api import ApiRequest, Failure
from webapp.pagination import Limit

router = Router(tags=["datasets"])


class DiffQuery(Schema):
    """Which versions to compare, and which of the rows that differ to list."""

    before: int | None = Field(None, alias="from", ge=1, lt=2**31, description="by default the one before `to`")
    after: int | None = Field(None, alias="to", ge=1, lt=2**31, description="by default the latest that is ready")
    part: diffs.DiffPart = "changed"
    offset: int = Field(0, ge=0, lt=2**31)
    limit: Limit = 20


class DifferenceOut(Schema):
    """What was set or counted otherwise; null where a version has no such thing."""

    name: str
    before: str | None
    after: str | None


class CountsOut(Schema):
    """Rows that are the same in both versions, whatever their order; that ask the same and go on otherwise; and that
    one version alone has. `same + changed + only_before` are all rows of `before`."""

    same: int
    changed: int
    only_before: int
    only_after: int


class PlacedRowOut(Schema):
    """A canonical row, and its number in its version from 1."""

    number: int
    row: dict[str, Any]


class DiffItemOut(Schema):
    before: PlacedRowOut | None
    after: PlacedRowOut | None


class DiffOut(Schema):
    """Two versions compared: `before` is that of `from`, `after` that of `to`.

    A worker compares the rows the first time: ask again until `status` is `done` or `failed`; until then `rows` is
    null and `rows_read` tells how far it is. Of `total` rows of the `part` that was asked for, the first `listed` can
    be read; `next_offset` is null at the end.
    """

    before: int
    after: int
    status: Literal["waiting", "running", "done", "failed"]
    error: Failure | None
    rows_read: int
    differences: list[DifferenceOut]
    rows: CountsOut | None
    part: str
    items: list[DiffItemOut] = []
    offset: int
    total: int = 0
    listed: int = 0
    next_offset: int | None = None


@router.get("/datasets/{dataset_id}/diff", response=DiffOut)
def dataset_diff(request: ApiRequest, dataset_id: str, query: Query[DiffQuery]) -> Any:
    """Compare two versions: how each was made, and what their rows have in common. A version that is not there is
    answered with 404, one whose rows are not ready with 409."""
    dataset = selectors.dataset_get(request.actor, dataset_id)
    first, last = diffs.versions_to_compare(dataset, query.before, query.after)
    diff = diffs.diff_of(first, last)
    found = diffs.rows_diff(diff)
    listing = asdict(diffs.diff_page(diff, found, query.part, offset=query.offset, limit=query.limit)) if found else {}
    return {
        "before": first.number,
        "after": last.number,
        "status": diff.status,
        "error": diff.error,
        "rows_read": diff.progress.get("rows", 0),
        "differences": diffs.differences(first, last),
        "rows": found,
        "part": query.part,
        "offset": query.offset,
        **listing,
    }
