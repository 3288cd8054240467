"""Reading runs: for pages, the API and the queue."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Avg, Count, F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.errors import Invalid
from webapp.registry.models import ModelStatus
from webapp.runs.models import ACTIVE, Project, Run, RunLog, RunSample, Status, Worker

ALIVE_WITHIN = datetime.timedelta(seconds=20)
# At least this many finished runs of a method before their duration is used as a forecast.
FORECAST_FROM = 1


def workers_alive() -> int:
    """How many workers have reported within the last seconds."""
    return Worker.objects.filter(heartbeat_at__gt=Now() - ALIVE_WITHIN).count()


def workers_list() -> QuerySet[Worker]:
    """Workers that are alive, and those that still hold runs, with the number of runs they supervise."""
    alive = Q(heartbeat_at__gt=Now() - ALIVE_WITHIN)
    return (
        Worker.objects.annotate(active=Count("runs", filter=Q(runs__status__in=ACTIVE)))
        .filter(alive | Q(active__gt=0))
        .order_by("host", "name")
    )


def worker_is_alive(worker: Worker) -> bool:
    return worker.heartbeat_at > timezone.now() - ALIVE_WITHIN


def run_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> Run:
    """The run with everything its page shows in one query. Raises NotFound or Forbidden."""
    return actor.get(runs_visible(actor), pk, role)


def runs_visible(actor: Actor) -> QuerySet[Run]:
    """The runs of the actor's teams, newest first, with what a row of a list shows."""
    return (
        Run.objects.filter(team__in=actor.team_ids())
        .select_related(
            "project",
            "model__checkpoint",
            "dataset_version__dataset",
            "eval_dataset_version__dataset",
            "worker",
            "created_by",
            "parent",
        )
        .order_by("-id")
    )


def runs_filter(
    runs: QuerySet[Run],
    *,
    status: str = "",
    method: str = "",
    tag: str = "",
    project: str = "",
    q: str = "",
) -> QuerySet[Run]:
    """Narrow a list of runs. `q` matches name, tags and id; several statuses or methods are joined by commas."""
    if status:
        wanted = status.split(",")
        if unknown := set(wanted) - set(Status.values):
            raise Invalid(
                f"There is no status {', '.join(sorted(unknown))}.",
                fields={"status": [f"must be one of {', '.join(Status.values)}"]},
            )
        runs = runs.filter(status__in=wanted)
    if method:
        runs = runs.filter(method__in=method.split(","))
    if tag:
        runs = runs.filter(tags__contains=[tag])
    if project:
        runs = runs.filter(project__name__iexact=project)
    for word in q.split()[:10]:
        runs = runs.filter(Q(name__icontains=word) | Q(tags__contains=[word]) | Q(method=word))
    return runs


def active_runs(actor: Actor) -> QuerySet[Run]:
    return runs_visible(actor).filter(status__in=ACTIVE)


def eta_seconds(run: Run) -> float | None:
    """Seconds until the run's last step at its present pace; None before there is one."""
    if run.status not in ACTIVE or not run.step or not run.total_steps or run.started_at is None:
        return None
    spent = (timezone.now() - run.started_at).total_seconds()
    return spent / run.step * max(0, run.total_steps - run.step)


def stalled_since(run: Run) -> datetime.datetime | None:
    """Since when the training process has given no sign of life; None while all is well."""
    since = run.progress.get("stalled_since") if run.status in ACTIVE else None
    return datetime.datetime.fromisoformat(since) if since else None


def seconds_spent(run: Run) -> float | None:
    """Seconds from the first start to the end, or to now."""
    if run.started_at is None:
        return None
    return ((run.finished_at or timezone.now()) - run.started_at).total_seconds()


@dataclass(frozen=True)
class Waiting:
    """Why a queued run waits, and when it may start."""

    run: Run
    ahead: int
    reason: str
    expected_seconds: float | None


def queue(actor: Actor, *, limit: int = 200) -> list[Waiting]:
    """The queued runs of the actor's teams in the order workers take them, each with why it waits."""
    everyone = list(
        Run.objects.filter(status=Status.QUEUED).order_by("-priority", "queued_at").values_list("pk", flat=True)[:5000]
    )
    place = {pk: index for index, pk in enumerate(everyone)}
    mine = runs_visible(actor).filter(status=Status.QUEUED).order_by("-priority", "queued_at")[:limit]
    slots, typical = _slots(), _typical_seconds()
    return [_waiting(run, place.get(run.pk, 0), slots, typical) for run in mine]


def waiting_of(run: Run) -> Waiting:
    """Why one queued run waits."""
    before = Q(priority__gt=run.priority) | Q(priority=run.priority, queued_at__lt=run.queued_at)
    ahead = Run.objects.filter(before, status=Status.QUEUED).count()
    return _waiting(run, ahead, _slots(), _typical_seconds())


def _slots() -> int:
    """How many runs the living workers can train at a time."""
    alive = Worker.objects.filter(heartbeat_at__gt=Now() - ALIVE_WITHIN, draining=False)
    return sum(alive.filter(queues__contains=["runs"]).values_list("slots", flat=True))


def _waiting(run: Run, ahead: int, slots: int, typical: float | None) -> Waiting:
    if not slots:
        return Waiting(run, ahead, "no worker for training is alive", None)
    if run.model.status == ModelStatus.PREPARING:
        return Waiting(run, ahead, f"the model {run.model.name} is being prepared", None)
    expected = typical * (ahead // slots + 1) if typical is not None else None
    reason = f"{ahead} ahead" if ahead else "next when a worker is free"
    return Waiting(run, ahead, reason, expected)


def _typical_seconds() -> float | None:
    recent = Run.objects.filter(status=Status.SUCCEEDED).order_by("-id")[:50]
    average = Run.objects.filter(pk__in=recent.values("pk")).aggregate(
        mean=Avg(F("finished_at") - F("started_at")), count=Count("pk")
    )
    if average["count"] < FORECAST_FROM or average["mean"] is None:
        return None
    return float(average["mean"].total_seconds())


def run_log(run: Run, *, start: int = 0, tail: int | None = None) -> tuple[str, int]:
    """The log from byte `start`, or its last `tail` lines; with the offset to go on from."""
    pieces = RunLog.objects.filter(run=run)
    if tail is not None:
        newest: list[str] = []
        lines = 0
        end = 0
        for piece in pieces.order_by("-offset")[:200]:
            end = max(end, piece.offset + len(piece.text.encode()))
            newest.append(piece.text)
            lines += piece.text.count("\n")
            if lines > tail:
                break
        text = "".join(reversed(newest))
        return "".join(text.splitlines(keepends=True)[-tail:]), end
    found = list(pieces.filter(offset__gte=start).order_by("offset")[:100])
    text = "".join(piece.text for piece in found)
    end = found[-1].offset + len(found[-1].text.encode()) if found else start
    return text, end


def run_samples(run: Run, *, step: int | None = None) -> QuerySet[RunSample]:
    """The samples of a run, newest step first."""
    samples = RunSample.objects.filter(run=run).order_by("-step", "id")
    return samples if step is None else samples.filter(step=step)


def sample_steps(run: Run) -> list[int]:
    """The steps that have samples, oldest first."""
    return list(RunSample.objects.filter(run=run).values_list("step", flat=True).distinct().order_by("step")[:1000])


def projects(actor: Actor) -> QuerySet[Project]:
    return Project.objects.filter(team=actor.current_team).order_by("name")


def tags_in_use(actor: Actor, *, limit: int = 100) -> Sequence[str]:
    """The tags of the current team's newest runs."""
    rows = Run.objects.filter(team=actor.current_team).exclude(tags=[]).order_by("-id").values_list("tags", flat=True)
    return sorted({tag for tags in rows[:500] for tag in tags})[:limit]
