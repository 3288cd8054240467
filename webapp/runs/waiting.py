"""Why each queued run waits, and when it may start."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db.models import F
from django.utils import timezone

from webapp.accounts.access import Actor
from webapp.runs.models import ACTIVE, QueuePause, Run, Status, Worker
from webapp.runs.order import Group, Needs, queue_part
from webapp.runs.selectors import eta_seconds, runs_brief, workers_training
from webapp.ui.templatetags.studio import duration

# How many of a team's newest runs that succeeded a forecast is made from.
FORECAST_FROM = 200

# A worker's GPUs or its CPU slots: what runs compete for.
Pool = tuple[uuid.UUID, str]


@dataclass(frozen=True)
class Waiting:
    """Why a queued run waits, what would help where waiting alone does not, and when it may start."""

    run: Run
    ahead: int
    reason: str
    advice: str
    expected_seconds: float | None


@dataclass(frozen=True)
class Queue:
    """A part of what waits in the actor's teams; `total` is the whole of it."""

    pause: QueuePause | None
    total: int
    waiting: list[Waiting]


def queue_pause_now() -> QueuePause | None:
    """Who has paused the queue, and when; None when nobody has."""
    return QueuePause.objects.select_related("by").first()


def queue(actor: Actor, *, limit: int = 100, offset: int = 0) -> Queue:
    """The queued runs of the actor's teams in the order workers take them, each with why it waits."""
    teams = actor.team_ids()
    groups, total = queue_part(teams=teams, offset=offset, limit=limit)
    hall = _Hall(teams)
    runs = runs_brief(actor).filter(pk__in=[group.run_id for group in groups if group.run_id])
    return Queue(hall.pause, total, hall.reasons(groups, runs))


def waiting_of(run: Run) -> Waiting | None:
    """Why one queued run waits; None when it was taken meanwhile."""
    groups, _ = queue_part(run=run.pk)
    return next(iter(_Hall([run.team_id]).reasons(groups, [run])), None)


def seconds_expected(team: uuid.UUID, method: str, steps: int | None) -> float | None:
    """What a run of so many steps takes, told by the team's own runs; None while there is nothing to tell from."""
    return _Pace([team]).seconds(method, steps)


class _Pace:
    """How long runs take, from those of the given teams that succeeded: by method, else all of them together."""

    def __init__(self, teams: Collection[uuid.UUID]) -> None:
        recent = Run.objects.filter(team__in=teams, status=Status.SUCCEEDED, started_at__isnull=False)
        rows = recent.order_by("-id").values_list("method", F("finished_at") - F("started_at"), "step")
        self._seconds: dict[str, float] = defaultdict(float)
        self._steps: Counter[str] = Counter()
        self._runs: Counter[str] = Counter()
        self._known: dict[tuple[str, int | None], float | None] = {}
        for method, spent, step in rows[:FORECAST_FROM]:
            for key in (method, ""):
                self._seconds[key] += spent.total_seconds()
                self._steps[key] += step
                self._runs[key] += 1

    def seconds(self, method: str, steps: int | None) -> float | None:
        """What a run of so many steps takes; None when there is nothing to tell from."""
        asked = (method, steps)
        if asked not in self._known:
            self._known[asked] = self._forecast(method, steps)
        return self._known[asked]

    def _forecast(self, method: str, steps: int | None) -> float | None:
        key = method if self._runs[method] else ""
        if not self._runs[key]:
            return None
        if steps and self._steps[key]:
            return self._seconds[key] / self._steps[key] * steps
        return self._seconds[key] / self._runs[key]


class _Hall:
    """The workers and what they are at, read once."""

    def __init__(self, teams: Collection[uuid.UUID]) -> None:
        self.pause = queue_pause_now()
        self.workers = list(workers_training().order_by("name"))
        self.pace = _Pace(teams)
        self.active = list(Run.objects.filter(status__in=ACTIVE, worker__in=self.workers).select_related(None))
        self.taking = [worker for worker in self.workers if not worker.draining]
        self._pools: dict[Needs, frozenset[Pool]] = {}
        self._rooms: dict[Needs, tuple[int, list[float | None]]] = {}

    def reasons(self, groups: Iterable[Group], runs: Iterable[Run]) -> list[Waiting]:
        """Why each of `runs` waits, in the order of the queue."""
        wanted = {run.pk: run for run in runs}
        found: list[Waiting] = []
        ahead: Counter[Needs] = Counter()
        seconds: dict[Needs, float | None] = defaultdict(float)
        for group in groups:
            if group.run_id in wanted:
                pools = self._pools_of(group.needs)
                rivals = [needs for needs in ahead if not pools or self._pools_of(needs) & pools]
                times = [seconds[needs] for needs in rivals]
                total = None if None in times else sum(time for time in times if time is not None)
                found.append(self._reason(wanted[group.run_id], group, sum(ahead[needs] for needs in rivals), total))
            if not group.preparing:
                ahead[group.needs] += group.size
                before, own = seconds[group.needs], self.pace.seconds(group.method, group.steps)
                seconds[group.needs] = None if before is None or own is None else before + own * group.size
        return found

    def _reason(self, run: Run, group: Group, ahead: int, seconds: float | None) -> Waiting:
        if self.pause is not None:
            by = f" by {self.pause.by}" if self.pause.by else ""
            return Waiting(run, ahead, f"the queue is paused{by}", "An admin can let it go on.", None)
        if not self.workers:
            return Waiting(
                run,
                ahead,
                "no worker for training is alive",
                "Start one: `make run` on one machine, else manage.py studio --worker-only.",
                None,
            )
        needs = group.needs
        if refusal := self._refusal(needs):
            return Waiting(run, ahead, *refusal, None)
        if group.preparing:
            return Waiting(run, ahead, f"the model {run.model.name} is being prepared", "", None)
        pools = self._pools_of(needs)
        if not pools:
            names = ", ".join(worker.name for worker in self.workers if _kind(worker, needs))
            return Waiting(
                run, ahead, f"every worker it fits on is draining: {names}", "Have one take runs again.", None
            )
        return self._turn(run, needs, ahead, seconds, pools)

    def _turn(self, run: Run, needs: Needs, ahead: int, seconds: float | None, pools: frozenset[Pool]) -> Waiting:
        """A run that waits for nothing but its turn."""
        expected = self._expected(needs, ahead, seconds)
        parts = [
            f"waits for {_wish(needs, {kind for _, kind in pools})}",
            f"{ahead} ahead" if ahead else "next",
            *([f"expected in {duration(expected)}"] if expected else []),
        ]
        if expected == 0:
            parts[1:] = ["starts in a moment"]
        return Waiting(run, ahead, "; ".join(parts), "", expected)

    def _expected(self, needs: Needs, ahead: int, seconds: float | None) -> float | None:
        """Seconds until a place is free for such a run: the work before it, spread over the places there are."""
        if needs not in self._rooms:
            pools = self._pools_of(needs)
            places = sum(_places(worker, kind, needs) for worker, kind in self._kinds(needs))
            self._rooms[needs] = places, [self._left(run) for run in self.active if _pool_of(run) in pools]
        places, left = self._rooms[needs]
        if not ahead and len(left) < places:
            return 0.0
        known = [time for time in left if time is not None]
        if len(known) < len(left) or seconds is None:
            return None
        if not ahead:
            return min(known, default=None)
        return (sum(known) + seconds) / max(1, places)

    def _left(self, run: Run) -> float | None:
        """Seconds that a run at work still needs: at its own pace, else at that of others."""
        eta = eta_seconds(run)
        if eta is not None:
            return eta
        whole = self.pace.seconds(run.method, run.total_steps or run.config.get("max_steps"))
        if whole is None or run.started_at is None:
            return whole
        return max(0.0, whole - (timezone.now() - run.started_at).total_seconds())

    def _pools_of(self, needs: Needs) -> frozenset[Pool]:
        """Where such a run could be taken now or later, without what is draining."""
        if needs not in self._pools:
            self._pools[needs] = frozenset((worker.pk, kind) for worker, kind in self._kinds(needs))
        return self._pools[needs]

    def _kinds(self, needs: Needs) -> list[tuple[Worker, str]]:
        return [(worker, kind) for worker in self.taking if (kind := _kind(worker, needs))]

    def _refusal(self, needs: Needs) -> tuple[str, str] | None:
        """Why no worker that is alive could ever take such a run, and what would help."""
        if any(_kind(worker, needs) for worker in self.workers):
            return None
        labels = sorted(needs.labels)
        carried = set().union(*(worker.labels for worker in self.workers))
        if missing := [label for label in labels if label not in carried]:
            return (
                f"no worker carries the label{'s' * (len(missing) > 1)} {', '.join(missing)}",
                f"Start a worker with POLM_LABELS={','.join(labels)}, or launch the run without "
                f"{'them' if len(missing) > 1 else 'it'}.",
            )
        fitting = [worker for worker in self.workers if needs.labels <= set(worker.labels)]
        if not fitting:
            return f"no worker carries all the labels {', '.join(labels)}", "Start one that does, or ask for fewer."
        those = f"worker labelled {', '.join(labels)}" if labels else "worker"
        if not needs.gpus:
            return f"asks for the CPU; no {those} has a slot for it", "Start one with POLM_SLOTS=1, or ask for a GPU."
        most = max(len(worker.gpus) for worker in fitting)
        if most < needs.gpus:
            fewer = f"devices: {most}" if most else "devices: 0, the CPU"
            return (
                f"asks for {_gpus(needs.gpus)}; the largest {those} has {most or 'none'}",
                f"Start a worker with {_gpus(needs.gpus)}, or launch the run with {fewer}.",
            )
        memory = max(
            sorted(worker.gpus.values(), reverse=True)[needs.gpus - 1 : needs.gpus] or [0] for worker in fitting
        )
        return (
            f"asks for {_wish(needs, {'gpu'})}; the largest {those} has {_gpus(needs.gpus)} with {memory[0]} GB",
            f"Start a larger worker, or launch the run with at most {memory[0]} GB of GPU memory.",
        )


def _kind(worker: Worker, needs: Needs) -> str:
    """Whether such a run would take this worker's `gpu` or its `cpu`; empty for neither."""
    if not needs.labels <= set(worker.labels):
        return ""
    if needs.gpus and sum(gb >= needs.gpu_memory_gb for gb in worker.gpus.values()) >= needs.gpus:
        return "gpu"
    return "cpu" if needs.cpu_will_do and worker.slots else ""


def _places(worker: Worker, kind: str, needs: Needs) -> int:
    """How many such runs a worker's pool holds."""
    if kind == "cpu":
        return worker.slots
    return sum(gb >= needs.gpu_memory_gb for gb in worker.gpus.values()) // needs.gpus


def _pool_of(run: Run) -> Pool | None:
    return (run.worker_id, "gpu" if run.devices else "cpu") if run.worker_id else None


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _wish(needs: Needs, kinds: set[str]) -> str:
    """What a run waits for, in words."""
    gpus = _gpus(needs.gpus) + (f" with {needs.gpu_memory_gb} GB" if needs.gpu_memory_gb else "")
    wish = gpus if kinds == {"gpu"} else "a CPU slot" if kinds == {"cpu"} else f"{gpus} or a CPU slot"
    return f"{wish} on {', '.join(sorted(needs.labels))}" if needs.labels else wish
