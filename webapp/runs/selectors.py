"""Reading runs: for pages, the API and the queue."""

import datetime
from collections.abc import Sequence
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import MD5, Now
from django.utils import timezone

from webapp.accounts.access import Actor
from webapp.accounts.models import Role
from webapp.errors import Invalid
from webapp.registry.models import BaseModel, Checkpoint
from webapp.runs.claims import ALIVE_WITHIN
from webapp.runs.models import ACTIVE, MergeModel, Project, Run, RunLog, RunSample, Status, Worker
from webapp.runs.query.meaning import runs_matching, word_wanted

# What a person chooses a step from.
MAX_STEPS = 1000

# Of a model's variants, so many are compared.
MAX_VARIANTS = 200


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


def workers_training() -> QuerySet[Worker]:
    """The workers for training that are alive."""
    return Worker.objects.filter(queues__contains=["runs"], heartbeat_at__gt=Now() - ALIVE_WITHIN)


def worker_labels() -> list[str]:
    """The labels that workers for training carry."""
    carried = workers_training().values_list("labels", flat=True)
    return sorted({label for labels in carried for label in labels})


def worker_is_alive(worker: Worker) -> bool:
    return worker.heartbeat_at > timezone.now() - ALIVE_WITHIN


def run_get(actor: Actor, pk: Any, role: Role = Role.VIEWER) -> Run:
    """The run with everything its page shows in one query. Raises NotFound or Forbidden."""
    return actor.get(runs_visible(actor), pk, role)


def runs_visible(actor: Actor) -> QuerySet[Run]:
    """The runs of the actor's teams, newest first, with what a row of a list shows."""
    return _runs(actor).select_related(
        "project",
        "model__checkpoint",
        "reward_model",
        "judge_model",
        "teacher_model",
        "reward_list",
        "dataset_version__dataset",
        "eval_dataset_version__dataset",
        "documents_version__dataset",
        "worker",
        "created_by",
        "parent",
    )


def runs_brief(actor: Actor) -> QuerySet[Run]:
    """As `runs_visible`, with no more of a run than the queue shows: Postgres needs less time to plan it."""
    return _runs(actor).select_related("model", "worker", "created_by")


def _runs(actor: Actor) -> QuerySet[Run]:
    return Run.objects.filter(team__in=actor.team_ids()).order_by("-id")


def runs_from(run: Run) -> QuerySet[Run]:
    """The runs that started from a checkpoint of this one, or merged it."""
    merged = MergeModel.objects.filter(run=OuterRef("pk"), model__checkpoint__run_checkpoint__run=run)
    return Run.objects.filter(Q(model__checkpoint__run_checkpoint__run=run) | Exists(merged))


def runs_filter(
    runs: QuerySet[Run],
    *,
    status: str = "",
    method: str = "",
    tag: str = "",
    project: str = "",
    q: str = "",
) -> QuerySet[Run]:
    """Narrow a list of runs. `q` is a query (`webapp.runs.query`); several statuses or methods are joined by commas."""
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
    return runs_matching(runs, q)


def runs_with_words(runs: QuerySet[Run], text: str) -> QuerySet[Run]:
    """The runs that every word of a text fits: names, tags or methods."""
    for word in text.split()[:10]:
        runs = runs.filter(word_wanted(word))
    return runs


def active_runs(actor: Actor) -> QuerySet[Run]:
    return runs_brief(actor).filter(status__in=ACTIVE)


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


def variants_of(actor: Actor, model: BaseModel) -> list[Checkpoint]:
    """The newest checkpoint of each of the newest runs from a model, with its run and rows, if its loss is known."""
    run = "run_checkpoint__run"
    return list(
        Checkpoint.objects.filter(team_id__in=actor.team_ids(), base_model=model, metrics__has_key="eval/loss")
        .exclude(run_checkpoint=None)
        .exclude(**{f"{run}__dataset_version": None})
        .select_related(f"{run}__dataset_version__dataset", f"{run}__eval_dataset_version__dataset")
        .defer(f"{run}__dataset_version__report", f"{run}__eval_dataset_version__report")
        .order_by("-run_checkpoint__run_id", "-step")
        .distinct("run_checkpoint__run_id")[:MAX_VARIANTS]
    )


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


def run_samples(run: Run, *, step: int | None = None, rollouts: bool = False) -> QuerySet[RunSample]:
    """The answers of a run to held-out prompts, newest step first, or its rollouts."""
    samples = RunSample.objects.filter(run=run, is_rollout=rollouts).order_by("-step", "id")
    return samples if step is None else samples.filter(step=step)


def rollouts_best_first(run: Run, by: str, *, step: int | None = None) -> QuerySet[RunSample]:
    """Rollouts of one step, or of the whole run, by `reward` or `advantage`; those without one come last."""
    rollouts = RunSample.objects.filter(run=run, is_rollout=True).order_by(F(by).desc(nulls_last=True), "id")
    return rollouts if step is None else rollouts.filter(step=step)


def samples_like(sample: RunSample) -> QuerySet[RunSample]:
    """The answers of the same run to the same prompt, of the same kind, oldest first."""
    samples = RunSample.objects.annotate(prompt_key=MD5("prompt"))
    alike = samples.filter(run=sample.run_id, is_rollout=sample.is_rollout, prompt_key=MD5(Value(sample.prompt)))
    return alike.order_by("step", "id")


def sample_steps(run: Run, *, rollouts: bool = False) -> list[int]:
    """The steps that have such answers, oldest first; of very many the newest, and the first of all."""
    found = RunSample.objects.filter(run=run, is_rollout=rollouts).values_list("step", flat=True).distinct()
    newest = list(found.order_by("-step")[:MAX_STEPS])[::-1]
    first = found.order_by("step").first() if len(newest) == MAX_STEPS else None
    return newest if first is None or first == newest[0] else [first, *newest]


def has_rollouts(run: Run) -> bool:
    return RunSample.objects.filter(run=run, is_rollout=True).exists()


def projects(actor: Actor) -> QuerySet[Project]:
    return Project.objects.filter(team=actor.current_team).order_by("name")


def tags_in_use(actor: Actor, *, limit: int = 100) -> Sequence[str]:
    """The tags of the current team's newest runs."""
    rows = Run.objects.filter(team=actor.current_team).exclude(tags=[]).order_by("-id").values_list("tags", flat=True)
    return sorted({tag for tags in rows[:500] for tag in tags})[:limit]
