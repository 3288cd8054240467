"""Answers that a model learned from: one step of them, by prompt, with their rewards."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from webapp.runs import selectors
from webapp.runs.models import Run, RunSample

# Of a step that logged more, the first are shown.
SHOWN = 200
SORTS = ("reward", "advantage")


@dataclass(frozen=True)
class Rollout:
    """An answer as it is shown."""

    sample: RunSample

    @property
    def text(self) -> str:
        return self.sample.completion.strip()

    @property
    def reward(self) -> float | None:
        return _number(self.sample.data.get("reward"))

    @property
    def note(self) -> str:
        """What is to be known of the answer, such as the critique that it was written after."""
        return str(self.sample.data.get("note") or "")

    @property
    def advantage(self) -> float | None:
        return _number(self.sample.data.get("advantage"))

    @property
    def parts(self) -> list[tuple[str, float | None]]:
        """Each reward before its weight; None for one that did not judge the answer."""
        parts = self.sample.data.get("rewards")
        return [(name, _number(value)) for name, value in parts.items()] if isinstance(parts, dict) else []


@dataclass(frozen=True)
class Group:
    """The answers to one prompt of a step."""

    prompt: str
    reference: str
    answers: list[Rollout]


def at_step(run: Run, asked: str, sort: str) -> dict[str, object]:
    """One step's answers, by default the newest step's: those with the highest reward or advantage first."""
    steps = selectors.sample_steps(run, rollouts=True)
    newest = steps[-1] if steps else None
    step = int(asked) if asked.isdigit() and int(asked) in steps else newest
    sort = sort if sort in SORTS else SORTS[0]
    shown = selectors.run_samples(run, step=step, rollouts=True)[:SHOWN] if step is not None else []
    return {
        "run": run,
        "steps": steps,
        "step": step,
        "follows": step == newest,
        "sorts": SORTS,
        "sort": sort,
        "groups": _groups([Rollout(sample) for sample in _last(shown)], sort),
    }


def _last(samples: Iterable[RunSample]) -> Iterable[RunSample]:
    """Of answers with one place the newest: a run that went on from a checkpoint before this step wrote them twice."""
    return {(one.data.get("group"), one.data.get("place", one.pk)): one for one in samples}.values()


def _groups(answers: list[Rollout], sort: str) -> list[Group]:
    ordered = sorted(answers, key=lambda answer: _rank(getattr(answer, sort)), reverse=True)
    groups: dict[tuple[str, str], list[Rollout]] = {}
    for answer in ordered:
        groups.setdefault((str(answer.sample.data.get("group")), answer.sample.prompt), []).append(answer)
    return [
        Group(prompt, str(found[0].sample.data.get("reference", "")), found) for (_, prompt), found in groups.items()
    ]


def _rank(value: float | None) -> float:
    """What was not judged stands at the end."""
    return float("-inf") if value is None else value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
