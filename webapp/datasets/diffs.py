"""Two versions of a dataset beside each other: how each was made, and what their rows have in common."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from polm_core.data.diff import RowsDiff
from polm_core.data.rows import read_rows
from polm_core.data.values import truncated
from polm_core.errors import PolmError
from polm_core.formats import SPECS, Format
from webapp import artifacts
from webapp.claimed import MAX_ATTEMPTS, WorkStatus
from webapp.datasets.models import Dataset, DatasetVersion, VersionDiff, VersionStatus
from webapp.datasets.selectors import MAX_ROWS_BYTES, version_with_rows
from webapp.tasks import DATASETS_COMPARE, wake

# One that failed is tried again when somebody asks for it so much later.
RETRY_AFTER = timedelta(minutes=1)

DiffPart = Literal["changed", "only_before", "only_after"]


@dataclass(frozen=True)
class Difference:
    """Something that is said of two versions and differs; None where a version has no such thing."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class PlacedRow:
    """A canonical row with its number in its version, counted from 1."""

    number: int
    row: dict[str, Any]


@dataclass(frozen=True)
class DiffItem:
    """A row before and what became of it, or a row that is on one side alone."""

    before: PlacedRow | None
    after: PlacedRow | None


@dataclass(frozen=True)
class DiffPage:
    """Rows that differ, from `offset` on. Of `total` the first `listed` can be read; at their end there is no
    `next_offset`."""

    items: list[DiffItem]
    offset: int
    total: int
    listed: int
    next_offset: int | None


def versions_to_compare(
    dataset: Dataset, before: int | None = None, after: int | None = None
) -> tuple[DatasetVersion, DatasetVersion]:
    """The versions of these numbers; by default the latest that is ready, and the one that was ready before it, or
    itself where it is the first. Raises NotFound for a version that is not there, Conflict for one without rows."""
    last = version_with_rows(dataset, after)
    if before is None:
        ready = dataset.versions.filter(status=VersionStatus.READY, number__lt=last.number).order_by("-number")
        before = ready.values_list("number", flat=True).first() or last.number
    return version_with_rows(dataset, before), last


def differences(before: DatasetVersion, after: DatasetVersion) -> list[Difference]:
    """What differs in how the versions were made, and in the figures of their rows."""
    old, new = _said(before), _said(after)
    names = dict.fromkeys([*old, *new])
    return [Difference(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def diff_of(before: DatasetVersion, after: DatasetVersion) -> VersionDiff:
    """The comparison of two ready versions. A worker is asked for it where nobody has, and again where it failed over
    a minute ago; where the rows are the same to the byte, there is nothing to work out."""
    if before.sha256 == after.sha256:
        same = RowsDiff(same=after.rows).model_dump(mode="json")
        return VersionDiff(before=before, after=after, status=WorkStatus.DONE, report=same)
    with transaction.atomic():
        found, is_begun = VersionDiff.objects.get_or_create(before=before, after=after)
        if found.status == WorkStatus.FAILED and found.asked_at < timezone.now() - RETRY_AFTER:
            again: dict[str, Any] = {
                "status": WorkStatus.WAITING,
                "error": None,
                "attempts": 0,
                "progress": {},
                "asked_at": Now(),
            }
            is_begun = bool(VersionDiff.objects.filter(pk=found.pk, status=WorkStatus.FAILED).update(**again))
            found.refresh_from_db()
        if is_begun:
            wake(DATASETS_COMPARE, found.pk)
    found.before, found.after = before, after
    return found


def rows_diff(diff: VersionDiff) -> RowsDiff | None:
    """What came out; None before it is done."""
    return RowsDiff.model_validate(diff.report) if diff.report else None


def diff_page(diff: VersionDiff, found: RowsDiff, part: DiffPart, *, offset: int, limit: int) -> DiffPage:
    """Rows of one kind of difference: at most `limit`, fewer where they are large."""
    kinds: dict[DiffPart, Sequence[tuple[int | None, int | None]]] = {
        "changed": found.changed_at,
        "only_before": [(place, None) for place in found.only_before_at],
        "only_after": [(None, place) for place in found.only_after_at],
    }
    places = kinds[part]
    items: list[DiffItem] = []
    size = 0
    for old, new in places[offset : offset + limit]:
        if size >= MAX_ROWS_BYTES:
            break
        item = DiffItem(_row(diff.before, old), _row(diff.after, new))
        size += len(str(item))
        items.append(item)
    end = offset + len(items)
    more = end if items and end < len(places) else None
    return DiffPage(items, offset, getattr(found, part), len(places), more)


# --- by workers -------------------------------------------------------------------------------------------------------
def diffs_wait() -> bool:
    """Whether there are versions for a worker to compare; a scheduler that sees some wakes one."""
    return VersionDiff.objects.claimable().exists()


def diff_claim() -> VersionDiff | None:
    """Take the oldest comparison that waits or has lost its worker."""
    lost = PolmError(
        "The process that compares the rows was lost twice.",
        code="diff.lost",
        advice="Most often the worker ran out of memory or was stopped. Look again in a minute.",
    )
    found = VersionDiff.objects.take(most=MAX_ATTEMPTS, lost=lost, progress={})
    return found and VersionDiff.objects.select_related("before", "after").get(pk=found.pk)


def diff_progress(*, diff: VersionDiff, progress: dict[str, Any]) -> bool:
    """Tell how far it is and renew the claim; False when its dataset was deleted or another worker has it."""
    return VersionDiff.objects.renew(diff, progress=progress)


def diff_finish(*, diff: VersionDiff, report: dict[str, Any]) -> bool:
    """Store what came out; False when its dataset was deleted or another worker has it."""
    return VersionDiff.objects.end(diff, report=report)


def diff_fail(*, diff: VersionDiff, error: PolmError) -> bool:
    """End it with the reason why nothing came out."""
    return VersionDiff.objects.fail(diff, error)


def diff_release(*, diff: VersionDiff) -> None:
    """Give a claim back unused, as a worker does that shuts down."""
    VersionDiff.objects.release(diff)


# --- helpers ----------------------------------------------------------------------------------------------------------
def _row(version: DatasetVersion, place: int | None) -> PlacedRow | None:
    if place is None:
        return None
    (row,) = read_rows(artifacts.local_folder(version.rows_key), place, 1)
    return PlacedRow(place + 1, row)


def _said(version: DatasetVersion) -> dict[str, str]:
    """What there is to say about a version, by the names that people know it by."""
    report = version.report
    mapping, stats = report.get("mapping") or {}, report.get("stats") or {}
    said = {
        "Format": SPECS[Format(version.format)].title,
        "File": version.filename,
        "Bytes of the file": f"{version.source_bytes:,}" if version.filename else "",
        **{f"Column for {role.replace('_', ' ')}": path for role, path in mapping.get("columns", {}).items()},
        **{name.replace("_", " ").capitalize(): value for name, value in mapping.get("options", {}).items()},
        **{f"Made by: {name.replace('_', ' ')}": value for name, value in version.derivation.items()},
        "Rows": f"{version.rows:,}",
        "Rows left out": f"{report.get('rows_total', version.rows) - version.rows:,}",
        "Duplicates": f"{stats.get('duplicates', 0):,}",
        "Characters, half of the rows up to": f"{stats.get('chars_p50', 0):,}",
        "Characters, 95 % up to": f"{stats.get('chars_p95', 0):,}",
    }
    return {name: _text(value) for name, value in said.items() if value not in ("", None, {}, [])}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(truncated(value, 100), ensure_ascii=False)
