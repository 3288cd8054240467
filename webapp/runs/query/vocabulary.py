"""What can be asked for in a team: offered while a query is typed, and as columns of the list."""

from collections.abc import Iterable
from dataclasses import dataclass

from webapp.accounts.access import Actor
from webapp.runs.config_files import flat_settings
from webapp.runs.models import Project, Run, Status, Verdict
from webapp.runs.query.meaning import series_of_runs
from webapp.runs.query.tree import NO_VERDICT

# What the newest runs have is offered; older names can still be typed.
RECENT = 100
RECENT_NAMES = 500
MOST = 500


@dataclass(frozen=True)
class Vocabulary:
    """The values of the fields that have few, the metrics, and the settings by their paths."""

    values: dict[str, list[str]]
    metrics: list[str]
    settings: list[str]


def vocabulary(actor: Actor) -> Vocabulary:
    """What the runs of the current team are told apart by."""
    team = actor.current_team
    newest = Run.objects.filter(team=team).order_by("-id")
    names = list(
        newest.values_list("method", "model__name", "dataset_version__dataset__name", "tags")[:RECENT_NAMES],
    )
    recent = list(newest.values_list("pk", "config")[:RECENT])
    keys = series_of_runs().filter(run__in=[pk for pk, _ in recent]).values_list("key", flat=True)
    values = {
        "status": list(Status.values),
        "verdict": [*Verdict.values, NO_VERDICT],
        "method": _few(method for method, *_ in names),
        "tag": _few(tag for *_, tags in names for tag in tags),
        "project": list(Project.objects.filter(team=team).order_by("name").values_list("name", flat=True)[:MOST]),
        "model": _few(model for _, model, *_ in names),
        "dataset": _few(dataset for _, _, dataset, _ in names if dataset),
        "by": list(team.members.order_by("username").values_list("username", flat=True)[:MOST]),
    }
    metrics = list(keys.order_by("key").distinct()[:MOST])
    return Vocabulary(values, metrics, _few(path for _, config in recent for path in flat_settings(config)))


def _few(found: Iterable[str]) -> list[str]:
    return sorted(set(found))[:MOST]
