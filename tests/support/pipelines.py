"""Pipelines whose runs end as a test says, through what workers call."""

from typing import Any

from polm_core import cookbook
from polm_core.run_dir import Outcome, Result
from tests.support import factories
from tests.support.checkpoints import make_base_model, make_checkpoint
from webapp.accounts.access import Actor
from webapp.recipes.models import Pipeline, PipelineStage
from webapp.recipes.selectors import pipeline_get
from webapp.recipes.services import pipeline_create
from webapp.registry.models import Checkpoint
from webapp.runs.leases import Claim, run_finish
from webapp.runs.models import Run, RunCheckpoint, Status

COMPARISONS = b"".join(
    b'{"prompt": "%d + 1 =", "chosen": "%d", "rejected": "who knows"}\n' % (n, n + 1) for n in range(8)
)
PROMPTS = b"".join(b'{"prompt": "%d + 1 ="}\n' % n for n in range(8))
THOUGHTS = b"".join(
    b'{"prompt": "%d + 1 =", "completion": "<think>One more.</think>%d"}\n' % (n, n + 1) for n in range(8)
)
PROBLEMS = b"".join(b'{"prompt": "%d + 1 =", "answer": "%d"}\n' % (n, n + 1) for n in range(8))
STEPS = b"".join(
    b'{"prompt": "%d + 1 =", "completions": ["One more.", "So %d."], "labels": [true, %s]}\n'
    % (n, n + 1 + n % 2, b"false" if n % 2 else b"true")
    for n in range(8)
)
ROWS = {
    "instructgpt": {"demonstrations": factories.CONVERSATIONS, "comparisons": COMPARISONS, "prompts": PROMPTS},
    "deepseek-r1": {"cold_start": THOUGHTS, "problems": PROBLEMS, "general": factories.CONVERSATIONS},
    "o1": {"steps": STEPS, "problems": PROBLEMS},
}


def make_slots(actor: Actor, mark: str = "", recipe: str = "instructgpt") -> dict[str, str]:
    """A dataset for each slot of the recipe, by slot."""
    return {
        slot: str(factories.make_version(actor, f"{mark}{slot}", rows).dataset_id)
        for slot, rows in ROWS[recipe].items()
    }


def make_pipeline(actor: Actor, mark: str = "", recipe: str = "instructgpt", **values: Any) -> Pipeline:
    """The recipe, just started, each model slot filled by a model of its name."""
    slots = [slot.name for slot in cookbook.get(recipe).models]
    models = {name: str(make_base_model(actor.current_team, f"{mark}{name}").pk) for name in slots}
    datasets = values.pop("datasets", None) or make_slots(actor, mark, recipe)
    return pipeline_create(actor=actor, recipe=recipe, **{"models": models, "datasets": datasets, **values})


def stages_of(actor: Actor, pipeline: Pipeline) -> dict[str, PipelineStage]:
    """The stages as they are now, by name."""
    return {stage.name: stage for stage in pipeline_get(actor, pipeline.pk).stages.all()}


def run_of(actor: Actor, pipeline: Pipeline, name: str) -> Run:
    run = stages_of(actor, pipeline)[name].run
    assert run is not None
    return run


def finish(run: Run, outcome: Outcome = Outcome.SUCCEEDED, *, checkpoint: bool = True, **error: Any) -> None:
    """End a run as its worker does; one that succeeds leaves a `checkpoint`."""
    Run.objects.filter(pk=run.pk, status=Status.QUEUED).update(status=Status.RUNNING)
    Run.objects.filter(pk=run.pk).update(lease_epoch=run.lease_epoch + 1)
    if outcome == Outcome.SUCCEEDED and checkpoint:
        leave_checkpoint(run)
    run_finish(Claim(run.pk, run.lease_epoch + 1), Result(outcome=outcome, error=error or None))


def leave_checkpoint(run: Run, step: int = 20) -> Checkpoint:
    checkpoint = make_checkpoint(run.team, f"{run.name} @ {step}", kind="model", step=step, base_model=run.model)
    Checkpoint.objects.filter(pk=checkpoint.pk).update(method=run.method)
    RunCheckpoint.objects.create(run=run, checkpoint=checkpoint, step=step)
    return checkpoint
