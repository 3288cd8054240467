"""How long a run will take: what the formula says, and how it fared with the team's finished runs."""

import uuid
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

from webapp.runs.models import Run, Status

# So many of the newest finished runs are looked at, and with fewer nothing is said.
_NEWEST, _FEWEST = 20, 3


class Expected(NamedTuple):
    """Seconds that a run is expected to take, and how many finished runs say so."""

    seconds: float
    runs: int


def seconds_of_report(team_id: uuid.UUID, method: str, report: Mapping[str, Any]) -> Expected | None:
    """What the report of a preflight says of time, as far off as it was with runs that have finished; None with few.

    They are the team's newest on the same kind of device: those of the method, or of all where these are too few. The
    median is taken of what each took in proportion to what it was estimated at.
    """
    if not report.get("seconds"):
        return None
    # One that was claimed again has waited in between, or has done some of its work twice.
    runs = Run.objects.filter(
        team=team_id,
        status=Status.SUCCEEDED,
        estimated_seconds__gt=0,
        estimated_on=report.get("device", ""),
        started_at__isnull=False,
        finished_at__isnull=False,
        lease_epoch__lte=1,
    ).order_by("-id")
    for alike in (runs.filter(method=method), runs):
        # The filter leaves out runs without one of these.
        found: Iterable[Any] = alike.values_list("estimated_seconds", "started_at", "finished_at")[:_NEWEST]
        ratios = [(end - start).total_seconds() / seconds for seconds, start, end in found]
        if len(ratios) >= _FEWEST:
            return Expected(round(report["seconds"] * median(ratios), 3), len(ratios))
    return None
