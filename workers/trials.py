"""Trying rewards: a child process judges answers, verifiers and models alike."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from polm_core.errors import PolmError
from polm_core.trial import TrialJob
from webapp.runs.models import RunSample
from webapp.workbench.models import RewardTrial
from webapp.workbench.selectors import trials_wait
from webapp.workbench.services import trial_claim, trial_fail, trial_finish, trial_progress, trial_release
from workers.jobs import JobInterrupted, ask_child
from workers.judges import judge_env
from workers.supervisor import dataset_spec, model_spec
from workers.turns import take_turns

SECONDS = 3600.0
_DIED = PolmError(
    "The process that judges",
    code="trial.crashed",
    advice="See that the worker has enough memory, then try again.",
)

_trying = threading.Lock()


def try_rewards(_trial_id: str = "") -> None:
    """Carry out the trials that wait, until none does."""
    take_turns(_trying, trials_wait, trial_claim, _carry_out)


def _carry_out(trial: RewardTrial) -> None:
    folder: Path = settings.VAR_DIR / "trials" / f"{trial.pk}-{trial.attempts}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        answer = ask_child(
            "polm_core.trial",
            _job(trial, folder),
            folder,
            tell=lambda progress: trial_progress(trial=trial, progress=progress),
            seconds=SECONDS,
            died=_DIED,
            env=judge_env(trial.team_id, {"rewards": trial.rewards}),
        )
        trial_finish(trial=trial, report=answer["report"], rows=_rows(folder / "rows.jsonl"))
    except JobInterrupted:
        trial_release(trial=trial)  # does nothing for one that was stopped
    except PolmError as error:
        trial_fail(trial=trial, error=error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _job(trial: RewardTrial, folder: Path) -> TrialJob:
    source: dict[str, Any] = {}
    if trial.dataset_version is not None:
        source["dataset"] = dataset_spec(trial.dataset_version)
        source["every"] = max(1, trial.dataset_version.rows // trial.most)
    else:
        source["answers"] = folder / "answers.jsonl"
        _write_samples(trial, source["answers"])
    return TrialJob(
        rewards=trial.rewards,
        most=trial.most,
        reward_model=model_spec(trial.reward_model) if trial.reward_model else None,
        judge_model=model_spec(trial.judge_model) if trial.judge_model else None,
        **source,
    )


def _write_samples(trial: RewardTrial, path: Path) -> None:
    """The newest answers of the run."""
    newest = RunSample.objects.filter(run=trial.run_id).order_by("-step", "-id")[: trial.most]
    with path.open("w", encoding="utf-8") as file:
        for sample in newest:
            reference, task = sample.data.get("reference"), sample.data.get("task")
            answer = {
                "prompt": sample.data.get("turns") or sample.prompt,
                "completion": sample.completion,
                "reference": reference if isinstance(reference, str) else None,
                "task": task if isinstance(task, str) else None,
            }
            file.write(json.dumps(answer) + "\n")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The judged answers, as they stand in the table."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
