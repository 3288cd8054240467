"""The proof of a merge: two models, each fine-tuned on a task of its own, and the one that they become.

What counts is the mean held-out loss of both tasks: that of the better parent before, that of the merged model after.
"""

from pathlib import Path
from statistics import fmean

from polm_core.context import DatasetSpec, ModelSpec, RunSpec
from polm_core.formats import Format
from tests.proof.rows import HELD_OUT, ProofRow

TASKS = (Format.CONVERSATION, Format.PROMPT_ANSWER)
_SETTINGS = {
    "batch_size": 4,
    "max_length": 256,
    "eval_rows": 30,
    "eval_steps": 0,
    "save_steps": 0,
    "generation": {"samples": 0},
}


def tuned(start: ModelSpec, task: DatasetSpec, steps: int, seed: int) -> RunSpec:
    """Supervised fine-tuning of a parent on its task; of a single step, it measures what it starts from."""
    return RunSpec(
        method="sft",
        model=start,
        dataset=task,
        held_out=HELD_OUT,
        config={**_SETTINGS, "max_steps": steps, "seed": seed},
    )


def joined(row: ProofRow, parents: list[ModelSpec], seed: int) -> RunSpec:
    return RunSpec(method=row.slug, model=parents[0], merge_models=parents[1:], config={**row.config, "seed": seed})


def model_of(folder: Path | None, name: str) -> ModelSpec:
    """The last checkpoint of a run as a model."""
    assert folder is not None
    return ModelSpec(path=folder, name=name)


def before_and_after(losses: list[list[float]]) -> tuple[float, float]:
    """The better parent's mean over the tasks, and the merged model's, which is the last."""
    *parents, merged = (fmean(one) for one in losses)
    return min(parents), merged
