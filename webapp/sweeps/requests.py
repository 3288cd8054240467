"""What a sweep is made from, resolved and checked whole before anything of it is made."""

from collections.abc import Mapping
from typing import Any

from webapp.accounts.access import Actor
from webapp.accounts.models import Team
from webapp.datasets.models import DatasetVersion
from webapp.errors import Conflict, Invalid
from webapp.metrics.keys import is_usable
from webapp.runs.models import Best
from webapp.runs.requests import RunRequest, clean_labels, clean_priority, clean_tags, hardware_asked
from webapp.sweeps.models import Strategy
from webapp.sweeps.space import FIELD, MAX_GRID, Range, Space, space_checked, space_read

MAX_TRIALS = 500
MAX_PARALLEL = 100
# The versions of datasets that a run is made from, by the names that `run_create` has for them.
_ROWS = {
    "dataset": "dataset_version",
    "eval_dataset": "eval_dataset_version",
    "documents": "documents_version",
}


class SweepRequest:
    """A sweep with everything chosen for it.

    Raises what `RunRequest` does, or Invalid whose fields are `space.<setting>`, `metric`, `direction`, `strategy`,
    `max_trials` and `parallel`.
    """

    def __init__(
        self,
        actor: Actor,
        *,
        run: Mapping[str, Any],
        space: Mapping[str, Any],
        metric: str,
        direction: str,
        strategy: str,
        max_trials: int | None,
        parallel: int,
        placing: Mapping[str, Any],
    ) -> None:
        request = RunRequest(actor, **run)
        self.method = request.method
        self.team: Team = request.team
        self.run = {**request.as_dict(), "reward_list": _named(request)}
        self.metric, self.direction, self.strategy = metric.strip(), direction, strategy
        self._refuse(self._unusable(parallel))
        self.space = self._checked(space_read(dict(space)), request.config)
        self.max_trials = self._trials(max_trials)
        hardware = hardware_asked(request.config, placing["gpu_memory_gb"])
        self.placing = {
            "priority": clean_priority(placing["priority"]),
            "labels": clean_labels(placing["labels"]),
            "gpu_memory_gb": hardware["gpu_memory_gb"],
            "tags": clean_tags(placing["tags"]),
        }

    def _unusable(self, parallel: int) -> dict[str, str]:
        """What is wrong with single values, by field."""
        problems = {}
        if not is_usable(self.metric):
            problems["metric"] = "must name a metric that its runs log, such as eval/loss"
        if self.direction not in Best.values:
            problems["direction"] = f"must be one of {', '.join(Best.values)}, not {self.direction!r}"
        if self.strategy not in Strategy.values:
            problems["strategy"] = f"must be one of {', '.join(Strategy.values)}, not {self.strategy!r}"
        if not 1 <= parallel <= MAX_PARALLEL:
            problems["parallel"] = f"must be from 1 to {MAX_PARALLEL}"
        return problems

    def _checked(self, space: Space, config: Mapping[str, Any]) -> Space:
        is_grid = self.strategy == Strategy.GRID
        if is_grid:
            self._refuse(
                {
                    f"{FIELD}.{path}": "needs a step in a grid: give one, or a list of values"
                    for path, one in space.root.items()
                    if isinstance(one, Range) and one.step is None
                }
            )
            if (size := space.combinations or 0) > MAX_GRID:
                said = f"has {size:,} combinations, a grid at most {MAX_GRID}: vary less, or choose random or tpe"
                self._refuse({FIELD: said})
        return space_checked(space, self.method, config, whole=is_grid)

    def _trials(self, wanted: int | None) -> int:
        """How many there will be: as many as wanted, and of a grid or of lists no more than there are combinations."""
        size = self.space.combinations
        if wanted is None and self.strategy == Strategy.GRID:
            return size or 0
        if wanted is None or not 1 <= wanted <= MAX_TRIALS:
            self._refuse({"max_trials": f"must be from 1 to {MAX_TRIALS}"})
        if size is not None and (wanted or 0) > size:
            if self.strategy == Strategy.GRID:
                return size
            self._refuse({"max_trials": f"must be at most {size}: there are no more combinations, which a grid tries"})
        return wanted or 0

    def _refuse(self, problems: Mapping[str, str]) -> None:
        if problems:
            named = "; ".join(f"{field} {said}" for field, said in problems.items())
            raise Invalid(
                f"The sweep cannot be started: {named}.", fields={key: [said] for key, said in problems.items()}
            )


def run_values(request: Mapping[str, Any]) -> dict[str, Any]:
    """What `run_create` takes for a run of the sweep. Raises Conflict when its rows were deleted."""
    ids = {name: request[stored] for name, stored in _ROWS.items() if request[stored]}
    found = {str(version.pk): version for version in DatasetVersion.objects.filter(pk__in=ids.values())}
    if missing := [name for name, pk in ids.items() if pk not in found]:
        raise Conflict(
            "A dataset of the sweep was deleted.", advice="Start another one.", fields={missing[0]: ["is gone"]}
        )
    rest = {name: value for name, value in request.items() if name not in _ROWS.values()}
    return rest | {name: found[pk] for name, pk in ids.items()}


def _named(request: RunRequest) -> str | None:
    return str(request.reward_list.pk) if request.reward_list else None
